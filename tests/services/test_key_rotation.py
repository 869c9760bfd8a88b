"""Changing the encryption key: everything comes under the new one, and nothing that is changed meanwhile is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from msgcore.core.ids import new_id
from msgcore.security.keyring import DecryptionError, Keyring
from msgcore.services import key_rotation
from msgcore.services.health import check_encryption_key
from msgcore.services.key_rotation import KeyRotation, KeyUse, Rotated, key_uses, rows_by_key
from msgcore.store.database import Database
from msgcore.store.sealed import CHECK, SEALED
from msgcore.store.tables import metadata, project_platforms, webhooks
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project

OLD, NEW, LOST = (letter * 32 for letter in (b"o", b"n", b"l"))
PLATFORMS = 2 * key_rotation.BATCH + 50
QUICKLY = 1_000_000


async def add_platforms(database: Database, number: int) -> list[str]:
    """Platforms whose credentials, under the old key, are their own ids."""
    ids = [new_id() for _ in range(number)]
    stamps = {"created_at": NOW, "updated_at": NOW}
    rows: list[dict[str, Any]] = [
        {
            "id": id_,
            "project_id": PROJECT,
            "platform": "sandbox",
            "name": "s",
            "credentials_encrypted": Keyring(OLD).encrypt(id_.encode(), context=id_),
            "webhook_token": new_id(),
            "is_active": True,
            "test_mode": False,
            **stamps,
        }
        for id_ in ids
    ]
    async with database.write() as connection:
        await connection.execute(insert(project_platforms), rows)
    return ids


async def put(database: Database, platform_id: str, token: str) -> None:
    async with database.write() as connection:
        changed = update(project_platforms).where(project_platforms.c.id == platform_id)
        await connection.execute(changed.values(credentials_encrypted=token))


async def opened(database: Database, keyring: Keyring) -> dict[str, bytes]:
    query = select(project_platforms.c.id, project_platforms.c.credentials_encrypted)
    async with database.read() as connection:
        rows = (await connection.execute(query)).all()
    found: dict[str, bytes] = {}
    for id_, token in rows:
        with suppress(DecryptionError):
            found[id_] = keyring.decrypt(token, context=id_)
    return found


def test_nothing_encrypted_is_forgotten() -> None:
    named = {column for table in metadata.tables.values() for column in table.c if column.name.endswith("_encrypted")}
    assert named == {sealed.value for sealed in SEALED}, "add the column to store.sealed.SEALED"


async def test_everything_comes_under_the_new_key_and_what_cannot_be_read_is_told(database: Database) -> None:
    old, ring = Keyring(OLD), Keyring(NEW, [OLD])
    await add_project(database)  # its platform has no token at all
    await check_encryption_key(database, old)
    ids = await add_platforms(database, PLATFORMS)
    lost, *rest = ids
    await put(database, lost, Keyring(LOST).encrypt(b"{}", context=lost))
    hook = new_id()
    secrets = {name: old.encrypt(name.encode(), context=hook) for name in ("secret", "previous_secret")}
    row = {"id": hook, "project_id": PROJECT, "name": "h", "url": "https://example.com", "events": ["*"]}
    row |= {f"{name}_encrypted": token for name, token in secrets.items()}
    async with database.write() as connection:
        await connection.execute(insert(webhooks).values(row | {"created_at": NOW, "updated_at": NOW}))

    told: list[int] = []
    first = await KeyRotation(database, ring, rows_a_second=QUICKLY).run(told.append)
    assert first == Rotated(done=len(rest) + 3, left=2, unreadable=2)
    assert told == sorted(told)
    assert told[-1] == first.done
    uses = await key_uses(database)
    new = ring.active_key_id
    column = "project_platforms.credentials_encrypted"
    lost_id = Keyring(LOST).active_key_id
    assert {use for use in uses if use.column == column} == {
        KeyUse(column, None, 1),
        KeyUse(column, lost_id, 1),
        KeyUse(column, new, len(rest)),
    }
    assert rows_by_key(uses) == {None: 1, lost_id: 1, new: first.done}
    assert {use.column for use in uses} == {sealed.name for sealed in (*SEALED, CHECK)}
    assert await opened(database, Keyring(NEW)) == {id_: id_.encode() for id_ in rest}
    await check_encryption_key(database, Keyring(NEW))
    async with database.read() as connection:
        kept = (await connection.execute(select(webhooks))).one()
        stamps = (await connection.execute(select(project_platforms.c.updated_at).distinct())).scalars().all()
    assert Keyring(NEW).decrypt(kept.previous_secret_encrypted, context=hook) == b"previous_secret"
    assert stamps == [NOW], "connections would be made anew"

    with_lost = Keyring(NEW, [OLD, LOST])
    await put(database, ACCOUNT, old.encrypt(b"{}", context=ACCOUNT))
    again = await KeyRotation(database, with_lost, rows_a_second=QUICKLY).run(told.append)
    assert again == Rotated(done=2, left=0, unreadable=0), "it goes on with what is left"


async def test_what_is_changed_meanwhile_keeps_the_change(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that does not know of the new key yet, which is what an interrupted transaction looks like."""
    monkeypatch.setattr(key_rotation, "REST_SECONDS", 0.01)
    old, ring = Keyring(OLD), Keyring(NEW, [OLD])
    await add_project(database)
    await put(database, ACCOUNT, old.encrypt(b"{}", context=ACCOUNT))
    ids = await add_platforms(database, PLATFORMS)
    written = {ACCOUNT: b"{}"} | {id_: id_.encode() for id_ in ids}
    stop = asyncio.Event()

    async def change() -> None:
        number = 0
        while not stop.is_set():
            for id_ in ids[number % 7 :: 97]:
                value = f"{id_} {number}".encode()
                await put(database, id_, old.encrypt(value, context=id_))
                written[id_] = value
            number += 1

    changing = asyncio.create_task(change())
    for _ in range(3):
        await KeyRotation(database, ring, rows_a_second=QUICKLY).run(lambda _: None)
    stop.set()
    await changing
    assert await KeyRotation(database, ring, rows_a_second=QUICKLY).run(lambda _: None)
    assert await opened(database, Keyring(NEW)) == written


async def test_rows_that_others_hold_are_done_when_they_let_go(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "REST_SECONDS", 0.01)
    monkeypatch.setattr(key_rotation, "MOST_LOOKS", 3)
    old, ring = Keyring(OLD), Keyring(NEW, [OLD])
    database = Database.open(postgres_url)
    run: Callable[[], Any] = lambda: KeyRotation(database, ring, rows_a_second=QUICKLY).run(lambda _: None)  # noqa: E731
    try:
        await add_project(database)
        await check_encryption_key(database, old)
        (held,) = await add_platforms(database, 1)
        await put(database, ACCOUNT, old.encrypt(b"{}", context=ACCOUNT))
        async with database.write() as connection:
            query = select(project_platforms).where(project_platforms.c.id == held).with_for_update()
            await connection.execute(query)
            assert await run() == Rotated(done=1, left=1, unreadable=0), "it waited for nobody"
            await check_encryption_key(database, old)  # not before all is done
        assert await run() == Rotated(done=2, left=0, unreadable=0)
    finally:
        await database.close()
