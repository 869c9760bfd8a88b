"""The audit log: who changed what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.store.tables import audit_logs


async def record_audit(
    connection: AsyncConnection,
    actor: Principal | None,
    action: str,
    subject_id: str,
    *,
    project_id: str,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write one entry, in the transaction of the change itself.

    `action` is `<subject>.<verb>` (`api_key.revoked`). `before` and `after` hold what changed, never a secret.
    Without an `actor` it was the operator, on the command line.
    """
    await connection.execute(
        insert(audit_logs).values(
            id=new_id(),
            project_id=project_id,
            actor_kind="operator" if actor is None else actor.kind,
            actor_id=None if actor is None else actor.id,
            action=action,
            subject_type=action.partition(".")[0],
            subject_id=subject_id,
            before=before,
            after=after,
            created_at=now,
        )
    )
