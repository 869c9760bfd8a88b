"""Working on deliveries: what a worker reads before an attempt and writes after it.

Two transactions a batch: `begin` marks the attempts as started (see `beginning`), and `record` writes
what became of them (see `recording`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
from sqlalchemy import Text, insert, or_, select, type_coerce, update

from msgcore.core.ids import new_id
from msgcore.store.bulk import Among
from msgcore.store.database import Database
from msgcore.store.events import NewEvent, append
from msgcore.store.ledger.beginning import WorkItem, begin
from msgcore.store.ledger.parts import split_parts
from msgcore.store.ledger.recording import WorkResult, record
from msgcore.store.pauses import PausedBy
from msgcore.store.projects import keep_project
from msgcore.store.tables import deliveries, messages, platform_logs, project_platforms
from msgcore.store.tables.messages import IS_TO_CHAT
from msgcore.store.webhook_attempts import record_attempts


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as the ledger has it: JSON texts."""

    content: str
    options: str | None


_SELECT_MESSAGES = select(
    messages.c.id, type_coerce(messages.c.content, Text), type_coerce(messages.c.options, Text)
).where(Among(messages.c.id))


class WorkLog:
    """The worker's side of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def parallel(self) -> int:
        """How many batches are best written at once."""
        return self._database.parallel

    async def begin(self, delivery_ids: Sequence[str], now: datetime) -> list[WorkItem]:
        """Start an attempt of each delivery that is still open and was not put off; the others are left out.

        A delivery found in `sending` was started before and never ended: its last attempt is
        written to its timeline as uncertain.
        """
        items = await begin(self._database, delivery_ids, now)
        # Claims come in the order of the lanes' turns; keep it.
        by_id = {item.id: item for item in items}
        return [by_id[i] for i in delivery_ids if i in by_id]

    async def load_messages(self, message_ids: Sequence[str]) -> dict[str, StoredMessage]:
        """The content and options of messages, by id."""
        async with self._database.read() as connection:
            rows = await connection.execute(_SELECT_MESSAGES, {"ids": list(message_ids)})
            return {id_: StoredMessage(content, options) for id_, content, options in rows}

    async def is_of_another(self, item: WorkItem, provider_message_id: str) -> bool:
        """Whether this is the platform's id of another delivery to the same chat, or of a part of one."""
        row = deliveries.c
        is_part = row.part_ids.contains(provider_message_id, autoescape=True)
        query = select(row.provider_message_id, row.part_ids).where(
            *(IS_TO_CHAT, row.platform_id == item.platform_id, row.target_id == item.target_id),
            *(row.id != item.id, or_(row.provider_message_id == provider_message_id, is_part)),
        )
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return any(provider_message_id in (each.provider_message_id, *split_parts(each.part_ids)) for each in found)

    async def record(self, results: Sequence[WorkResult]) -> None:
        """Write the end of attempts: state, timeline, counts and, for failures, the platform's log.

        A result whose delivery is already in a newer attempt, or final, goes to the timeline only:
        a delivery is never completed twice.
        """
        # First, since it may be written twice: a fault between the two is met by recording both again.
        await record_attempts(self._database, results)
        await record(self._database, results)

    async def pause_account(
        self, item: WorkItem, reason: str, version: datetime, now: datetime
    ) -> Literal["now", "already", "changed"]:
        """Note that a platform refused an account's credentials as they were at `version` (`updated_at`).

        Tells whether it is noted `now`, was noted `already`, or the account was `changed` or deleted since:
        then this says nothing about it, and it is not paused.
        """
        account = project_platforms.c
        same = (account.id == item.platform_id) & (account.updated_at == version)
        pause = (
            update(project_platforms)
            .where(same, account.paused_at.is_(None))
            .values(paused_at=now, paused_by=PausedBy.CREDENTIALS, paused_reason=reason)
        )
        about = {"project_id": item.project_id, "platform_id": item.platform_id}
        async with self._database.write() as connection:
            await keep_project(connection, item.project_id)
            if not (await connection.execute(pause)).rowcount:
                known = (await connection.execute(select(account.id).where(same))).first()
                return "changed" if known is None else "already"
            await connection.execute(
                insert(platform_logs),
                {
                    **about,
                    "id": new_id(),
                    "platform": item.platform,
                    "level": "error",
                    "category": "auth",
                    "message": "Paused: the platform refused the credentials",
                    "error": reason,
                    "timestamp": now,
                },
            )
            data = {
                "platform_id": item.platform_id,
                "platform": item.platform,
                "by": PausedBy.CREDENTIALS,
                "reason": reason,
            }
            event = NewEvent(item.project_id, "platform.paused", data, now, item.platform_id)
            await connection.run_sync(append, [event])
        return "now"
