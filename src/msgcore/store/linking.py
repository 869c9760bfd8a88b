"""Accounts of authors and the identities that they belong to, within the transaction of what was received."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from msgcore.store.bulk import Among
from msgcore.store.tables import identities, identity_aliases
from msgcore.store.tables.base import Id

MOST_ALIASES = 100
"""Of one identity: its answer holds all of them."""

_ALIAS = identity_aliases.c
_OF_USERS = select(_ALIAS.provider_user_id, _ALIAS.identity_id).where(
    _ALIAS.platform_id == bindparam("platform_id", type_=Id()), Among(_ALIAS.provider_user_id, "users")
)
# Locked, so that none is deleted before an account is linked to it. In the order of the ids, against deadlocks.
_BY_EMAIL = (
    select(identities.c.id, identities.c.email)
    .where(identities.c.project_id == bindparam("project_id"), Among(identities.c.email, "emails"))
    .order_by(identities.c.id)
    .with_for_update()
)
_FULL = (
    select(_ALIAS.identity_id)
    .where(Among(_ALIAS.identity_id))
    .group_by(_ALIAS.identity_id)
    .having(func.count() >= MOST_ALIASES)
)


def find_identities(connection: Connection, platform_id: str, users: Collection[str]) -> dict[str, str]:
    """The identities that users of a platform belong to, by user; nothing of those who belong to none."""
    rows = connection.execute(_OF_USERS, {"platform_id": platform_id, "users": sorted(users)})
    return {row.provider_user_id: row.identity_id for row in rows}


def find_by_email(connection: Connection, project_id: str, emails: Collection[str]) -> dict[str, str]:
    """The identities of a project with these addresses (in small letters), where just one has it, by address.

    Not those that have as many aliases as an identity may. They stay until the transaction ends.
    """
    rows = connection.execute(_BY_EMAIL, {"project_id": project_id, "emails": sorted(emails)}).all()
    numbers = [row.email for row in rows]
    owners = {row.email: row.id for row in rows if numbers.count(row.email) == 1}
    full = set(connection.execute(_FULL, {"ids": list(owners.values())}).scalars()) if owners else set[str]()
    return {email: id_ for email, id_ in owners.items() if id_ not in full}


def link(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add aliases, but for accounts that were linked meanwhile; those that were added."""
    if not rows:
        return []
    make = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = make(identity_aliases).values(list(rows)).on_conflict_do_nothing().returning(_ALIAS.id)
    added = set(connection.execute(statement).scalars())
    return [row for row in rows if row["id"] in added]
