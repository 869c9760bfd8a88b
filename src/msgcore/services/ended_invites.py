"""Invitations that end because of something else: another one, or what became of who made them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.scopes import Principal, Role
from msgcore.store.audit import AuditEntry, record_all
from msgcore.store.members import delete_invites_above


async def end_invites(
    connection: AsyncConnection,
    principal: Principal,
    project_id: str,
    invited_by: str,
    now: datetime,
    *,
    roles: Iterable[Role] = Role,
) -> None:
    """Revoke the invitations to a project with these roles that a user or a key made, because of what a caller does."""
    gone = await delete_invites_above(connection, project_id, invited_by, [role.label for role in roles], now)
    await note_ends(connection, principal, project_id, gone, now)


async def note_ends(
    connection: AsyncConnection, principal: Principal, project_id: str, gone: Sequence[Any], now: datetime
) -> None:
    """Write down that these invitations are revoked."""
    told = [AuditEntry(principal, "invite.revoked", row.id, project_id, now, before={"role": row.role}) for row in gone]
    await record_all(connection, told)
