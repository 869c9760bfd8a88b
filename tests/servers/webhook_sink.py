"""A receiver of events, in a thread of its own: verifies each with the public library, and answers as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from standardwebhooks import Webhook

from servers.gateway import free_port
from servers.patience import PATIENCE


@dataclass(frozen=True)
class Posted:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    def verify(self, secret: str | bytes) -> Any:
        """Its body, if it is signed with this secret in both ways. Raises WebhookVerificationError."""
        found = self.verify_standard(secret)
        if isinstance(secret, str):
            self.verify_compatible(secret)
        return found

    def verify_standard(self, secret: str | bytes) -> Any:
        """Its body, if it is signed with this secret by Standard Webhooks. Raises WebhookVerificationError."""
        return Webhook(secret).verify(self.text, self.headers)

    def verify_compatible(self, secret: str) -> None:
        """As receivers of the original do."""
        signed = f"{self.headers['X-MsgCore-Timestamp']}.{self.text}".encode()
        expected = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        assert self.headers["X-MsgCore-Signature"] == expected


class WebhookSink:
    """`refused` are the requests that got an error, `taken` the others, in the order of their answers.

    `answer` gives the status for a request; 200 unless it is set. It can be stopped and started on the same port.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.taken: list[Posted] = []
        self.refused: list[Posted] = []
        self.answer: Callable[[Posted], int] = lambda _: 200
        self.answer_body = "ok"
        self.answer_headers: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def url(self, path: str = "/") -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        """Serve."""
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(self._loop, ready), daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE)

    def stop(self) -> None:
        """Refuse connections."""
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)

    def wait(self, number: int, path: str = "/") -> Sequence[Posted]:
        """What was taken at a path, once it is so many."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.at(path)) < number:
            assert time.monotonic() < deadline, f"{len(found)} of {number} came"
            time.sleep(0.02)
        return found

    def at(self, path: str = "/") -> list[Posted]:
        """What was taken at a path so far."""
        return [posted for posted in self.taken if posted.path == path]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _serve(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)

        async def begin() -> web.ServerRunner:
            runner = web.ServerRunner(web.Server(self._handle), handle_signals=False, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
            return runner

        runner = loop.run_until_complete(begin())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        posted = Posted(request.path, dict(request.headers), (await request.content.read()).decode())
        status = self.answer(posted)
        (self.taken if status < 300 else self.refused).append(posted)
        return web.Response(status=status, text=self.answer_body, headers=self.answer_headers)
