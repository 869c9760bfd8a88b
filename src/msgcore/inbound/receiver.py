"""The receiver: verifies a platform's request, stores it as it came, and answers. Reading it comes after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from msgcore.core.clock import Clock
from msgcore.core.errors import NotFoundError, ProblemError, UnauthenticatedError, UnavailableError
from msgcore.core.ids import new_id
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.inbound.body_room import BodyRoom
from msgcore.inbound.refusals import RefusalLog
from msgcore.inbound.spool import Spool, SpoolFullError
from msgcore.inbound.tokens import TokenDirectory
from msgcore.observability.metrics import Metrics
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import Inbound, InboundAnswer, InboundRequest, SignatureError, UnreadableError
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.keyring import DecryptionError
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.group_commit import GroupCommit
from msgcore.store.inbound import RawRequest, keep

log = structlog.stdlib.get_logger(__name__)

Found = TypeVar("Found")

NOWHERE = "There is no such webhook"
"""All that is told to whoever does not know a token, whatever the reason."""

STORE_SECONDS = 3.0
"""After which PostgreSQL counts as away: platforms wait 3 to 10 s for an answer, and a request that was stored
after all is not stored twice."""
DRAIN_SECONDS = 30.0
"""The same for what nobody waits for."""
RETRY_SECONDS = 0.5
LARGEST_BATCH = 8_000_000
"""Bytes that are stored in one transaction, or one file."""
LARGE = 32 * 1024
"""Bytes from which on a body is looked at on another thread, so that nobody else waits for it."""
LARGE_AT_ONCE = 2
REFUSALS = {401: "forged", 413: "too_large", 503: "lost"}
"""The words of metrics for what is refused with these statuses; anything else is `unreadable`."""


class Receiver:
    """Takes requests for all configured platforms."""

    def __init__(
        self,
        *,
        database: Database,
        tokens: TokenDirectory,
        accounts: AccountDirectory,
        registry: PlatformRegistry,
        spool: Spool,
        clock: Clock,
        on_stored: Callable[[str], None],
        metrics: Metrics,
        largest_body: int,
    ) -> None:
        """`on_stored` is told the id of a platform that has something to be read."""
        self.clock = clock
        self.room = BodyRoom(largest_body)
        self._database = database
        self._tokens = tokens
        self._accounts = accounts
        self._registry = registry
        self._spool = spool
        self._on_stored = on_stored
        self._metrics = metrics
        self._refusals = RefusalLog(database, clock)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._commits: GroupCommit[RawRequest, None] = GroupCommit(self._flush, largest=LARGEST_BATCH, weigh=_weight)
        self._order = asyncio.Lock()  # of what is stored: what waits on the disk comes first
        self._draining: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what an earlier run left on the disk."""
        self._spool.open()
        if not self._spool.is_empty:
            self._drain_soon()

    async def stop(self) -> None:
        """Finish what is being stored; what lies on the disk stays there."""
        await self._commits.drain()
        await end(self._draining)
        await self._refusals.stop()
        self._spool.close()

    def methods(self, platform: str) -> tuple[str, ...]:
        """The HTTP methods that a platform uses; POST for one that is not known."""
        inbound = self._registry.inbound(platform)
        return ("POST",) if inbound is None else inbound.methods

    async def require_known(self, platform: str, token: str) -> None:
        """To be asked before a body is read. Raises NotFoundError for an unknown address."""
        await self._find(platform, token)

    async def receive(self, platform: str, token: str, request: InboundRequest) -> InboundAnswer:
        """Take one request; returns when it is safe.

        Raises NotFoundError for an unknown address, UnauthenticatedError for a request that the platform
        did not make, InvalidInputError, TooLargeError or UnprocessableError for one that cannot be read, and
        UnavailableError when it could be stored nowhere.
        """
        inbound, record = await self._find(platform, token)
        account = self._open(record)
        try:
            answer = await self._aside(request, partial(_look_at, inbound, account, request))
        except SignatureError as error:
            problem = UnauthenticatedError("The request is not signed as this platform signs")
            self._note(record, problem, str(error))
            raise problem from None
        except UnreadableError as error:
            problem = error.problem(str(error))
            self._note(record, problem, str(error))
            raise problem from None
        if answer is not None:
            self._metrics.received(platform, "answered")
            return answer
        raw = RawRequest(
            id=new_id(),
            project_id=record.project_id,
            platform_id=record.id,
            platform=platform,
            headers={name: request.headers[name] for name in inbound.keeps if name in request.headers},
            query=request.query,
            body=request.body,
            received_at=request.received_at,
        )
        try:
            await self._commits.submit(raw)
        except Exception:
            self._metrics.received(platform, "lost")
            raise
        self._metrics.received(platform, "taken")
        return await self._aside(request, partial(inbound.reply, request))

    async def refuse(self, platform: str, token: str, problem: ProblemError) -> ProblemError:
        """What answers a request whose body is not read, or not to its end, because of `problem`; it is logged.

        Raises NotFoundError for an unknown address.
        """
        _, record = await self._find(platform, token)
        self._note(record, problem, problem.message)
        return problem

    @property
    def spool_bytes(self) -> int:
        """What lies on the disk of this process."""
        return self._spool.size

    def _note(self, record: AccountRecord, problem: ProblemError, reason: str) -> None:
        self._metrics.received(record.platform, REFUSALS.get(problem.status, "unreadable"))
        self._refusals.note(record, problem.status, reason)

    async def _aside(self, request: InboundRequest, work: Callable[[], Found]) -> Found:
        """What comes of looking at a request: at once, or on another thread for one that is large."""
        if len(request.body) < LARGE:
            return work()
        async with self._large:
            return await asyncio.to_thread(work)

    async def _find(self, platform: str, token: str) -> tuple[Inbound, AccountRecord]:
        inbound = self._registry.inbound(platform)
        record = None if inbound is None else await self._tokens.find(token)
        if inbound is None or record is None or record.platform != platform or not record.is_active:
            raise NotFoundError(NOWHERE)
        return inbound, record

    def _open(self, record: AccountRecord) -> Account:
        try:
            return self._accounts.open(record)
        except DecryptionError:
            log.error("credentials_unreadable", platform=record.platform, platform_id=record.id)  # noqa: TRY400
            raise UnavailableError("The platform's credentials cannot be read; enter them again") from None

    # --- storing

    async def _flush(self, requests: Sequence[RawRequest]) -> Sequence[Exception | None]:
        async with self._order:
            stored = self._spool.is_empty and await self._store(requests, STORE_SECONDS)
            if not stored:
                try:
                    await self._spool.put(requests)
                except (SpoolFullError, OSError) as error:
                    log.error("inbound_not_stored", requests=len(requests), error=type(error).__name__)  # noqa: TRY400
                    full = UnavailableError("Nothing can be stored just now; send it again", retry_after=5.0)
                    return [full] * len(requests)
                self._drain_soon()
        if stored:
            self._tell(requests)
        return [None] * len(requests)

    async def _store(self, requests: Sequence[RawRequest], seconds: float) -> bool:
        """Whether the database has the requests now; False while it is away."""
        limit = seconds if self._database.kind == "postgresql" else None
        try:
            async with asyncio.timeout(limit):
                await self._database.transact(lambda connection: keep(connection, requests))
        except Exception as error:
            if not (isinstance(error, TimeoutError) or is_away(error)):
                raise
            log.warning("ledger_away", error=type(error).__name__, requests=len(requests))
            return False
        return True

    def _tell(self, requests: Sequence[RawRequest]) -> None:
        for platform_id in {request.platform_id for request in requests}:
            self._on_stored(platform_id)

    def _drain_soon(self) -> None:
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="spool")

    async def _drain(self) -> None:
        """Give the database what lies on the disk, however long it is away and whatever else fails."""
        while True:
            try:
                if await self._drain_all():
                    log.info("spool_drained")
                    return
            except Exception:  # it was all answered, and nobody else comes back to it
                log.exception("spool_not_drained")
            await asyncio.sleep(RETRY_SECONDS)

    async def _drain_all(self) -> bool:
        """The same, oldest first; False once the database is away."""
        while True:
            async with self._order:
                batch = await self._spool.first()
                if not batch:
                    return True
            # Meanwhile what comes goes behind it, onto the disk, and is answered.
            if not await self._store(batch, DRAIN_SECONDS):
                return False
            async with self._order:
                await self._spool.drop_first()
            self._tell(batch)


def _look_at(inbound: Inbound, account: Account, request: InboundRequest) -> InboundAnswer | None:
    """The answer to a handshake. Raises SignatureError, and UnreadableError for what is seen to be that at a glance."""
    inbound.verify(account, request)
    answer = inbound.handshake(account, request)
    if answer is None:
        inbound.check(account, request)
    return answer


def _weight(request: RawRequest) -> int:
    return 500 + len(request.body)
