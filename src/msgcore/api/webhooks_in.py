"""Where platforms post what happens on them. They sign their requests; there is no other login."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from litestar import Controller, MediaType, Response, get, route
from litestar.enums import HttpMethod
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.params import FromPath

from msgcore.api.access import PUBLIC, AnyRequest, Injected
from msgcore.api.body import refuse_coded
from msgcore.api.documented import answered, problems
from msgcore.core.envelope import schema
from msgcore.core.errors import MethodError, ProblemError, TooLargeError
from msgcore.inbound.receiver import Receiver
from msgcore.platforms.receiving import InboundRequest

METHODS = [HttpMethod.POST, HttpMethod.GET, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE]


@get("/api/v1/schemas/envelope", opt=PUBLIC, summary="JSON Schema of envelopes", tags=("Webhooks of platforms",))
async def envelope_schema() -> dict[str, Any]:
    """The shape that everything becomes which happens on a platform, and that custom webhooks post."""
    return schema()


class InboundWebhooksController(Controller):
    """Webhooks of platforms."""

    path = "/api/v1/webhooks"
    tags = ("Webhooks of platforms",)

    @route(
        "/{platform:str}/{webhook_token:str}",
        http_method=METHODS,
        opt=PUBLIC,
        summary="Receive from a platform",
        status_code=200,
        media_type=MediaType.JSON,
        responses=answered(Any, "*/*")
        | problems(
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.METHOD_NOT_ALLOWED,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    )
    async def receive(
        self, request: AnyRequest, platform: FromPath[str], webhook_token: FromPath[str], receiver: Injected[Receiver]
    ) -> Response[bytes]:
        """Answered once the request is verified and safe; it is read afterwards. `GET platforms` tells each address."""
        methods = receiver.methods(platform)
        if request.method not in methods:
            told = f"{platform} does not use {request.method} here, only {', '.join(methods)}"
            raise MethodError(told, allowed=methods)
        await receiver.require_known(platform, webhook_token)  # nothing is read for who knows no address
        with receiver.room.holding(webhook_token) as take:
            try:
                body = await _body_of(request, take)
            except ProblemError as problem:
                raise await receiver.refuse(platform, webhook_token, problem) from None
            came = InboundRequest(
                method=request.method,
                headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]},
                query=request.scope["query_string"].decode("latin-1"),
                body=body,
                received_at=receiver.clock.now(),
            )
            answer = await receiver.receive(platform, webhook_token, came)
        return Response(answer.body, status_code=answer.status, media_type=answer.content_type)


async def _body_of(request: AnyRequest, take: Callable[[int], None]) -> bytes:
    """The body; `take` is told of each piece.

    Raises UnsupportedCodingError and TooLargeError, before it is read where its headers tell, and what `take` does.
    """
    refuse_coded(request.headers.get("content-encoding"))
    try:
        pieces: list[bytes] = []
        async for piece in request.stream():
            take(len(piece))
            pieces.append(piece)
        return b"".join(pieces)
    except RequestEntityTooLarge:
        limit = request.route_handler.resolve_request_max_body_size()
        raise TooLargeError(f"The body is larger than {limit} bytes (MSGCORE_MAX_BODY_BYTES)") from None
