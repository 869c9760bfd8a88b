"""A web server that takes everything: the other end of delivery benchmarks.

`python -m bench.sink PORT` answers 200 to every request. `GET /count` tells how many requests came, and
when the first and the last of them did (seconds, monotonic clock of the machine); `GET /reset`
forgets them. `peer.py` puts a mark of its run into each text: `GET /marks?RUN` tells how many different marks
of a run came, how many times one came again, and when the first and the last came for the first time.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from bench.http_server import Request, answer, port_argument, serve

MARK = re.compile(rb"mark([0-9a-f]{8})n([0-9]+)e")

TAKEN = answer(
    200,
    # What clients of the webhook, Discord and Telegram APIs look for in an answer to a message.
    b'{"ok":true,"id":"1","channel_id":"1","result":{"message_id":1,"date":0,"chat":{"id":1,"type":"private"},'
    b'"id":1,"is_bot":true,"first_name":"sink","username":"sink"}}',
)


@dataclass
class Run:
    """The marks of one run: which came, how many times one came again, and when."""

    marks: set[bytes] = field(default_factory=set[bytes])
    again: int = 0
    first: float = 0.0
    last: float = 0.0

    def note(self, mark: bytes, now: float) -> None:
        """One came."""
        if mark in self.marks:
            self.again += 1
            return
        self.marks.add(mark)
        self.first = self.first or now
        self.last = now


class Sink:
    """Counts what comes."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what came."""
        self._count = 0
        self._first = 0.0
        self._last = 0.0
        self._runs: dict[bytes, Run] = {}

    def handle(self, request: Request) -> bytes | None:
        """Any request."""
        path, _, query = request.path.partition("?")
        match path:
            case "/count":
                return answer(200, f"{self._count} {self._first:f} {self._last:f}".encode())
            case "/marks":
                run = self._runs.get(query.encode(), Run())
                return answer(200, f"{len(run.marks)} {run.again} {run.first:f} {run.last:f}".encode())
            case "/reset":
                self.reset()
                return TAKEN
            case _ if path.lower().endswith("/getupdates"):
                return None  # a long poll for messages that never come
            case _:
                self._note(request.body)
                return TAKEN

    def _note(self, body: bytes) -> None:
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._count += 1
        found = MARK.search(body)
        if found is not None:
            self._runs.setdefault(found[1], Run()).note(found[2], self._last)


if __name__ == "__main__":
    serve(Sink().handle, port_argument())
