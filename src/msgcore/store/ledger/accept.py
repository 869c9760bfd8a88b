"""Accepting messages: the one place where a message enters the ledger.

Requests that arrive together are committed together. After the commit, and before the next batch
starts, the committed deliveries are handed to `on_committed` (the scheduler): whoever holds
`AcceptLog.gate` therefore never sees a delivery that is committed but not yet handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from msgcore.core.deliveries import Ticket
from msgcore.core.errors import IdempotencyMismatchError, UnavailableError
from msgcore.core.ids import new_id
from msgcore.store.bulk import Bulk, Together
from msgcore.store.database import Database
from msgcore.store.group_commit import GroupCommit
from msgcore.store.ledger.counts import ADD_COUNTS, CountChanges
from msgcore.store.tables import batches, deliveries, idempotency_keys, messages

IDEMPOTENCY_WINDOW = timedelta(hours=24)

BACKLOG = 20_000
"""How much may wait to be committed, in deliveries: a few seconds of work, and some 100 MB of memory."""

BACKLOG_SECONDS = 2.0
"""When to come back if that is full."""

CONTENT_UNIT = 4096
"""So many bytes of content weigh as much as a delivery."""

KeyId = tuple[str, str, str]


class IdempotencyClaim(msgspec.Struct, frozen=True):
    """A caller's Idempotency-Key and the SHA-256 (hex) of the body it came with."""

    principal_id: str
    key: str
    body_hash: str


class NewMessage(msgspec.Struct, frozen=True):
    """A validated request, as rows: one for `messages`, one a target for `deliveries`.

    `tickets` go to the scheduler once the rows are committed. `size` is that of the content, in bytes. `standbys`
    are the deliveries to the fallbacks of the only target, if there are any; all its rows have the columns of such.
    """

    message: dict[str, Any]
    deliveries: list[dict[str, Any]]
    tickets: list[Ticket]
    idempotency: IdempotencyClaim | None = None
    size: int = 0
    standbys: list[dict[str, Any]] = []

    @property
    def row(self) -> dict[str, Any]:
        """The row that the answer and the idempotency key are about."""
        return self.message

    @property
    def messages(self) -> Sequence[NewMessage]:
        """What is to be stored."""
        return (self,)

    @property
    def weight(self) -> int:
        """What it costs to store, in deliveries."""
        return len(self.deliveries) + len(self.standbys) + self.size // CONTENT_UNIT


def new_delivery(message: dict[str, Any], *, due_at: datetime, **columns: Any) -> dict[str, Any]:
    """The row of a delivery of a message (its row) that nobody tried yet; `columns` say whom it goes to, and how."""
    return {
        "id": new_id(),
        "message_id": message["id"],
        "batch_id": message["batch_id"],
        "project_id": message["project_id"],
        "action": None,
        "attempts": 0,
        "throttles": 0,
        "uncertain": False,
        "on_uncertain": "resend",
        "due_at": due_at,
        "first_due_at": due_at,
        "expires_at": None,
        "created_at": message["created_at"],
        **columns,
    }


class NewBatch(msgspec.Struct, frozen=True):
    """Messages that are accepted together or not at all: a row for `batches`, and theirs."""

    row: dict[str, Any]
    messages: list[NewMessage]
    idempotency: IdempotencyClaim | None = None

    @property
    def weight(self) -> int:
        """What it costs to store, in deliveries."""
        return sum(new.weight for new in self.messages)


