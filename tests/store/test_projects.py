"""Projects that go, and others that get their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from msgcore.core.deliveries import Ticket
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.ledger.accept import AcceptLog
from msgcore.store.projects import delete_project, find_project, insert_project
from msgcore.store.tables import deliveries, delivery_counts, idempotency_keys, messages
from store.ledger_rows import NOW, PROJECT, add_project, new_message


async def test_what_came_too_late_for_a_deleted_project_is_not_its_successors(database: Database) -> None:
    """A message that was being accepted while the project was deleted: the ledger asks nobody whether it is there."""

    async def nobody(tickets: Sequence[Ticket]) -> None:
        del tickets

    await add_project(database)
    async with database.write() as connection:
        project: Any = await find_project(connection, PROJECT)
        await delete_project(connection, PROJECT)
    await AcceptLog(database, nobody).accept(new_message(key="k"))
    stamps = {"created_at": NOW, "updated_at": NOW}
    row = {"id": PROJECT, "name": "S", "environment": "staging", "is_default": False, "owner_id": project.owner_id}
    member = {"id": new_id(), "project_id": PROJECT, "user_id": project.owner_id, "role": "owner"}
    async with database.write() as connection:
        await insert_project(connection, row | stamps, member | stamps)
    async with database.read() as connection:
        for table in (deliveries, delivery_counts, idempotency_keys, messages):
            left = select(func.count()).select_from(table).where(table.c.project_id == PROJECT)
            assert (await connection.execute(left)).scalar_one() == 0, table.name
