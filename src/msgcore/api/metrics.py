"""`GET /metrics`, and the counting of requests that it shows.

Metrics tell a stranger how much a gateway is used, so nobody gets them unasked: on the API's port
they need a token, without one only the separate metrics port (loopback by default) has them.
"""

from __future__ import annotations

import hmac
from time import perf_counter
from typing import Any, Final, cast

from litestar import Controller, Response, get
from litestar.types import ASGIApp, Receive, Scope, Send

from msgcore.api.access import PROBED, AnyRequest, Injected, bearer_token
from msgcore.api.origin import address_of, noted_key
from msgcore.config import Settings
from msgcore.core.errors import ForbiddenError, UnauthenticatedError
from msgcore.observability.metrics import CONTENT_TYPE, Metrics
from msgcore.services.monitoring import Monitoring
from msgcore.services.request_usage import RequestUsage

OTHER: Final = "other"
"""The route of requests that match none, and the method of those that have none of HTTP's own."""

_SWITCHING: Final = 101
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class MetricsAccess:
    """Who may read the metrics."""

    def __init__(self, settings: Settings) -> None:
        token = settings.metrics_token
        self._token = None if token is None else token.get_secret_value().encode()
        self._has_own_port = settings.metrics_port is not None

    def check(self, authorization: str) -> None:
        """Let the bearer of the token pass. Raises UnauthenticatedError or ForbiddenError."""
        if self._token is None:
            if not self._has_own_port:
                raise ForbiddenError(
                    "Metrics are not shown here: set MSGCORE_METRICS_TOKEN and send it as "
                    "Authorization: Bearer <token>, or set MSGCORE_METRICS_PORT"
                )
        elif not hmac.compare_digest((bearer_token(authorization) or "").encode(), self._token):
            raise UnauthenticatedError("Metrics need Authorization: Bearer <MSGCORE_METRICS_TOKEN>")


class MetricsController(Controller):
    """Metrics."""

    path = "/metrics"
    include_in_schema = False

    @get(opt=PROBED)
    async def expose(
        self, request: AnyRequest, monitoring: Injected[Monitoring], metrics_access: Injected[MetricsAccess]
    ) -> Response[bytes]:
        """All metrics of this process, in the text format of Prometheus."""
        metrics_access.check(request.headers.get("authorization", ""))
        return Response(await monitoring.exposition(), media_type=CONTENT_TYPE)


class CountedRequests:
    """An ASGI application around the whole API that counts and times what is asked of it, also for each API key.

    Of a WebSocket it is the opening that a key is counted for.
    """

    def __init__(self, api: ASGIApp, metrics: Metrics, usage: RequestUsage) -> None:
        self._api = api
        self._metrics = metrics
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._open(scope, receive, send)
            return
        began = perf_counter()
        status = 500

        def noting_status(message: Any) -> Any:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        try:
            await self._api(scope, receive, noting_status)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            # Litestar's router leaves the template there; it is never the path itself.
            template, seconds = scope.get("path_template") or OTHER, perf_counter() - began
            self._metrics.route(method, template).answered(status, seconds)
            self._note(scope, method, template, status, seconds)

    async def _open(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()

        def noting_opening(message: Any) -> Any:
            if message["type"] == "websocket.accept":
                template = cast("dict[str, Any]", scope).get("path_template", OTHER)
                self._note(scope, "GET", template, _SWITCHING, perf_counter() - began)
            return send(message)

        await self._api(scope, receive, noting_opening)

    def _note(self, scope: Scope, method: str, template: str, status: int, seconds: float) -> None:
        key_id = noted_key(scope)
        if key_id is not None:
            self._usage.note(key_id, method, template, status, seconds=seconds, address=address_of(scope))
