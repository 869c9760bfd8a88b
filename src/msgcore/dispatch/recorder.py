"""The recorder: writes what became of attempts into the ledger, in groups, and then tells the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import msgspec
import structlog

from msgcore.core.deliveries import OPEN_STATES, Finished, Outcome
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.trail import Trail
from msgcore.dispatch.verdict import Verdict
from msgcore.store.faults import is_away, is_passing
from msgcore.store.group_commit import GroupCommit
from msgcore.store.ledger.recording import WorkResult
from msgcore.store.ledger.work import WorkLog

log = structlog.stdlib.get_logger(__name__)

LONGEST_BACKOFF = 5.0
AWAY_SECONDS = 0.5


class Recorder:
    """Ledger first: what the scheduler forgets is found there, not the other way round."""

    def __init__(
        self,
        *,
        work: WorkLog,
        scheduler: Scheduler,
        trail: Trail,
        on_told: Callable[[Collection[str]], None],
    ) -> None:
        """`on_told` is given the ids of projects whose event log has something new."""
        self._on_told = on_told
        self._work = work
        self._scheduler = scheduler
        self._trail = trail
        self._groups: GroupCommit[Verdict, None] = GroupCommit(self._record)

    async def record(self, verdict: Verdict) -> None:
        """Write a verdict and tell the scheduler; returns when both are done, however long a server is away."""
        await self._groups.submit(verdict)

    async def drain(self) -> None:
        """Wait for what is being recorded."""
        await self._groups.drain()

    async def finish(self, outcomes: Sequence[Outcome]) -> Finished:
        """Tell the scheduler, however long it is away: until then their places stay taken."""
        while True:
            try:
                return await self._scheduler.finish(outcomes)
            except SchedulerAwayError as error:
                log_fault(error, outcomes=len(outcomes))
                await asyncio.sleep(AWAY_SECONDS)

    async def _record(self, verdicts: Sequence[Verdict]) -> Sequence[None]:
        stored = verdicts
        try:
            await self._store([verdict.result for verdict in verdicts])
        except Exception:  # noqa: BLE001 - told apart below
            # One result cannot be stored as it is; it must not hold the others back. One that cannot be stored
            # at all keeps its lease, which runs out: the next attempt begins as an uncertain one.
            stored = [verdict for verdict in verdicts if await self._store_alone(verdict.result)]
        self._trail.recorded(stored)
        if told := [result.item.project_id for verdict in stored if _is_told(result := verdict.result)]:
            self._trail.told(len(told))
            self._on_told(set(told))
        finished = await self.finish([verdict.outcome for verdict in stored])
        self._trail.finished(finished, stored)
        return [None] * len(verdicts)

    async def _store(self, results: Sequence[WorkResult]) -> None:
        """Write results, however long the database is away; one alone also however often it gives way to others."""
        backoff = 0.1
        while True:
            try:
                return await self._work.record(results)
            except Exception as error:
                # An outcome that is thrown away for a deadlock would be a message that is sent again.
                if not is_away(error) and not (is_passing(error) and len(results) == 1):
                    raise
                log_fault(error, outcomes=len(results))
                await asyncio.sleep(backoff)
                backoff = min(LONGEST_BACKOFF, backoff * 2)

    async def _store_alone(self, result: WorkResult) -> bool:
        # What the platform said may not fit into the database; that it said it does.
        for form in (result, msgspec.structs.replace(result, provider_message_id=None, error_message=None)):
            try:
                await self._store([form])
            except Exception:  # it does not come from the outside world, so it is worth a traceback
                log.exception("outcome_not_storable", delivery_id=result.item.id)
            else:
                return True
        return False


def _is_told(result: WorkResult) -> bool:
    """Whether an event tells of it, unless it was not the running attempt any more."""
    return result.state not in OPEN_STATES and result.item.platform != EVENT_WEBHOOK


def log_fault(error: Exception, **about: object) -> None:
    """A server that is away is the operator's business; anything else is ours, with a traceback."""
    if isinstance(error, SchedulerAwayError):
        log.warning("scheduler_away", error=str(error), **about)
    elif is_away(error) or is_passing(error):
        log.warning("ledger_away", error=type(error).__name__, **about)
    else:
        log.error("dispatch_failed", exc_info=error, **about)
