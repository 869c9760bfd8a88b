"""The processor: claims what is due, lets the platform's adapter send it, records what came of it.

One loop claims batches; each delivery then runs as a task of its own, at most `concurrency` at a
time; outcomes are recorded in groups. What is claimed, sent and recorded overlaps: a place is free
for the next delivery when its attempt is over. As many again may wait for their outcome to be
recorded, and no more, so a database that is away holds the work back instead of piling it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any

import structlog

from msgcore.core.clock import Clock
from msgcore.core.deliveries import Done, Lease, Shares, Wait
from msgcore.core.errors import AuthenticationError, DeliveryError, PermanentError, Scope, TemporaryError
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.core.retry import RetryPolicy
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.dispatch.messages import MessageBody, MessageCache
from msgcore.dispatch.opt_outs import OptOutDirectory, refusal
from msgcore.dispatch.outgoing import find_sent, hand_over, outgoing_of
from msgcore.dispatch.places import Places
from msgcore.dispatch.recorder import AWAY_SECONDS, LONGEST_BACKOFF, Recorder, log_fault
from msgcore.dispatch.scheduler import Scheduler, SchedulerAwayError
from msgcore.dispatch.trail import Trail
from msgcore.dispatch.verdict import Judge, Verdict, as_delivery_error
from msgcore.observability.metrics import Metrics
from msgcore.platforms.base import PlatformAdapter, SentReceipt
from msgcore.security.keyring import DecryptionError
from msgcore.store.group_commit import GroupCommit
from msgcore.store.ledger.beginning import WorkItem
from msgcore.store.ledger.work import WorkLog
from msgcore.store.opt_outs import OptOut

log = structlog.stdlib.get_logger(__name__)

IDLE_SECONDS = 60.0
GATHER_SECONDS = 0.002
AT_ONCE = 8
"""Attempts of one batch that start together; between such groups, whoever else is ready gets its turn."""
DEFAULT_RETRY = RetryPolicy()
SHARES = Shares(account=3.0, tenant=7.0)
"""One account alone gets three quarters of all places, and a tenant seven eighths: however many of its accounts
answer slowly, there is a place for the next one of it, and for everybody else."""


class Processor:
    """Sends what the scheduler says is due."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        work: WorkLog,
        accounts: AccountDirectory,
        messages: MessageCache,
        adapters: Mapping[str, PlatformAdapter],
        clock: Clock,
        judge: Judge,
        opt_outs: OptOutDirectory,
        concurrency: int,
        lease_seconds: float,
        send_timeout: float,
        metrics: Metrics | None = None,
        webhooks: AccountDirectory | None = None,
        on_fallible: Callable[[str], None] | None = None,
        on_told: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        """`webhooks` are the accounts of `EVENT_WEBHOOK`, which are no configured platforms.

        `on_fallible` is called with the id of a message with fallbacks when an attempt for it has ended, and
        `on_told` with the ids of projects whose event log has something new.
        """
        self._opt_outs = opt_outs
        self._trail = Trail(metrics or Metrics())
        self._scheduler = scheduler
        self._work = work
        self._accounts = accounts
        self._webhooks = webhooks or accounts
        self._on_fallible = on_fallible
        self._messages = messages
        self._adapters = adapters
        self._clock = clock
        self._judge = judge
        self._lease_seconds = lease_seconds
        self._send_timeout = send_timeout
        self._recorder = Recorder(work=work, scheduler=scheduler, trail=self._trail, on_told=on_told)
        self._beginner: GroupCommit[Sequence[Lease], dict[str, WorkItem]] = GroupCommit(
            self._begin_groups, weigh=len, parallel=work.parallel
        )
        self._running: dict[asyncio.Task[None], tuple[Lease, WorkItem]] = {}
        self._places = Places(concurrency, on_half=scheduler.look_again)
        self._beginning: dict[asyncio.Task[None], Sequence[Lease]] = {}
        self._stopping = False
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work."""
        self._loops = [
            asyncio.create_task(self._claim_forever(), name="claim"),
            asyncio.create_task(self._renew_forever(), name="renew"),
        ]

    async def stop(self, seconds: float) -> None:
        """Finish what is running within `seconds`, interrupt the rest, record all of it."""
        self._stopping = True
        self._places.look_again()
        self._scheduler.look_again()  # wakes the claim loop, which then ends
        for loop in self._loops[:1]:
            await asyncio.wait([loop])
        if self._beginning:
            await asyncio.wait(self._beginning)
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=LONGEST_BACKOFF)
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_BACKOFF):
                await self._recorder.drain()  # tasks that were interrupted left their outcomes there
        for loop in self._loops:
            await end(loop)

    # --- claiming

    async def _claim_forever(self) -> None:
        while not self._stopping:
            room = await self._room()
            try:
                leases = await self._claim(room)
                claimed_at = self._clock.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever it was: without this loop nothing is ever sent again
                log_fault(error)
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if not leases:
                await self._scheduler.wait(IDLE_SECONDS)
                continue
            # Not waited for: what another account needs sent must not wait for a transaction of this batch.
            task = asyncio.create_task(self._begin_or_return(leases, claimed_at))
            self._beginning[task] = leases
            task.add_done_callback(self._beginning.pop)

    async def _claim(self, room: int) -> Sequence[Lease]:
        """As many as there is room for; nobody else gets these places meanwhile."""
        leases: Sequence[Lease] = ()
        self._places.ask(room)
        try:
            leases = await self._scheduler.claim(room, shares=SHARES)
        finally:
            self._places.take(len(leases))
        return leases

    async def _room(self) -> int:
        """How many more may run; waits for the first place, then a moment for more.

        Claiming place by place would cost a transaction for each delivery.
        """
        while not self._stopping:
            if self._places.free > 0 and self._places.are_half_taken:
                await asyncio.sleep(GATHER_SECONDS)
            if self._places.free > 0:
                break
            await self._places.wait()
        return max(1, self._places.free)

    async def _begin_or_return(self, leases: Sequence[Lease], claimed_at: float) -> None:
        try:
            await self._begin(leases, claimed_at)
        except Exception as error:  # noqa: BLE001 - the claimed deliveries go back, whatever it was
            log_fault(error, deliveries=len(leases))
            await self._recorder.finish([Wait(lease, 1.0, Scope.DELIVERY) for lease in leases])
            if not self._stopping:
                await asyncio.sleep(1.0)  # with their places taken: a database that is away is not pressed
            self._places.leave(len(leases))

    async def _begin(self, leases: Sequence[Lease], claimed_at: float) -> None:
        items = await self._beginner.submit(leases)
        gone = [Done(lease, answered=False) for lease in leases if lease.delivery_id not in items]
        if gone:
            await self._recorder.finish(gone)
            self._places.leave(len(gone))
        work = [(lease, items[lease.delivery_id]) for lease in leases if lease.delivery_id in items]
        # A message of a moment ago does not wait while those of a backlog are read.
        at_hand = [(lease, item) for lease, item in work if item.message_id in self._messages]
        to_read = [(lease, item) for lease, item in work if item.message_id not in self._messages]
        for part in (at_hand, to_read):
            if part:
                await self._start_sending(part, claimed_at)

    async def _start_sending(self, work: Sequence[tuple[Lease, WorkItem]], claimed_at: float) -> None:
        try:
            bodies = await self._messages.get([item.message_id for _, item in work])
            accounts = {item.platform_id: item.platform for _, item in work}
            records = {id_: await self._directory(platform).get(id_) for id_, platform in accounts.items()}
            opt_outs = await self._opt_outs.find([item for _, item in work])
        except Exception as error:  # noqa: BLE001 - begun and not sent: given back as if never touched
            log_fault(error, deliveries=len(work))
            for lease, item in work:
                self._run(lease, item, self._give_back(lease, item))
            return
        for number, (lease, item) in enumerate(work, 1):
            body, record = bodies.get(item.message_id), records[item.platform_id]
            if item.id in opt_outs and not (body and body.options.ignore_opt_out):
                task = self._run(lease, item, self._refuse(lease, item, opt_outs[item.id]))
            else:
                task = self._run(lease, item, self._work_on(lease, item, body, record, claimed_at + lease.wait))
            if body is not None and body.options.fallback is not None:
                task.add_done_callback(partial(self._tell_of, item.message_id))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _begin_groups(self, groups: Sequence[Sequence[Lease]]) -> Sequence[dict[str, WorkItem]]:
        ids = [lease.delivery_id for group in groups for lease in group]
        items = {item.id: item for item in await self._work.begin(ids, self._clock.now())}
        # Once, to who claimed it last: a lease that ran out before this turn may have been given again.
        parts = [{id_: items.pop(id_) for x in group if (id_ := x.delivery_id) in items} for group in reversed(groups)]
        return parts[::-1]

    def _run(self, lease: Lease, item: WorkItem, work: Coroutine[Any, Any, Verdict]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._carry_out(work))
        self._running[task] = lease, item
        task.add_done_callback(self._done)
        return task

    def _tell_of(self, message_id: str, _: asyncio.Task[None]) -> None:
        if self._on_fallible is not None:
            self._on_fallible(message_id)

    async def _carry_out(self, work: Coroutine[Any, Any, Verdict]) -> None:
        try:
            verdict = await work
        finally:
            self._places.leave()
        self._places.unrecorded += 1
        try:
            await self._recorder.record(verdict)
        finally:
            self._places.unrecorded -= 1
            self._places.look_again()

    async def _give_back(self, lease: Lease, item: WorkItem) -> Verdict:
        """Undo the beginning of an attempt; the delivery is due again after a second."""
        result = self._judge.released(lease, item, self._clock.now()).result
        return Verdict(result, Wait(lease, 1.0, Scope.DELIVERY))

    async def _refuse(self, lease: Lease, item: WorkItem, opt_out: OptOut) -> Verdict:
        """Fail a delivery to somebody who wants none, without a word to the platform."""
        self._trail.begun(item)
        return self._judge.unwanted(lease, item, refusal(item, opt_out), self._clock.now())

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery_task_failed", exc_info=error)

    def _directory(self, platform: str) -> AccountDirectory:
        return self._webhooks if platform == EVENT_WEBHOOK else self._accounts

    # --- one delivery

    async def _work_on(
        self, lease: Lease, item: WorkItem, body: MessageBody | None, record: AccountRecord | None, when: float
    ) -> Verdict:
        # The task's own context: each line that the adapter logs has these ids.
        structlog.contextvars.bind_contextvars(delivery_id=item.id, message_id=item.message_id)
        self._trail.begun(item)
        if lease.wait:  # claimed a little ahead, so that the call can be made at the moment its budget allows
            try:
                await self._places.lend(self._clock.sleep(when - self._clock.monotonic()))
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                return self._judge.released(lease, item, self._clock.now())
        return await self._attempt(lease, item, body, record)

    async def _attempt(
        self, lease: Lease, item: WorkItem, body: MessageBody | None, record: AccountRecord | None
    ) -> Verdict:
        adapter = self._adapters.get(item.platform)
        is_whole = not item.part_ids  # of what was sent in part, the rest is worth sending also after its time
        if is_whole and item.expires_at is not None and item.expires_at <= self._clock.now():
            return self._judge.expired(lease, item, self._clock.now())
        try:
            record, body, adapter = _require(record, body, adapter)
            if record.is_held:
                await self._hold(record.id)
                return self._judge.released(lease, item, self._clock.now())
            receipt = await self._send(adapter, record, item, body)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            stopped = TemporaryError("interrupted", "The server stopped", reached="maybe", scope=Scope.DELIVERY)
            return self._failed(lease, item, stopped)
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises is a verdict, never a lost delivery
            return await self._judge_error(lease, item, error, record)
        return self._judge.sent(lease, item, receipt, self._clock.now(), text=body.text)

    async def _send(
        self, adapter: PlatformAdapter, record: AccountRecord, item: WorkItem, body: MessageBody
    ) -> SentReceipt:
        try:
            account = self._directory(record.platform).open(record)
        except DecryptionError:
            raise AuthenticationError(
                "credentials_unreadable", "The stored credentials cannot be decrypted; enter them again"
            ) from None
        outgoing = outgoing_of(item, body)
        async with asyncio.timeout(self._send_timeout):
            if item.uncertain:
                receipt = await find_sent(adapter, account, outgoing)
                if receipt is not None and not await self._is_of_another(item, receipt):
                    return receipt
                if item.on_uncertain == "fail":
                    raise PermanentError(
                        "uncertain",
                        "An earlier attempt may have reached the platform, and options.onUncertain is fail",
                        reached="maybe",
                    )
            began = perf_counter()
            try:
                return await hand_over(adapter, account, outgoing)
            finally:
                self._trail.called(item.platform, perf_counter() - began)

    async def _is_of_another(self, item: WorkItem, found: SentReceipt) -> bool:
        """Whether the platform found one with the same text: of two of those, both are to be sent."""
        id_ = found.provider_message_id
        return id_ is not None and await self._work.is_of_another(item, id_)

    async def _judge_error(
        self, lease: Lease, item: WorkItem, error: Exception, record: AccountRecord | None
    ) -> Verdict:
        typed = as_delivery_error(error)
        if typed is not error and not isinstance(error, TimeoutError):
            log.error("adapter_failed", platform=item.platform, exc_info=error)
        if isinstance(typed, AuthenticationError) and record is not None:
            await self._pause(item, typed, record)
        return self._failed(lease, item, typed)

    def _failed(self, lease: Lease, item: WorkItem, error: DeliveryError) -> Verdict:
        adapter = self._adapters.get(item.platform)
        policy = DEFAULT_RETRY if adapter is None else adapter.declaration.retry
        return self._judge.failed(lease, item, error, policy, self._clock.now())

    async def _pause(self, item: WorkItem, error: AuthenticationError, record: AccountRecord) -> None:
        """Hold an account whose credentials were refused, unless they were changed since `record` was read."""
        # The ledger first: a pause that is not written there is taken back by the feeder.
        try:
            paused = await self._work.pause_account(item, error.message, record.updated_at, self._clock.now())
        except Exception as fault:  # noqa: BLE001 - its next attempt writes it
            log_fault(fault, platform_id=item.platform_id)
            paused = "already"
        self._accounts.forget(item.platform_id)
        if paused == "changed":
            return
        await self._hold(item.platform_id)
        if paused == "now":
            log.warning("platform_paused", platform_id=item.platform_id, platform=item.platform, code=error.code)

    async def _hold(self, account_id: str) -> None:
        with suppress(SchedulerAwayError):  # the feeder does it when the scheduler is back
            await self._scheduler.pause(account_id)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            running = {item.id: item for _, item in self._running.values()}
            # Those that wait for the ledger too: whoever claims one meanwhile would send it as well.
            held = {lease for lease, _ in self._running.values()}.union(*self._beginning.values())
            try:
                lost = await self._scheduler.renew(list(held))
            except Exception as error:  # noqa: BLE001 - without this loop all leases would run out
                log_fault(error, leases=len(held))
            else:
                await asyncio.sleep(0)  # what was finished a moment ago is no loss; its task ends just now
                kept = {item.id for _, item in self._running.values()} & running.keys()
                self._trail.lost([lease for lease in lost if lease.delivery_id in kept], running)


def _require(
    record: AccountRecord | None, body: MessageBody | None, adapter: PlatformAdapter | None
) -> tuple[AccountRecord, MessageBody, PlatformAdapter]:
    """All that sending needs. Raises PermanentError for what is no longer there."""
    if record is None:
        raise PermanentError("platform_deleted", "The platform was deleted before the message could be sent")
    if body is None:
        raise PermanentError("message_deleted", "The message was deleted, or cannot be read any more")
    if adapter is None:
        raise PermanentError("platform_unknown", f"This server has no platform {record.platform!r}")
    return record, body, adapter
