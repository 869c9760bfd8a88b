"""The fetcher's places: no project has them all."""

from __future__ import annotations

import asyncio

from aiohttp import web
from sqlalchemy import insert, select, update

from inbound.test_attachments import Office, inbox, office
from inbound.test_reader import KEYRING
from msgcore.core.ids import new_id
from msgcore.inbound.fetcher import PLATFORMS_AT_ONCE
from msgcore.store.tables import message_attachments, project_platforms
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, add_project

__all__ = ["inbox", "office"]


async def test_the_slow_files_of_one_project_hold_up_no_other(office: Office) -> None:
    number = PLATFORMS_AT_ONCE + 1
    release, asked = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/slow":
            asked.set()
            await release.wait()
        return web.Response(body=b"hello", content_type="image/png")

    office.sink.answer = answer
    await office.receive(*({"url": f"{office.sink.url}/slow"} for _ in range(number)))
    slow = await office.rows()
    async with office.inbox.database.write() as connection:
        shop = (await connection.execute(select(project_platforms))).one()._asdict()
        for row in slow:
            id_ = new_id()
            sealed = {"credentials_encrypted": KEYRING.encrypt(b"{}", context=id_), "webhook_token": id_}
            await connection.execute(insert(project_platforms), shop | {"id": id_} | sealed)
            mine = update(message_attachments).where(message_attachments.c.id == row.id)
            await connection.execute(mine.values(platform_id=id_))
    await office.fetch()
    await asyncio.wait_for(asked.wait(), PATIENCE)
    theirs = new_id()
    await add_project(office.inbox.database, "other", theirs)
    await office.receive({"url": f"{office.sink.url}/quick"})
    async with office.inbox.database.write() as connection:
        sealed = KEYRING.encrypt(b"{}", context=theirs)
        mine = update(project_platforms).where(project_platforms.c.id == theirs)
        await connection.execute(mine.values(credentials_encrypted=sealed))
        quick = update(message_attachments).where(message_attachments.c.platform_id == ACCOUNT)
        await connection.execute(quick.values(platform_id=theirs))
    try:
        await office.until(lambda row: row.platform_id != theirs or row.state == "stored")
        assert {row.state for row in await office.rows() if row.platform_id != theirs} == {"pending"}
    finally:
        release.set()
    assert {row.state for row in await office.ended()} == {"stored"}
