"""Queries on people and the accounts that are theirs on platforms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, Table, delete, func, insert, or_, select, union_all, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.opt_outs import opted_out_at
from msgcore.store.projects import keep_project
from msgcore.store.tables import identities, identity_aliases, project_platforms, received_messages, received_reactions

# --- people


async def insert_identity(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """Add a person."""
    await connection.execute(insert(identities).values(row))


async def list_identities(
    connection: AsyncConnection, project_id: str, *, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """A page of a project's people, newest first."""
    return await _page(connection, identities.c.project_id == project_id, limit=limit, offset=offset)


async def search_identities(
    connection: AsyncConnection, project_id: str, text: str, *, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """A page of those with this text in their names or address, or with exactly this id on a platform, newest first.

    Capitals count as small letters; on SQLite only those of ASCII.
    """
    alias = identity_aliases.c
    linked = select(alias.identity_id).where(
        alias.project_id == project_id,
        or_(alias.provider_user_id == text, alias.provider_user_display.icontains(text, autoescape=True)),
    )
    matches = or_(
        identities.c.display_name.icontains(text, autoescape=True),
        identities.c.email.icontains(text, autoescape=True),
        identities.c.id.in_(linked),
    )
    return await _page(connection, identities.c.project_id == project_id, matches, limit=limit, offset=offset)


async def find_identity(connection: AsyncConnection, project_id: str, identity_id: str) -> Row[Any] | None:
    """A person of a project."""
    return (await connection.execute(_one(project_id, identity_id))).one_or_none()


async def lock_identity(connection: AsyncConnection, project_id: str, identity_id: str) -> Row[Any] | None:
    """A person of a project. Until the transaction ends, nobody else changes them, nor which aliases they have."""
    await keep_project(connection, project_id)
    return (await connection.execute(_one(project_id, identity_id).with_for_update())).one_or_none()


async def find_linked(
    connection: AsyncConnection, project_id: str, platform_id: str, provider_user_id: str
) -> Row[Any] | None:
    """The person whose account on a platform this is."""
    query = (
        select(identities)
        .join(identity_aliases, identity_aliases.c.identity_id == identities.c.id)
        .where(
            identities.c.project_id == project_id,
            identity_aliases.c.platform_id == platform_id,
            identity_aliases.c.provider_user_id == provider_user_id,
        )
    )
    return (await connection.execute(query)).one_or_none()


async def update_identity(connection: AsyncConnection, identity_id: str, values: dict[str, Any]) -> None:
    """Change columns of a person."""
    await connection.execute(update(identities).where(identities.c.id == identity_id).values(values))


async def delete_identity(connection: AsyncConnection, project_id: str, identity_id: str) -> bool:
    """Remove a person with their aliases; whether there was one."""
    await keep_project(connection, project_id)
    chosen = delete(identities).where(identities.c.id == identity_id, identities.c.project_id == project_id)
    return (await connection.execute(chosen)).rowcount > 0


# --- aliases


async def list_aliases(
    connection: AsyncConnection, identity_ids: Sequence[str], ignoring_case: Sequence[str]
) -> Sequence[Row[Any]]:
    """The aliases of these people, oldest first, each with its `platform_name`, and `opted_out_at` where it did.

    `ignoring_case` names the platforms on which capitals in ids of users make no difference.
    """
    name, moment = project_platforms.c.name.label("platform_name"), opted_out_at().label("opted_out_at")
    query = (
        select(identity_aliases, name, moment)
        .join(project_platforms, project_platforms.c.id == identity_aliases.c.platform_id)
        .where(identity_aliases.c.identity_id.in_(identity_ids))
        .order_by(identity_aliases.c.id)
    )
    return (await connection.execute(query, {"ignoring_case": ignoring_case})).all()


async def count_aliases(connection: AsyncConnection, identity_id: str) -> int:
    """How many aliases a person has."""
    query = select(func.count()).select_from(identity_aliases).where(identity_aliases.c.identity_id == identity_id)
    return (await connection.execute(query)).scalar_one()


async def hold_platforms(connection: AsyncConnection, project_id: str, platform_ids: Iterable[str]) -> dict[str, str]:
    """Which of these ids are platforms of the project, and what platform each is on.

    They are there until the transaction ends.
    """
    await keep_project(connection, project_id)
    query = (
        select(project_platforms.c.id, project_platforms.c.platform)
        .where(project_platforms.c.project_id == project_id, project_platforms.c.id.in_(sorted(set(platform_ids))))
        .order_by(project_platforms.c.id)
        .with_for_update(read=True, key_share=True)
    )
    return {row.id: row.platform for row in await connection.execute(query)}


async def insert_aliases(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> Sequence[Row[Any]]:
    """Add aliases; those rows come back whose account is somebody's already, with who that is.

    When any come back, nothing may be kept: roll back. While another transaction adds one of the same accounts,
    this waits for its end.
    """
    # All transactions add in the same order: two that wait for each other would never end.
    ordered = sorted(rows, key=lambda row: (row["platform_id"], row["provider_user_id"]))
    make = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # An update that changes nothing: only so does the row in the way come back, whoever removes it meanwhile.
    statement = make(identity_aliases).values(ordered)
    statement = statement.on_conflict_do_update(
        index_elements=["platform_id", "provider_user_id"], set_={"linked_at": identity_aliases.c.linked_at}
    )
    found = (await connection.execute(statement.returning(*identity_aliases.c))).all()
    ours = {row["id"] for row in rows}
    return [row for row in found if row.id not in ours]


async def delete_alias(connection: AsyncConnection, identity_id: str, alias_id: str) -> bool:
    """Remove an alias of a person; whether there was one."""
    chosen = delete(identity_aliases).where(
        identity_aliases.c.id == alias_id, identity_aliases.c.identity_id == identity_id
    )
    return (await connection.execute(chosen)).rowcount > 0


# --- what they wrote


async def list_messages_of(
    connection: AsyncConnection, identity_id: str, *, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """A page of the messages that came from any of a person's accounts, newest first.

    Each comes with `is_active` and `test_mode` of its platform.
    """
    ids = await _page_from(connection, received_messages, identity_id, limit=limit, offset=offset)
    query = (
        select(received_messages, project_platforms.c.is_active, project_platforms.c.test_mode)
        .join(project_platforms, project_platforms.c.id == received_messages.c.platform_id)
        .where(received_messages.c.id.in_(ids))
        .order_by(received_messages.c.id.desc())
    )
    return (await connection.execute(query)).all() if ids else ()


async def list_reactions_of(
    connection: AsyncConnection, identity_id: str, *, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """A page of the reactions that came from any of a person's accounts, newest first."""
    ids = await _page_from(connection, received_reactions, identity_id, limit=limit, offset=offset)
    query = select(received_reactions).where(received_reactions.c.id.in_(ids))
    return (await connection.execute(query.order_by(received_reactions.c.id.desc()))).all() if ids else ()


async def _page_from(
    connection: AsyncConnection, received: Table, identity_id: str, *, limit: int, offset: int
) -> Sequence[str]:
    """Ids of a page of what came from any of a person's accounts, newest first.

    Each account has its own part of an index, which is read as far as the page goes: of all of them together, both
    databases would read and sort everything that the person ever wrote.
    """
    alias, table = identity_aliases.c, received.c
    accounts = select(alias.platform_id, alias.provider_user_id).where(alias.identity_id == identity_id)
    newest = [
        select(table.id)
        .where(table.platform_id == account.platform_id, table.provider_user_id == account.provider_user_id)
        .order_by(table.id.desc())
        .limit(limit + offset)
        .subquery()
        for account in await connection.execute(accounts)
    ]
    if not newest:
        return ()
    found = union_all(*(select(each.c.id) for each in newest))
    page = found.order_by(found.selected_columns.id.desc()).limit(limit).offset(offset)
    return (await connection.execute(page)).scalars().all()


def _one(project_id: str, identity_id: str) -> Select[Any]:
    return select(identities).where(identities.c.id == identity_id, identities.c.project_id == project_id)


async def _page(
    connection: AsyncConnection, *conditions: ColumnElement[bool], limit: int, offset: int
) -> Sequence[Row[Any]]:
    query = select(identities).where(*conditions).order_by(identities.c.id.desc()).limit(limit).offset(offset)
    return (await connection.execute(query)).all()
