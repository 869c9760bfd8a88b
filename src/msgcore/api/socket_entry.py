"""How a WebSocket gets in: the credentials of browsers, and refusals.

Browsers let a script set no header of a WebSocket, and a URL ends up in logs. So the credentials may come as
a subprotocol, beside `msgcore`, which is the one that is agreed on: `["msgcore", "msgcore.key.msc_..."]`, or
`["msgcore", "msgcore.token.<accessToken>"]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec
from litestar.types import Receive, Scope, Send

from msgcore.api.errors import problem_body
from msgcore.api.request_id import request_id
from msgcore.core.errors import ProblemError

PROTOCOL: Final = "msgcore"
_KEY: Final = "msgcore.key."
_BEARER: Final = "msgcore.token."

LONGEST_REASON: Final = 123
"""Bytes (RFC 6455, sections 5.5 and 5.5.1)."""


def offered_credentials(subprotocols: Iterable[str]) -> tuple[str | None, str]:
    """What the headers `X-API-Key` and `Authorization` would say, out of the subprotocols that a client offers."""
    api_key: str | None = None
    authorization = ""
    for offered in subprotocols:
        if offered.startswith(_KEY):
            api_key = offered.removeprefix(_KEY)
        elif offered.startswith(_BEARER):
            authorization = f"Bearer {offered.removeprefix(_BEARER)}"
    return api_key, authorization


def agreed_protocol(subprotocols: Iterable[str]) -> str | None:
    """The subprotocol to accept with: never one with a credential in it."""
    return PROTOCOL if PROTOCOL in subprotocols else None


async def refuse_socket(scope: Scope, receive: Receive, send: Send, problem: ProblemError) -> None:
    """Tell the client why it does not get in, without a handler.

    The answer is that of a request, unless the client offers the subprotocol: browsers show no answer to a
    script, so it is let in and told with the code of the close, 4000 and the status.
    """
    await receive()  # websocket.connect
    send_any = cast("Any", send)
    if PROTOCOL in cast("Any", scope)["subprotocols"]:
        await send_any({"type": "websocket.accept", "subprotocol": PROTOCOL, "headers": []})
        await send_any(close_message(4000 + problem.status, problem.message))
        return
    body = msgspec.json.encode(problem_body(problem, request_id(scope)))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if problem.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(problem.retry_after)))
    await send_any({"type": "websocket.http.response.start", "status": problem.status, "headers": headers})
    await send_any({"type": "websocket.http.response.body", "body": body, "more_body": False})


def close_message(code: int, reason: str) -> dict[str, Any]:
    """The ASGI message that closes a WebSocket; a long reason is cut."""
    cut = reason.encode()[:LONGEST_REASON].decode(errors="ignore")
    return {"type": "websocket.close", "code": code, "reason": cut}
