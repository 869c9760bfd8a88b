"""Four platforms in one process, each with its published limits: the other end of `limits.py`.

`python -m bench.limit_server PORT` serves each below its name (`/telegram/bot.../sendMessage`);
`GET /report?60` tells what each saw in the first 60 seconds after its first request.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from bench.http_server import Request, answer, port_argument, serve
from bench.limit_rules import PLATFORMS


class LimitServer:
    """Routes by the first part of the path."""

    def __init__(self) -> None:
        self._platforms = {name: make() for name, make in PLATFORMS.items()}

    def handle(self, request: Request) -> bytes:
        """Any request."""
        now = time.monotonic()
        name, _, rest = request.path[1:].partition("/")
        if name.startswith("report"):
            seconds = float(name.partition("?")[2] or 60)
            report = {name: rules.record.report(seconds) for name, rules in self._platforms.items()}
            return answer(200, json.dumps(report).encode())
        if name not in self._platforms:
            return answer(404, b"{}")
        return self._platforms[name].answer(request._replace(path="/" + rest), now)


if __name__ == "__main__":
    with suppress(PermissionError):
        os.nice(-10)  # a platform far away does not wait for the processor that its client uses
    serve(LimitServer().handle, port_argument())
