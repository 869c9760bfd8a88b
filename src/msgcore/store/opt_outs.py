"""Who wants nothing more to be sent to them, by platform. Ids of users are compared as `PlatformDeclaration` says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Row,
    bindparam,
    case,
    delete,
    exists,
    func,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.bulk import Among, Bulk, insert_once
from msgcore.store.database import Database
from msgcore.store.tables import identity_aliases, opt_outs, project_platforms
from msgcore.store.tables.base import Id


class OptOut(msgspec.Struct, frozen=True):
    """Somebody's wish to be sent nothing on a platform; `word` is what they wrote, if it was by a message."""

    id: str
    project_id: str
    platform_id: str
    platform: str
    provider_user_id: str
    provider_chat_id: str | None
    opted_out_at: datetime
    word: str | None = None


@dataclass(frozen=True, slots=True)
class OptOutFilter:
    """Which opt-outs of a project; None leaves a condition out."""

    project_id: str
    platform_id: str | None = None
    provider_user_id: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same in SQL."""
        conditions = [opt_outs.c.project_id == self.project_id]
        if self.platform_id is not None:
            conditions.append(opt_outs.c.platform_id == self.platform_id)
        if self.provider_user_id is not None:
            # In small letters too, as they are kept of platforms that ignore capitals.
            users = (self.provider_user_id, self.provider_user_id.lower())
            conditions.append(opt_outs.c.provider_user_id.in_(users))
        return conditions


_COLUMNS = tuple(opt_outs.c[name] for name in OptOut.__struct_fields__)
_ADD = Bulk(insert_once(opt_outs), opt_outs.c.keys())
_OF_PLATFORM = opt_outs.c.platform_id == bindparam("platform_id", type_=Id())
_OF_USERS = select(*_COLUMNS).where(_OF_PLATFORM, Among(opt_outs.c.provider_user_id, "users"))
_REMOVE = delete(opt_outs).where(Among(opt_outs.c.id))
_ANY_ON = select(project_platforms.c.id).where(
    Among(project_platforms.c.id), exists().where(opt_outs.c.platform_id == project_platforms.c.id)
)


def _to_any() -> Executable:
    """By the user or the direct chat: two queries, each by its own index."""
    on = Among(opt_outs.c.platform_id, "platforms")
    users = select(*_COLUMNS).where(on, Among(opt_outs.c.provider_user_id, "targets"))
    return union_all(users, select(*_COLUMNS).where(on, Among(opt_outs.c.provider_chat_id, "targets")))


_TO_ANY = _to_any()


# --- what is sent


async def platforms_with_any(database: Database, platform_ids: Collection[str]) -> set[str]:
    """On which of these platforms anybody opted out."""
    async with database.read() as connection:
        return set((await connection.execute(_ANY_ON, {"ids": list(platform_ids)})).scalars())


async def find_targets(database: Database, platform_ids: Collection[str], targets: Collection[str]) -> list[OptOut]:
    """The opt-outs on these platforms whose user or direct chat is among these."""
    arguments = {"platforms": list(platform_ids), "targets": list(targets)}
    async with database.read() as connection:
        return [OptOut(*row) for row in await connection.execute(_TO_ANY, arguments)]


def is_opted_out(alias: Any = identity_aliases.c) -> ColumnElement[bool]:
    """Whether an alias's account opted out. The bound list `ignoring_case` names the platforms that ignore capitals."""
    return exists().where(*_same(alias)).correlate_except(opt_outs)


def opted_out_at(alias: Any = identity_aliases.c) -> Any:
    """When an alias's account opted out; bound as in `is_opted_out`."""
    return select(opt_outs.c.opted_out_at).where(*_same(alias)).correlate_except(opt_outs).scalar_subquery()


def _same(alias: Any) -> tuple[ColumnElement[bool], ...]:
    key = case(
        (Among(alias.platform, "ignoring_case"), func.lower(alias.provider_user_id)), else_=alias.provider_user_id
    )
    return opt_outs.c.platform_id == alias.platform_id, opt_outs.c.provider_user_id == key


# --- what is received


def find_users(connection: Connection, platform_id: str, users: Collection[str]) -> dict[str, OptOut]:
    """The opt-outs of these users of a platform, by user."""
    rows = connection.execute(_OF_USERS, {"platform_id": platform_id, "users": sorted(users)})
    return {found.provider_user_id: found for found in (OptOut(*row) for row in rows)}


def change(connection: Connection, *, added: Sequence[OptOut], removed: Sequence[OptOut]) -> None:
    """Write down opt-outs, unless they are known, and forget others."""
    if removed:
        connection.execute(_REMOVE, {"ids": [each.id for each in removed]})
    _ADD.run(connection, [msgspec.structs.asdict(each) for each in added])


# --- what is entered


async def add(connection: AsyncConnection, new: OptOut) -> tuple[OptOut, bool]:
    """Write an opt-out down; the one that there is now, and whether it is new."""
    make = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    # An update that changes nothing: so the row in the way comes back, whoever removes it meanwhile.
    statement = make(opt_outs).values(msgspec.structs.asdict(new))
    statement = statement.on_conflict_do_update(
        index_elements=["platform_id", "provider_user_id"], set_={"opted_out_at": opt_outs.c.opted_out_at}
    )
    found = OptOut(*(await connection.execute(statement.returning(*_COLUMNS))).one())
    return found, found.id == new.id


async def remove(connection: AsyncConnection, project_id: str, opt_out_id: str) -> OptOut | None:
    """Forget an opt-out of a project; the one that it was."""
    chosen = delete(opt_outs).where(opt_outs.c.id == opt_out_id, opt_outs.c.project_id == project_id)
    row = (await connection.execute(chosen.returning(*_COLUMNS))).one_or_none()
    return None if row is None else OptOut(*row)


async def list_opt_outs(
    connection: AsyncConnection, chosen: OptOutFilter, *, limit: int, before: str | None
) -> Sequence[OptOut]:
    """A page, newest first, of those with ids below `before`."""
    query = select(*_COLUMNS).where(*chosen.conditions())
    if before is not None:
        query = query.where(opt_outs.c.id < before)
    rows: Sequence[Row[Any]] = (await connection.execute(query.order_by(opt_outs.c.id.desc()).limit(limit))).all()
    return [OptOut(*row) for row in rows]
