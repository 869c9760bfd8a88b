"""Where identities and chats are reached: queries over all that one request names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Executable, String, bindparam, case, func, select

from msgcore.store.bulk import Among
from msgcore.store.database import Database
from msgcore.store.opt_outs import is_opted_out
from msgcore.store.tables import chats, identities, identity_aliases, project_platforms, received_messages

_ALIAS = identity_aliases.c


def _of_project(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Compared so that no index has it: SQLite, without statistics, would go through all rows of the project."""
    return func.coalesce(column, "") == bindparam("project_id", type_=String())


class Account(msgspec.Struct, frozen=True):
    """The account by which an identity is reached."""

    identity_id: str
    platform_id: str
    provider_user_id: str


class Standing(msgspec.Struct, frozen=True):
    """How many accounts an identity has, and how many of them cannot be sent to, and why."""

    identity_id: str
    accounts: int
    opted_out: int
    switched_off: int


class ChatPlace(msgspec.Struct, frozen=True):
    """A chat by our id, and where it is."""

    id: str
    platform_id: str
    platform: str
    provider_chat_id: str
    chat_type: str


def _reachable(*group: str) -> Executable:
    """The best account for each value of these columns, of those that can be sent to.

    That is the preferred platform's, else the one last written from, else the newest.
    """
    last = (
        select(received_messages.c.id)
        .where(
            received_messages.c.platform_id == _ALIAS.platform_id,
            received_messages.c.provider_user_id == _ALIAS.provider_user_id,
        )
        .order_by(received_messages.c.id.desc())
        .limit(1)
        .correlate(identity_aliases)
        .scalar_subquery()
    )
    preferred = case((_ALIAS.platform_id == identities.c.preferred_platform_id, 0), else_=1)
    usable = (
        select(_ALIAS.id, _ALIAS.identity_id, _ALIAS.platform_id, _ALIAS.provider_user_id)
        .add_columns(preferred.label("rank"), last.label("last"))
        .join_from(identities, identity_aliases, _ALIAS.identity_id == identities.c.id)
        .join(project_platforms, project_platforms.c.id == _ALIAS.platform_id)
        .where(
            _of_project(identities.c.project_id),
            Among(identities.c.id),
            project_platforms.c.is_active,
            Among(project_platforms.c.platform, "sending"),
            ~is_opted_out(),
        )
        .subquery()
    )
    order = (usable.c.rank, usable.c.last.desc().nulls_last(), usable.c.id.desc())
    place = func.row_number().over(partition_by=[usable.c[name] for name in group], order_by=order)
    ranked = select(usable, place.label("place")).subquery()
    columns = (ranked.c.identity_id, ranked.c.platform_id, ranked.c.provider_user_id)
    return select(*columns).where(ranked.c.place == 1)


_ANYWHERE = _reachable("identity_id")
_ON_EACH_PLATFORM = _reachable("identity_id", "platform_id")
_STANDING = (
    select(
        identities.c.id,
        func.count(_ALIAS.id),
        func.count(case((is_opted_out(), 1))),
        func.count(case((~project_platforms.c.is_active, 1))),
    )
    .select_from(identities)
    .outerjoin(identity_aliases, _ALIAS.identity_id == identities.c.id)
    .outerjoin(project_platforms, project_platforms.c.id == _ALIAS.platform_id)
    .where(_of_project(identities.c.project_id), Among(identities.c.id))
    .group_by(identities.c.id)
)
_CHATS = select(*(chats.c[name] for name in ChatPlace.__struct_fields__)).where(
    _of_project(chats.c.project_id), Among(chats.c.id)
)


class Rules(msgspec.Struct, frozen=True):
    """Names of platforms: those that can send, and those that ignore capitals in ids of users."""

    sending: list[str]
    ignoring_case: list[str]


async def reachable_accounts(database: Database, project_id: str, ids: Collection[str], rules: Rules) -> list[Account]:
    """The best account of each of these identities that can be sent to."""
    return await _accounts(database, _ANYWHERE, project_id, ids, rules)


async def reachable_on_platforms(
    database: Database, project_id: str, ids: Collection[str], rules: Rules
) -> list[Account]:
    """The best one on each platform on which they have any."""
    return await _accounts(database, _ON_EACH_PLATFORM, project_id, ids, rules)


async def _accounts(
    database: Database, statement: Executable, project_id: str, ids: Collection[str], rules: Rules
) -> list[Account]:
    arguments: dict[str, Any] = {"project_id": project_id, "ids": list(ids), **msgspec.structs.asdict(rules)}
    async with database.read() as connection:
        return [Account(*row) for row in await connection.execute(statement, arguments)]


async def standing(database: Database, project_id: str, ids: Collection[str], rules: Rules) -> dict[str, Standing]:
    """Why identities cannot be reached, by their ids; nothing of those that are not the project's."""
    arguments = {"project_id": project_id, "ids": list(ids), "ignoring_case": rules.ignoring_case}
    async with database.read() as connection:
        rows = await connection.execute(_STANDING, arguments)
        return {found.identity_id: found for found in (Standing(*row) for row in rows)}


async def find_chats(database: Database, project_id: str, ids: Collection[str]) -> dict[str, ChatPlace]:
    """The chats of a project with these ids, by id."""
    async with database.read() as connection:
        rows = await connection.execute(_CHATS, {"project_id": project_id, "ids": list(ids)})
        return {found.id: found for found in (ChatPlace(*row) for row in rows)}
