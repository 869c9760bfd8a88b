"""Batches: many personalised messages in one request, accepted together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from msgcore.core.clock import Clock
from msgcore.core.content import MAX_TARGETS, WORK_AT_ONCE, SendRequest
from msgcore.core.deliveries import PENDING_STATES, DeliveryState
from msgcore.core.errors import FieldError, InvalidInputError, NotFoundError
from msgcore.core.ids import canonical_id, new_id
from msgcore.core.scopes import Principal
from msgcore.services.send import MAX_ERRORS, Checked, SendService, make_claim, require_right
from msgcore.store.database import Database
from msgcore.store.ledger import batches, reads
from msgcore.store.ledger.accept import Accepted, IdempotencyClaim, NewBatch

MAX_MESSAGES = 10_000
"""Messages of a batch, and all their targets together (dispatch contract, point 13)."""

BREATH = 100
"""After so many messages of a batch it is the turn of other requests."""

_BODY = "the body"
_LEFT = "The connection ended before all messages were checked: nothing of the batch was accepted"


class BatchDraft:
    """What was read of a batch so far: its messages, and what is wrong with them.

    The first hundred errors are kept; after that only how many more messages have some.
    """

    def __init__(self) -> None:
        self.requests: dict[int, SendRequest] = {}
        self.size = 0
        self._errors: list[FieldError] = []
        self._more = 0

    @property
    def lists_errors(self) -> bool:
        """Whether another error would be listed, so that it is worth being explained."""
        return len(self._errors) < MAX_ERRORS

    @property
    def is_wrong(self) -> bool:
        """Whether anything is wrong with it."""
        return bool(self._errors)

    def take(self, request: SendRequest) -> None:
        """Add the next message. Raises InvalidInputError when they are too many."""
        self._count()
        self.requests[self.size - 1] = request

    def skip(self, error: InvalidInputError, where: str = "") -> None:
        """Count the next message, which cannot be read. `where` tells more about its place, such as its line."""
        index = self.size
        self._count()
        self.blame(index, error, where)

    def blame(self, index: int, error: InvalidInputError, where: str = "") -> None:
        """Note what is wrong with a message."""
        if not self.lists_errors:
            self._more += 1
            return
        name = f"messages[{index}]{where}"
        found = error.errors or [FieldError("", error.message)]
        self._errors += [FieldError(f"/messages/{index}{e.pointer}", f"{name}: {_of_message(e)}") for e in found]
        del self._errors[MAX_ERRORS:]

    def refusal(self) -> InvalidInputError:
        """The error that refuses the batch."""
        more = f"; {self._more} more of its messages have errors" if self._more else ""
        count = len(self._errors)
        return InvalidInputError(
            f"Nothing of the batch was accepted: {count} {'error' if count == 1 else 'errors'}{more}. "
            f"The first: {self._errors[0].message}",
            errors=self._errors,
        )

    def _count(self) -> None:
        if self.size == MAX_MESSAGES:
            raise InvalidInputError.of(
                [FieldError("/messages", f"a batch has at most {MAX_MESSAGES} messages: split it")]
            )
        self.size += 1


def _of_message(error: FieldError) -> str:
    """An error in the words for a message of a batch, which is only a part of the body."""
    return "the message" + error.message.removeprefix(_BODY) if error.message.startswith(_BODY) else error.message


class AcceptedBatch(msgspec.Struct, frozen=True):
    """The answer to a batch: the ids of its messages are in their order."""

    id: str
    message_ids: list[str]
    deliveries: int
    created_at: datetime
    replayed: bool


class Batch(msgspec.Struct, frozen=True):
    """A batch, and how many of its deliveries are in each state."""

    row: reads.Record
    counts: Mapping[DeliveryState, int]

    @property
    def open(self) -> int:
        """Deliveries that are not final; fallbacks that were not needed are."""
        return sum(number for state, number in self.counts.items() if state in PENDING_STATES)

    @property
    def progress(self) -> int:
        """Percent of the deliveries that are final; those that were purged since count as such."""
        return 100 * (self.row.deliveries - self.open) // self.row.deliveries


class BatchMessage(msgspec.Struct, frozen=True):
    """A message of a batch, and how many of its deliveries are in each state."""

    row: reads.Record
    counts: Mapping[DeliveryState, int]


def _number_of_targets(request: SendRequest) -> int:
    """Of a message, with its fallbacks."""
    fallback = None if request.options is None else request.options.fallback
    return len(request.targets) + (0 if fallback is None else len(fallback.targets))


async def find_batch(database: Database, project_id: str, batch_id: str) -> reads.Record:
    """A batch of a project. Raises NotFoundError."""
    known_id = canonical_id(batch_id)
    batch = None if known_id is None else await batches.find_batch(database, project_id, known_id)
    if batch is None:
        raise NotFoundError(f"Batch {batch_id[:64]!r} not found: it is the batchId that an answer to a batch gave")
    return batch


class BatchService:
    """Accepts batches, and tells what became of them."""

    def __init__(self, *, database: Database, sending: SendService, clock: Clock) -> None:
        self._database = database
        self._sending = sending
        self._clock = clock

    async def send(
        self,
        principal: Principal,
        project_id: str,
        draft: BatchDraft,
        *,
        idempotency_key: str | None = None,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> AcceptedBatch:
        """Accept a batch in one transaction; returns when it is durable and queued.

        Nothing is accepted of a caller who `is_gone` before all messages were checked.
        Raises what `SendService.send` does; InvalidInputError lists what is wrong with any of the messages.
        """
        if not draft.size:
            raise InvalidInputError.of([FieldError("/messages", f"a batch has 1 to {MAX_MESSAGES} messages")])
        claim = make_claim(principal, idempotency_key, list(draft.requests.values()))
        readable = not draft.is_wrong
        for request in draft.requests.values():
            require_right(principal, request)
        try:
            checked = await self._check(project_id, draft, is_gone)
        except InvalidInputError:
            # As in `SendService.send`: what was right when it came first may be wrong by now.
            earlier = await self._sending.replay(project_id, claim) if readable else None
            if earlier is None:
                raise
            return await self._answer(project_id, earlier)
        new = await self._compose(principal, project_id, checked, claim)
        accepted = await self._sending.accept(new)
        if accepted.replayed:
            return await self._answer(project_id, accepted)
        ids = [message.row["id"] for message in new.messages]
        return AcceptedBatch(accepted.message_id, ids, new.row["deliveries"], accepted.created_at, replayed=False)

    async def get(self, project_id: str, batch_id: str) -> Batch:
        """A batch with its progress; the cost grows with the batch, not with what else there is.

        Raises NotFoundError.
        """
        row = await find_batch(self._database, project_id, batch_id)
        return Batch(row, await batches.count_batch(self._database, row.id))

    async def messages(
        self, project_id: str, batch_id: str, *, limit: int, after: str | None
    ) -> Sequence[BatchMessage]:
        """A page of a batch's messages in their order, after the one of this id. Raises NotFoundError."""
        row = await find_batch(self._database, project_id, batch_id)
        rows, counts = await batches.list_batch(self._database, row.id, limit=limit, after=after)
        return [BatchMessage(row, dict(counts[row.id])) for row in rows]

    async def _check(self, project_id: str, draft: BatchDraft, is_gone: Callable[[], bool]) -> list[Checked]:
        """Every message, checked. Raises InvalidInputError with what is wrong with any, or when the caller is gone."""
        targets = sum(map(_number_of_targets, draft.requests.values()))
        if targets > MAX_TARGETS:
            raise InvalidInputError.of(
                [FieldError("/messages", f"a batch has at most {MAX_TARGETS} targets, not {targets}: split it")]
            )
        every = (target for request in draft.requests.values() for target in request.every_target())
        addresses = await self._sending.look_up(project_id, every)
        checked: list[Checked] = []
        work = 0
        for index, request in draft.requests.items():
            if is_gone():
                raise InvalidInputError(_LEFT)
            try:
                checked.append(await self._sending.check(project_id, request, addresses))
            except InvalidInputError as error:
                draft.blame(index, error)
            work += request.content.work()
            if index % BREATH == 0 or work > WORK_AT_ONCE:
                work = 0
                await asyncio.sleep(0)
        if draft.is_wrong:
            raise draft.refusal()
        return checked

    async def _compose(
        self, principal: Principal, project_id: str, checked: Sequence[Checked], claim: IdempotencyClaim | None
    ) -> NewBatch:
        batch_id = new_id()
        new = NewBatch(
            {
                "id": batch_id,
                "project_id": project_id,
                "messages": len(checked),
                "deliveries": sum(_number_of_targets(message.request) for message in checked),
                "created_by": principal.id,
                "created_at": self._clock.now(),
            },
            [],
            claim,
        )
        for index, message in enumerate(checked):
            new.messages.append(self._sending.compose(principal, message, batch_id=batch_id))
            if index % BREATH == 0:
                await asyncio.sleep(0)
        return new

    async def _answer(self, project_id: str, accepted: Accepted) -> AcceptedBatch:
        """The first answer to a batch again."""
        row = await find_batch(self._database, project_id, accepted.message_id)
        ids = await batches.message_ids_of(self._database, row.id)
        return AcceptedBatch(row.id, ids, row.deliveries, row.created_at, replayed=True)
