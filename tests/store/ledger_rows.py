"""Rows for ledger tests: a project with one platform, and messages to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from msgcore.core.deliveries import Ticket
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.ledger.accept import IdempotencyClaim, NewMessage
from msgcore.store.tables import project_platforms, projects, users

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PROJECT = "shop"
ACCOUNT = "01920000-0000-7000-8000-0000000000aa"
CALLER = "01920000-0000-7000-8000-0000000000bb"


async def add_project(database: Database, project_id: str = PROJECT, account_id: str = ACCOUNT) -> None:
    user_id = new_id()
    stamps = {"created_at": NOW, "updated_at": NOW}
    async with database.write() as connection:
        await connection.execute(
            insert(users), {"id": user_id, "email": f"{user_id}@example.com", "is_admin": False, **stamps}
        )
        await connection.execute(
            insert(projects),
            {
                "id": project_id,
                "name": "Shop",
                "environment": "development",
                "is_default": False,
                "owner_id": user_id,
                **stamps,
            },
        )
        await connection.execute(
            insert(project_platforms),
            {
                "id": account_id,
                "project_id": project_id,
                "platform": "sandbox",
                "name": "s",
                "credentials_encrypted": "",
                "webhook_token": new_id(),
                "is_active": True,
                "test_mode": False,
                **stamps,
            },
        )


def new_message(
    *targets: str,
    key: str | None = None,
    body_hash: str = "h",
    due_in: timedelta = timedelta(0),
    project_id: str = PROJECT,
    now: datetime = NOW,
    **columns: Any,
) -> NewMessage:
    message_id = new_id()
    rows = [
        {
            "id": new_id(),
            "message_id": message_id,
            "batch_id": None,
            "project_id": project_id,
            "platform_id": ACCOUNT,
            "platform": "sandbox",
            "target_type": "user",
            "target_id": target,
            "action": None,
            "lane": f"user:{target}",
            "rank": 1,
            "state": "scheduled" if due_in > timedelta(0) else "queued",
            "attempts": 0,
            "throttles": 0,
            "uncertain": False,
            "on_uncertain": "resend",
            "due_at": now + due_in,
            "first_due_at": now + due_in,
            "expires_at": None,
            "created_at": now,
            **columns,
        }
        for target in targets or ("ann",)
    ]
    message = {
        "id": message_id,
        "project_id": project_id,
        "content": {"text": "hello"},
        "options": None,
        "metadata": None,
        "created_by": CALLER,
        "created_at": now,
        "batch_id": None,
    }
    claim = None if key is None else IdempotencyClaim(CALLER, key, body_hash)
    tickets = [Ticket(row["id"], ACCOUNT, row["lane"], delay=due_in.total_seconds()) for row in rows]
    return NewMessage(message, rows, tickets, claim)


def new_chain(*targets: str, after: int | None = None, **columns: Any) -> NewMessage:
    """A message to the first of these targets, with the others as its fallbacks."""
    new = new_message(*targets, **columns)
    places = [{"platformId": ACCOUNT, "type": "user", "id": target} for target in targets[1:]]
    new.message["options"] = {"fallback": {"targets": places}}
    first, *others = (row | {"fallback_after": after, "fallback_at": None} for row in new.deliveries)
    standbys = [row | {"state": "standby", "fallback_rank": number} for number, row in enumerate(others, 1)]
    if after is not None:
        standbys[0]["fallback_at"] = first["due_at"] + timedelta(seconds=after)
    return NewMessage(
        new.message,
        [first | {"fallback_rank": 0, "fallback_after": None}],
        new.tickets[:1],
        new.idempotency,
        standbys=standbys,
    )
