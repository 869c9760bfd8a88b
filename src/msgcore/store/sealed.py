"""What is stored encrypted: which columns, under which keys, and writing them anew under another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.store.bulk import Bulk
from msgcore.store.tables import project_platforms, system_state, webhooks

ENCRYPTION_CHECK = "encryption_check"
"""The ciphertext by which a start sees whether it has the key of this database."""


@dataclass(frozen=True)
class SealedColumn:
    """A column of tokens of the keyring. The value of `key` is what each is bound to; `only` tells which rows."""

    key: Column[Any]
    value: Column[Any]
    only: tuple[ColumnElement[bool], ...] = ()

    @property
    def name(self) -> str:
        """As operators see it."""
        return f"{self.value.table.name}.{self.value.name}"

    @cached_property
    def writing(self) -> Bulk:
        """Puts `b_new` where `b_old` still is: what somebody else changed meanwhile stays as it is."""
        is_it = self.key == bindparam("b_key", type_=self.key.type)
        is_old = self.value == bindparam("b_old", type_=self.value.type)
        changed = update(self.value.table).where(is_it, is_old).values({self.value: bindparam("b_new")})
        return Bulk(lambda _: changed, ("b_key", "b_old", "b_new"))


SEALED = (
    SealedColumn(project_platforms.c.id, project_platforms.c.credentials_encrypted),
    SealedColumn(webhooks.c.id, webhooks.c.secret_encrypted),
    SealedColumn(webhooks.c.id, webhooks.c.previous_secret_encrypted),
)
CHECK = SealedColumn(system_state.c.key, system_state.c.value, (system_state.c.key == ENCRYPTION_CHECK,))


@dataclass(frozen=True, slots=True)
class Resealed:
    """What was done to a batch: up to which key it went (None: nothing is left beyond it), and how many rows."""

    last: Any
    done: int
    unreadable: int


async def count_by_prefix(connection: AsyncConnection, sealed: SealedColumn, length: int) -> dict[str, int]:
    """How many tokens of a column there are by their first characters."""
    prefix = func.substr(sealed.value, 1, length).label("prefix")
    query = select(prefix, func.count().label("rows")).where(sealed.value.is_not(None), *sealed.only)
    return {row.prefix: row.rows for row in await connection.execute(query.group_by("prefix"))}


def reseal(
    connection: Connection,
    sealed: SealedColumn,
    renew: Callable[[str, str], str | None],
    *,
    current: str,
    after: Any,
    limit: int,
) -> Resealed:
    """Write the next tokens anew that do not begin with `current`; `after` is where the batch before ended.

    `renew` gives the token for a row's key and its present one, or None where that cannot be read. Rows that somebody
    else is changing are passed over, so this waits for nobody; what it changes is locked until the transaction ends.
    """
    rows = connection.execute(_left(sealed, current, after, limit)).all()
    renewed: list[dict[str, str | None]] = [
        {"b_key": row.key, "b_old": row.old, "b_new": renew(row.key, row.old)} for row in rows
    ]
    readable = [row for row in renewed if row["b_new"] is not None]
    sealed.writing.run(connection, readable)
    last = rows[-1].key if len(rows) == limit else None
    return Resealed(last, len(readable), len(rows) - len(readable))


def _left(sealed: SealedColumn, current: str, after: Any, limit: int) -> Select[Any, Any]:
    is_old = func.substr(sealed.value, 1, len(current)) != current
    query = select(sealed.key.label("key"), sealed.value.label("old")).where(is_old, *sealed.only)
    if after is not None:
        query = query.where(sealed.key > after)
    return query.order_by(sealed.key).limit(limit).with_for_update(skip_locked=True, key_share=True)
