"""Queries on projects and their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.events import realm_of
from msgcore.store.bulk import lock_in_order
from msgcore.store.events import kept_projects
from msgcore.store.key_news import tell_project
from msgcore.store.tables import (
    api_keys,
    attempts,
    batches,
    deliveries,
    delivery_counts,
    idempotency_keys,
    messages,
    project_members,
    project_platforms,
    projects,
    users,
    webhooks,
)
from msgcore.store.users import lock_user


def _with_owner() -> Select[Any]:
    """Projects with their owner and counts; the counts are of keys that work, platforms and members."""
    return select(
        projects,
        users.c.email.label("owner_email"),
        users.c.name.label("owner_name"),
        _count(api_keys.c.project_id, api_keys.c.revoked_at.is_(None)).label("api_key_count"),
        _count(project_platforms.c.project_id).label("platform_count"),
        _count(project_members.c.project_id).label("member_count"),
    ).join(users, users.c.id == projects.c.owner_id)


def _count(project_id: ColumnElement[Any], *conditions: ColumnElement[bool]) -> Any:
    return select(func.count()).where(project_id == projects.c.id, *conditions).scalar_subquery()


async def find_project(connection: AsyncConnection, project_id: str) -> Row[Any] | None:
    """A project with `owner_email`, `owner_name`, `api_key_count`, `platform_count` and `member_count`."""
    return (await connection.execute(_with_owner().where(projects.c.id == project_id))).one_or_none()


async def hold_project(connection: AsyncConnection, project_id: str) -> Row[Any] | None:
    """A project, which nobody begins to delete until the transaction ends; others who ask for it wait for that."""
    query = select(projects).where(projects.c.id == project_id)
    return (await connection.execute(query.with_for_update(key_share=True))).one_or_none()


async def keep_project(connection: AsyncConnection, project_id: str) -> None:
    """Let nobody delete a project until the transaction ends; whoever does already is waited for.

    For transactions that lock what hangs on a project and write to its log: in this order, as deleting it does.
    """
    await connection.run_sync(kept_projects, (project_id,))


async def list_projects(connection: AsyncConnection, *, user_id: str | None) -> Sequence[Row[Any]]:
    """Projects of a user (None: all), as `find_project` gives them, oldest first."""
    query = _with_owner().order_by(projects.c.created_at, projects.c.id)
    if user_id is not None:
        joined = select(project_members.c.project_id).where(project_members.c.user_id == user_id)
        query = query.where(or_(projects.c.owner_id == user_id, projects.c.id.in_(joined)))
    return (await connection.execute(query)).all()


async def list_members(connection: AsyncConnection, project_ids: Sequence[str]) -> Sequence[Row[Any]]:
    """The members of these projects, with `user_email` and `user_name`."""
    query = (
        select(project_members, users.c.email.label("user_email"), users.c.name.label("user_name"))
        .join(users, users.c.id == project_members.c.user_id)
        .where(project_members.c.project_id.in_(project_ids))
        .order_by(project_members.c.created_at, project_members.c.id)
    )
    return (await connection.execute(query)).all()


async def find_role(connection: AsyncConnection, project_id: str, user_id: str) -> Row[Any, Any] | None:
    """`owner_id` of a project and `role` of a user there (None: no member); None if there is no such project."""
    query = (
        select(projects.c.owner_id, project_members.c.role)
        .outerjoin(
            project_members,
            (project_members.c.project_id == projects.c.id) & (project_members.c.user_id == user_id),
        )
        .where(projects.c.id == project_id)
    )
    return (await connection.execute(query)).one_or_none()


async def insert_project(connection: AsyncConnection, row: dict[str, Any], member: dict[str, Any]) -> None:
    """Add a project and its first member. Raises IntegrityError when the id is taken."""
    await connection.execute(insert(projects).values(row))
    await connection.execute(insert(project_members).values(member))
    # What was just being accepted when an earlier project of this id was deleted is not this one's.
    await _empty(connection, [row["id"]])


async def update_project(connection: AsyncConnection, project_id: str, values: dict[str, Any]) -> None:
    """Change columns of a project."""
    await connection.execute(update(projects).where(projects.c.id == project_id).values(values))


async def find_owner(connection: AsyncConnection, project_id: str) -> str | None:
    """The id of a project's owner."""
    return await connection.scalar(select(projects.c.owner_id).where(projects.c.id == project_id))


async def count_owned(connection: AsyncConnection, owner_id: str) -> int:
    """How many projects somebody owns."""
    query = select(func.count()).where(projects.c.owner_id == owner_id)
    return (await connection.execute(query)).scalar_one()


async def clear_default(connection: AsyncConnection, owner_id: str) -> Sequence[str]:
    """Let no project of an owner be the default one; the ids of those that were.

    An owner has one at most: whoever makes another one the default waits for the transaction.
    """
    await lock_user(connection, owner_id)
    owned = (projects.c.owner_id == owner_id) & projects.c.is_default
    cleared = update(projects).where(owned).values(is_default=False).returning(projects.c.id)
    return (await connection.execute(cleared)).scalars().all()


async def delete_project(connection: AsyncConnection, project_id: str) -> None:
    """Remove a project with everything in it.

    Foreign keys take what hangs on the project; the hot tables have none and are emptied by hand.
    """
    # Before what is posted to them, as who changes or feeds a webhook does.
    await lock_in_order(connection, webhooks.c.project_id, [project_id])
    posted_to = (await connection.execute(select(webhooks.c.id).where(webhooks.c.project_id == project_id))).scalars()
    await _empty(connection, [project_id, *map(realm_of, posted_to)])
    for mine in (projects.c.id, api_keys.c.project_id):  # whose use is noted for several at once
        await lock_in_order(connection, mine, [project_id])
    await connection.execute(delete(projects).where(projects.c.id == project_id))
    await tell_project(connection, project_id)


async def _empty(connection: AsyncConnection, realms: Sequence[str]) -> None:
    """Remove what is sent from the hot tables."""
    await lock_in_order(connection, deliveries.c.project_id, realms)
    sent = select(deliveries.c.id).where(deliveries.c.project_id.in_(realms))
    await connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(sent)))
    for table in (deliveries, messages, batches, delivery_counts, idempotency_keys):
        await connection.execute(delete(table).where(table.c.project_id.in_(realms)))