New = NewMessage | NewBatch


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a request; `replayed` when an earlier request with the same key made it.

    `message_id` is the batch's id where it was a batch.
    """

    message_id: str
    created_at: datetime
    replayed: bool = False


@dataclass(slots=True)
class _Batch:
    fresh: list[New] = field(default_factory=list[New])
    results: list[Accepted | Exception] = field(default_factory=list[Accepted | Exception])


class AcceptLog:
    """Commits accepted messages in groups."""

    def __init__(
        self,
        database: Database,
        on_committed: Callable[[Sequence[Ticket]], Awaitable[None]],
        on_doubtful: Callable[[Sequence[Ticket]], None] = lambda _: None,
    ) -> None:
        """`on_doubtful` is given what nobody knows of whether it was committed, with the gate held."""
        self._database = database
        self._on_committed = on_committed
        self._on_doubtful = on_doubtful
        self._writer: GroupCommit[New, Accepted] = GroupCommit(self._flush, weigh=_weight)
        self.gate = asyncio.Lock()

    async def accept(self, new: New) -> Accepted:
        """Commit a message or a batch; returns when it is durable.

        Raises IdempotencyMismatchError when its key was used with another body, and UnavailableError
        when more waits to be committed than memory should hold.
        """
        waiting = self._writer.waiting
        if waiting and waiting + new.weight > BACKLOG:
            raise UnavailableError(
                "More messages came than the database can store just now; try again", retry_after=BACKLOG_SECONDS
            )
        return await self._writer.submit(new)

    async def accept_read(self, read: Callable[[Connection], Sequence[NewMessage]]) -> int:
        """Commit the messages that `read` gives, in the transaction in which it reads what they come from.

        Whatever it notes there of how far it came is therefore right after a crash, too. Returns how many.
        """
        async with self.gate:
            fresh = await self._database.transact(lambda connection: _read(connection, read))
            if fresh:
                await self._on_committed([ticket for new in fresh for ticket in new.tickets])
        return len(fresh)

    async def find(self, project_id: str, claim: IdempotencyClaim, now: datetime) -> Accepted | None:
        """What this key answered to this body within the last 24 hours, if it did."""
        query = select(idempotency_keys).where(
            idempotency_keys.c.principal_id == claim.principal_id,
            idempotency_keys.c.project_id == project_id,
            idempotency_keys.c.key == claim.key,
            idempotency_keys.c.body_hash == claim.body_hash,
            idempotency_keys.c.expires_at >= now,
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else Accepted(row.message_id, row.created_at, replayed=True)

    async def drain(self) -> None:
        """Wait for what is being committed."""
        await self._writer.drain()

    async def _flush(self, batch: Sequence[New]) -> Sequence[Accepted | Exception]:
        async with self.gate:
            try:
                sorted_out = await self._write(batch)
            except Exception:
                # Its commit may have been done, and only the word of it lost.
                self._on_doubtful(_tickets(batch))
                raise
            if sorted_out.fresh:
                await self._on_committed(_tickets(sorted_out.fresh))
        return sorted_out.results

    async def _write(self, batch: Sequence[New]) -> _Batch:
        if self._database.kind == "sqlite" or any(new.idempotency is not None for new in batch):
            return await self._database.transact(lambda connection: _write(connection, batch))
        statement = _INSERT.statement(self._database.engine.dialect, *_rows(batch))
        await self._database.execute_at_once(*statement)
        return _Batch(list(batch), [Accepted(new.row["id"], new.row["created_at"]) for new in batch])


def _tickets(some: Sequence[New]) -> list[Ticket]:
    return [ticket for new in some for message in new.messages for ticket in message.tickets]


def _weight(new: New) -> int:
    return new.weight


def _key_id(new: New) -> KeyId | None:
    """What identifies the idempotency key, if there is one."""
    claim = new.idempotency
    return None if claim is None else (claim.principal_id, new.row["project_id"], claim.key)


def _write(connection: Connection, batch: Sequence[New]) -> _Batch:
    """The whole transaction of a batch."""
    sorted_out = _sort_out_replays(connection, batch)
    _insert(connection, sorted_out.fresh)
    return sorted_out


def _read(connection: Connection, read: Callable[[Connection], Sequence[NewMessage]]) -> Sequence[NewMessage]:
    fresh = read(connection)
    if fresh:
        _insert(connection, fresh)
    return fresh


def _sort_out_replays(connection: Connection, batch: Sequence[New]) -> _Batch:
    """Split a batch into new messages and replays of earlier ones, with the answer to each."""
    claims: dict[KeyId, New] = {}
    for new in batch:
        if (key_id := _key_id(new)) is not None:
            claims.setdefault(key_id, new)
    owners = _claim_keys(connection, claims) if claims else {}
    sorted_out = _Batch()
    for new in batch:
        key_id = _key_id(new)
        owner = None if key_id is None else owners.get(key_id)
        sorted_out.results.append(_answer(new, owner))
        if owner is None or owner.message_id == new.row["id"]:
            sorted_out.fresh.append(new)
    return sorted_out


@dataclass(frozen=True, slots=True)
class _Owner:
    """The message or batch that an idempotency key belongs to."""

    message_id: str
    body_hash: str
    created_at: datetime


def _answer(new: New, owner: _Owner | None) -> Accepted | Exception:
    if owner is None or owner.message_id == new.row["id"]:
        return Accepted(new.row["id"], new.row["created_at"])
    if new.idempotency is not None and owner.body_hash != new.idempotency.body_hash:
        return IdempotencyMismatchError(
            "Idempotency-Key was already used with a different body within 24 hours; "
            "use a new key for a new message, or repeat the first body exactly"
        )
    return Accepted(owner.message_id, owner.created_at, replayed=True)


def _claim_keys(connection: Connection, claims: dict[KeyId, New]) -> dict[KeyId, _Owner]:
    """Take each key for its message, unless a message of the last 24 hours has it already."""
    rows = [
        {
            "principal_id": key_id[0],
            "project_id": key_id[1],
            "key": key_id[2],
            "body_hash": new.idempotency.body_hash if new.idempotency else "",
            "message_id": new.row["id"],
            "created_at": new.row["created_at"],
            "expires_at": new.row["created_at"] + IDEMPOTENCY_WINDOW,
        }
        for key_id, new in sorted(claims.items())
    ]
    _CLAIM.run(connection, rows)
    query = select(idempotency_keys).where(idempotency_keys.c.key.in_([row["key"] for row in rows]))
    return {
        (row.principal_id, row.project_id, row.key): _Owner(row.message_id, row.body_hash, row.created_at)
        for row in connection.execute(query)
    }


def _claim_statement(dialect: str) -> sqlite.Insert | postgresql.Insert:
    claim = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(idempotency_keys)
    renewed = ("body_hash", "message_id", "created_at", "expires_at")
    return claim.on_conflict_do_update(
        index_elements=["principal_id", "project_id", "key"],
        set_={column: claim.excluded[column] for column in renewed},
        # Only a key whose window is over changes hands.
        where=idempotency_keys.c.expires_at < claim.excluded.created_at,
    )


_CLAIM = Bulk(
    _claim_statement, ("principal_id", "project_id", "key", "body_hash", "message_id", "created_at", "expires_at")
)
_INSERT_BATCHES = Bulk(lambda _: insert(batches), batches.c.keys())
_INSERT_MESSAGES = Bulk(
    lambda _: insert(messages),
    ("id", "project_id", "content", "options", "metadata", "created_by", "created_at", "batch_id"),
)
_DELIVERY = (
    *("id", "message_id", "batch_id", "project_id", "platform_id", "platform"),
    *("target_type", "target_id", "action", "lane", "rank"),
    *("state", "attempts", "throttles", "uncertain", "on_uncertain"),
    *("due_at", "first_due_at", "expires_at", "created_at"),
)
_INSERT_DELIVERIES = Bulk(lambda _: insert(deliveries), _DELIVERY)
# Apart, so that others do not pay for columns that they leave empty.
_INSERT_CHAINS = Bulk(lambda _: insert(deliveries), (*_DELIVERY, "fallback_rank", "fallback_after", "fallback_at"))


_INSERT_ALL = (_INSERT_BATCHES, _INSERT_MESSAGES, _INSERT_DELIVERIES, _INSERT_CHAINS, ADD_COUNTS)
_INSERT = Together(*_INSERT_ALL)


def _insert(connection: Connection, fresh: Sequence[New]) -> None:
    for bulk, rows in zip(_INSERT_ALL, _rows(fresh), strict=True):
        bulk.run(connection, rows)


def _rows(fresh: Sequence[New]) -> tuple[list[dict[str, Any]], ...]:
    """What is to be inserted, for each of `_INSERT_ALL`."""
    changes = CountChanges()
    new_messages = [message for new in fresh for message in new.messages]
    rows = [row for new in new_messages if not new.standbys for row in new.deliveries]
    chained = [row for new in new_messages if new.standbys for row in (*new.deliveries, *new.standbys)]
    for row in (*rows, *chained):
        changes.enter(row["project_id"], row["platform_id"], row["platform"], row["state"])
    batch_rows = [new.row for new in fresh if isinstance(new, NewBatch)]
    return batch_rows, [new.message for new in new_messages], rows, chained, changes.rows()
