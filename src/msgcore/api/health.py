"""`GET /api/v1/health`: for load balancers and for the first visit of a client."""

from __future__ import annotations

from typing import Literal

from litestar import Controller, MediaType, Response, get

from msgcore.api.access import PUBLIC, Injected
from msgcore.api.answers import Answer, Timestamp
from msgcore.core.clock import to_iso
from msgcore.services.health import HealthService


class HealthAnswer(Answer):
    """`setupRequired`: nobody has signed up yet."""

    status: Literal["healthy", "unhealthy"]
    version: str
    setup_required: bool | None
    timestamp: Timestamp
    database: Literal["reachable", "unreachable"]


class HealthController(Controller):
    """Health."""

    path = "/api/v1/health"
    tags = ("Health",)

    @get(opt=PUBLIC, summary="Whether the gateway can work; 503 when it cannot")
    async def check(self, health: Injected[HealthService]) -> Response[HealthAnswer]:
        """Answers 200 or 503."""
        found = await health.check()
        answer = HealthAnswer(
            status="healthy" if found.database_reachable else "unhealthy",
            version=found.version,
            setup_required=found.setup_required,
            timestamp=to_iso(found.checked_at),
            database="reachable" if found.database_reachable else "unreachable",
        )
        return Response(answer, status_code=200 if found.database_reachable else 503, media_type=MediaType.JSON)
