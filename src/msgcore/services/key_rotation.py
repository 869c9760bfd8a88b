"""Changing the encryption key while the gateway runs: what is under which key, and writing it anew."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection

from msgcore.security.keyring import PREFIX_LENGTH, DecryptionError, Keyring, key_id_of
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.sealed import CHECK, SEALED, Resealed, SealedColumn, count_by_prefix, reseal

BATCH = 200
"""Rows of one transaction. Each is decrypted and encrypted in it, which takes some 20 microseconds."""
REST_SECONDS = 0.5
"""Before another look at rows that somebody else was changing."""
MOST_LOOKS = 20

Progress = Callable[[int], None]
"""Is told after each batch how many rows are done."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How many tokens of a column are under a key; `key_id` is None for what is no token."""

    column: str
    key_id: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many rows a rotation wrote anew, and how many are left; `unreadable` ones by any key at hand."""

    done: int
    left: int
    unreadable: int


async def key_uses(database: Database) -> Sequence[KeyUse]:
    """What is under which key, column by column. Reads every row that holds a secret."""
    uses: list[KeyUse] = []
    for sealed in (*SEALED, CHECK):
        async with database.read() as connection:
            found = await count_by_prefix(connection, sealed, PREFIX_LENGTH)
        rows: Counter[str | None] = Counter()
        for prefix, number in found.items():
            rows[key_id_of(prefix)] += number
        uses += [KeyUse(sealed.name, key, number) for key, number in sorted(rows.items(), key=str)]
    return uses


def rows_by_key(uses: Sequence[KeyUse]) -> Mapping[str | None, int]:
    """How many rows are under each key."""
    rows: Counter[str | None] = Counter()
    for use in uses:
        rows[use.key_id] += use.rows
    return rows


async def note_key(
    database: Database,
    verb: Literal["created", "rotated", "removed"],
    key_id: str,
    now: datetime,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Write down what the operator did with a key, once it is done: keys are kept elsewhere than the audit log."""
    async with database.write() as connection:
        await record_audit(
            connection, None, f"encryption_key.{verb}", key_id, project_id=None, now=now, before=before, after=after
        )


class KeyRotation:
    """Writes anew under the active key what is under another one.

    Nothing else of a row changes, so that nobody who holds an account notices. It may end anywhere: the next one goes
    on with what is left. Rows that are changed meanwhile keep the change.
    """

    def __init__(self, database: Database, keyring: Keyring, *, rows_a_second: float) -> None:
        self._database = database
        self._keyring = keyring
        self._rows_a_second = rows_a_second
        self._batch = max(1, min(BATCH, int(rows_a_second)))

    async def run(self, progress: Progress) -> Rotated:
        """Rotate everything. What a start looks at comes last: until then, a start without the old key is refused."""
        done, left, unreadable = 0, 0, 0
        for _ in range(MOST_LOOKS):
            unreadable = 0
            for sealed in SEALED:
                done, missed = await self._run_column(sealed, done, progress)
                unreadable += missed
            left = await self._left()
            if left <= unreadable:
                done, _ = await self._run_column(CHECK, done, progress)
                break
            await asyncio.sleep(REST_SECONDS)
        return Rotated(done, left, unreadable)

    async def _run_column(self, sealed: SealedColumn, done: int, progress: Progress) -> tuple[int, int]:
        unreadable, after = 0, None
        while True:
            began = time.monotonic()
            batch = await self._run_batch(sealed, after)
            done, unreadable, after = done + batch.done, unreadable + batch.unreadable, batch.last
            progress(done)
            if after is None:
                return done, unreadable
            took = time.monotonic() - began
            # At least as long as it took: others write to the same tables, and SQLite has one writer.
            await asyncio.sleep(max(took, batch.done / self._rows_a_second - took))

    async def _run_batch(self, sealed: SealedColumn, after: str | None) -> Resealed:
        current, limit = self._keyring.current, self._batch

        def work(connection: Connection) -> Resealed:
            return reseal(connection, sealed, self._renew, current=current, after=after, limit=limit)

        return await self._database.transact(work)

    def _renew(self, key: str, token: str) -> str | None:
        try:
            return self._keyring.encrypt(self._keyring.decrypt(token, context=key), context=key)
        except DecryptionError:
            return None

    async def _left(self) -> int:
        uses = [use for use in await key_uses(self._database) if use.column != CHECK.name]
        return sum(use.rows for use in uses if use.key_id != self._keyring.active_key_id)
