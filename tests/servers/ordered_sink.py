"""An HTTP server in a thread of its own that notes which numbered messages arrive, in which order."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web


class OrderedSink:
    """`lanes` has what was taken for each target, in order; `received` how often each message was.

    It takes `seconds` for each, and refuses with status 500 those for which `fails` says so; `refused` counts them.
    """

    def __init__(self, *, seconds: float = 0.0, fails: Callable[[], bool] = lambda: False) -> None:
        self.lanes: dict[str, list[str]] = defaultdict(list)
        self.received: Counter[str] = Counter()
        self.port = 0
        self.refused = 0
        self._fails = fails
        self._seconds = seconds
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        runner = web.ServerRunner(web.Server(self._handle), handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = json.loads(await request.content.read())
        text = body["content"]["text"]
        if self._seconds:
            await asyncio.sleep(self._seconds)
        if self._fails():
            self.refused += 1
            return web.Response(status=500)
        self.received[text] += 1
        self.lanes[body["target"]["id"]].append(text)
        return web.Response(status=204)
