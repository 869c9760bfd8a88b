"""What Litestar and granian do when nothing else is to be done: the reference of `accept.py`."""

from __future__ import annotations

import sys

import msgspec
import uvloop
from granian.server.embed import Server
from litestar import Litestar, post

from msgcore.core.content import SendRequest, Target


class Answer(msgspec.Struct, rename="camel"):
    """The same fields as the gateway's answer, as far as they vary."""

    success: bool
    job_id: str
    status: str
    targets: list[Target]


@post("/send", status_code=201)
async def send(data: SendRequest) -> Answer:
    """Decode and answer."""
    return Answer(success=True, job_id="0" * 36, status="queued", targets=data.targets)


async def main(port: int) -> None:
    """Serve until killed."""
    app = Litestar([send], openapi_config=None)
    await Server(app, address="127.0.0.1", port=port, interface="asgi", log_enabled=False).serve()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
