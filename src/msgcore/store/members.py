"""Queries on the members of projects, and on invitations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Delete, Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.bulk import insert_once
from msgcore.store.tables import acquaintances, invites, project_members, projects, users


async def lock_members(connection: AsyncConnection, project_id: str) -> str | None:
    """The id of a project's owner; None if there is no such project.

    Transactions that change its members take turns from here on, so that none acts on a standing that another takes.
    """
    query = select(projects.c.owner_id).where(projects.c.id == project_id).with_for_update(key_share=True)
    return (await connection.execute(query)).scalar_one_or_none()


async def find_member(connection: AsyncConnection, project_id: str, user_id: str) -> Row[Any] | None:
    """A member of a project, with `user_email` and `user_name`."""
    query = (
        select(project_members, users.c.email.label("user_email"), users.c.name.label("user_name"))
        .join(users, users.c.id == project_members.c.user_id)
        .where(project_members.c.project_id == project_id, project_members.c.user_id == user_id)
    )
    return (await connection.execute(query)).one_or_none()


async def insert_member(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add a member. Raises IntegrityError for somebody who is one."""
    await connection.execute(insert(project_members).values(row))


async def set_role(connection: AsyncConnection, member_id: str, role: str, now: datetime) -> None:
    """Give a member another role."""
    statement = update(project_members).where(project_members.c.id == member_id)
    await connection.execute(statement.values(role=role, updated_at=now))


async def delete_member(connection: AsyncConnection, member_id: str) -> None:
    """Remove a member."""
    await connection.execute(delete(project_members).where(project_members.c.id == member_id))


async def count_members(connection: AsyncConnection, project_id: str) -> int:
    """How many members a project has."""
    query = select(func.count()).where(project_members.c.project_id == project_id)
    return (await connection.execute(query)).scalar_one()


async def is_known(connection: AsyncConnection, user_id: str, caller_id: str) -> bool:
    """Whether this account came in by a link that a user, or a key, made for its address."""
    query = select(acquaintances.c.user_id).where(
        acquaintances.c.user_id == user_id, acquaintances.c.known_to == caller_id
    )
    return (await connection.execute(query)).first() is not None


async def make_known(connection: AsyncConnection, user_id: str, caller_id: str, now: datetime) -> None:
    """Note that a user, or a key, has let this account in; twice is as good as once."""
    row = {"user_id": user_id, "known_to": caller_id, "created_at": now}
    await connection.execute(insert_once(acquaintances)(connection.dialect.name), row)


async def forget_acquaintances(connection: AsyncConnection, user_id: str) -> None:
    """Let nobody know this account any more: it gets another address."""
    await connection.execute(delete(acquaintances).where(acquaintances.c.user_id == user_id))


async def insert_invite(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add an invitation."""
    await connection.execute(insert(invites).values(row))


async def list_invites(connection: AsyncConnection, project_id: str, now: datetime) -> Sequence[Row[Any]]:
    """The invitations to a project that can be accepted at this moment, oldest first."""
    query = select(invites).where(invites.c.project_id == project_id, _is_open(now)).order_by(invites.c.id)
    return (await connection.execute(query)).all()


async def count_invites(connection: AsyncConnection, project_id: str, now: datetime) -> int:
    """How many invitations to a project can be accepted at this moment."""
    query = select(func.count()).where(invites.c.project_id == project_id, _is_open(now))
    return (await connection.execute(query)).scalar_one()


async def find_invite_by_digest(connection: AsyncConnection, digest: str, now: datetime) -> Row[Any] | None:
    """An invitation by the SHA-256 of its token, if it can be accepted at this moment."""
    query = select(invites).where(invites.c.token_hash == digest, _is_open(now))
    return (await connection.execute(query)).one_or_none()


async def take_invite(connection: AsyncConnection, invite_id: str, now: datetime) -> bool:
    """Use an invitation up; False if it has ended, was used or was revoked."""
    statement = update(invites).where(invites.c.id == invite_id, _is_open(now)).values(accepted_at=now)
    return (await connection.execute(statement)).rowcount == 1


async def delete_invite(connection: AsyncConnection, project_id: str, invite_id: str) -> Row[Any, Any] | None:
    """Revoke an invitation to a project: its role, or None if there is none."""
    meant = (invites.c.id == invite_id) & (invites.c.project_id == project_id) & invites.c.accepted_at.is_(None)
    statement = delete(invites).where(meant).returning(invites.c.id, invites.c.role)
    return (await connection.execute(statement)).one_or_none()


async def delete_stale_invites(
    connection: AsyncConnection, project_id: str, email: str, now: datetime
) -> Sequence[Any]:
    """Delete the invitations to a project that ended, and those to this address; the ones that could be accepted."""
    ended = (invites.c.expires_at <= now) | (invites.c.email == email)
    return await _delete_invites(connection, delete(invites).where(invites.c.project_id == project_id, ended), now)


async def delete_invites_above(
    connection: AsyncConnection, project_id: str, invited_by: str, roles: Sequence[str], now: datetime
) -> Sequence[Any]:
    """Revoke the invitations with one of these roles that a user or a key made to a project.

    Gives the ones that could be accepted.
    """
    made = (invites.c.project_id == project_id) & (invites.c.invited_by == invited_by) & invites.c.role.in_(roles)
    return await _delete_invites(connection, delete(invites).where(made), now)


async def shorten_invites(connection: AsyncConnection, invited_by: str, end: datetime) -> None:
    """Let the invitations that a user or a key made end at this moment, if not before."""
    later = (invites.c.invited_by == invited_by) & (invites.c.expires_at > end)
    await connection.execute(update(invites).where(later).values(expires_at=end))


async def _delete_invites(connection: AsyncConnection, statement: Delete, now: datetime) -> Sequence[Any]:
    gone = await connection.execute(
        statement.returning(invites.c.id, invites.c.role, invites.c.accepted_at, invites.c.expires_at)
    )
    return [row for row in gone if row.accepted_at is None and row.expires_at > now]


def _is_open(now: datetime) -> ColumnElement[bool]:
    return invites.c.accepted_at.is_(None) & (invites.c.expires_at > now)
