"""`/api/v1/health`: for load balancers, orchestrators, and for the first visit of a client.

Anybody may ask, so the answers hold counts, and nothing of any tenant.
"""

from __future__ import annotations

from typing import Literal

from litestar import Controller, MediaType, Response, get

from msgcore.api.access import PROBED, Injected
from msgcore.api.answers import Answer, Timestamp
from msgcore.api.documented import answered
from msgcore.core.clock import to_iso
from msgcore.observability.snapshot import Dispatching, Snapshot
from msgcore.services.health import HealthService


class DispatchHealth(Answer):
    """`state`: whether this process sends (off, starting, running). `lagSeconds`: how late the oldest due delivery is.

    `leader`: it is the one that supplies the scheduler from the ledger. The lag is null while the database
    cannot be reached.
    """

    state: Dispatching
    leader: bool
    lag_seconds: float | None


class AccountsHealth(Answer):
    """How many configured platforms of one kind are active, paused, switched off; how many breakers are not closed."""

    platform: str
    active: int
    paused: int
    off: int
    breaker_open: int
    breaker_half_open: int


class HealthAnswer(Answer):
    """`setupRequired`: nobody has signed up yet. `redis`: unused where none is configured."""

    status: Literal["healthy", "unhealthy"]
    version: str
    setup_required: bool | None
    timestamp: Timestamp
    database: Literal["reachable", "unreachable"]
    redis: Literal["reachable", "unreachable", "unused"]
    dispatch: DispatchHealth
    platforms: list[AccountsHealth]


class ProbeAnswer(Answer):
    """What the process is: alive, ready, or why it is not."""

    status: str


class HealthController(Controller):
    """Health."""

    path = "/api/v1/health"
    tags = ("Health",)

    @get(
        opt=PROBED,
        summary="Whether the gateway can work; 503 when it cannot",
        responses=answered(HealthAnswer, status=503),
    )
    async def check(self, health: Injected[HealthService]) -> Response[HealthAnswer]:
        """Answers 200 or 503. All but `status` and `database` may be two seconds old."""
        found = await health.check()
        answer = HealthAnswer(
            status="healthy" if found.database_reachable else "unhealthy",
            version=found.version,
            setup_required=found.setup_required,
            timestamp=to_iso(found.checked_at),
            database="reachable" if found.database_reachable else "unreachable",
            redis=_redis(found.snapshot),
            dispatch=_dispatch(found.snapshot),
            platforms=_platforms(found.snapshot),
        )
        return Response(answer, status_code=200 if found.database_reachable else 503, media_type=MediaType.JSON)

    @get("/live", opt=PROBED, summary="Whether the process runs; restart it when this does not answer")
    async def live(self) -> ProbeAnswer:
        """Answers 200, whatever else is away."""
        return ProbeAnswer(status="alive")

    @get(
        "/ready",
        opt=PROBED,
        summary="Whether the process should get requests",
        responses=answered(ProbeAnswer, status=503),
    )
    async def ready(self, health: Injected[HealthService]) -> Response[ProbeAnswer]:
        """Answers 200, or 503 while it starts or stops or the database is away."""
        reason = await health.unready()
        return Response(
            ProbeAnswer(status=reason or "ready"), status_code=503 if reason else 200, media_type=MediaType.JSON
        )


def _redis(seen: Snapshot) -> Literal["reachable", "unreachable", "unused"]:
    if seen.redis_reachable is None:
        return "unused"
    return "reachable" if seen.redis_reachable else "unreachable"


def _dispatch(seen: Snapshot) -> DispatchHealth:
    return DispatchHealth(
        state=seen.dispatching, leader=seen.leading, lag_seconds=round(seen.lag, 3) if seen.database_reachable else None
    )


def _platforms(seen: Snapshot) -> list[AccountsHealth]:
    names = sorted({platform for platform, _ in (*seen.accounts, *seen.breakers)})
    return [
        AccountsHealth(
            platform=name,
            active=seen.accounts.get((name, "active"), 0),
            paused=seen.accounts.get((name, "paused"), 0),
            off=seen.accounts.get((name, "off"), 0),
            breaker_open=seen.breakers.get((name, "open"), 0),
            breaker_half_open=seen.breakers.get((name, "half-open"), 0),
        )
        for name in names
    ]
