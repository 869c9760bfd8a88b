"""What Litestar and granian do when nothing else is to be done: the reference of `accept.py` and `both.py`.

`python -m bench.bare_litestar PORT [URL]` answers `POST /send`; with a URL it also posts each body there
afterwards, out of memory, with as many requests under way as a gateway has.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import msgspec
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, post

from msgcore.core.content import SendRequest, Target

RELAYS = 128


class Answer(msgspec.Struct, rename="camel"):
    """The same fields as the gateway's answer, as far as they vary."""

    success: bool
    job_id: str
    status: str
    targets: list[Target]


async def relay(queue: asyncio.Queue[bytes], url: str) -> None:
    """Post what is in the queue, for ever."""

    async def work(session: aiohttp.ClientSession) -> None:
        while True:
            async with session.post(url, data=await queue.get()) as answer:
                await answer.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=RELAYS)) as session:
        await asyncio.gather(*(work(session) for _ in range(RELAYS)))


async def main(port: int, url: str | None) -> None:
    """Serve until killed."""
    queue: asyncio.Queue[bytes] | None = None if url is None else asyncio.Queue()

    @post("/send", status_code=201)
    async def send(data: SendRequest) -> Answer:
        if queue is not None:
            queue.put_nowait(msgspec.json.encode(data))
        return Answer(success=True, job_id="0" * 36, status="queued", targets=data.targets)

    app = Litestar([send], openapi_config=None)
    async with asyncio.TaskGroup() as group:
        if queue is not None and url is not None:
            group.create_task(relay(queue, url))
        await Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False).serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
