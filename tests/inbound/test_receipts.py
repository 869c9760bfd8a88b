"""Receipts: what platforms tell of sent messages changes deliveries, once, forwards only, and also when it is early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import select, text, update

from inbound.test_reader import KEYRING, Inbox, request
from msgcore.blobs.store import BlobStore
from msgcore.config import Settings
from msgcore.core.clock import SystemClock
from msgcore.core.deliveries import DeliveryState
from msgcore.core.ids import new_id
from msgcore.store.database import Database
from msgcore.store.inbound import RawRequest
from msgcore.store.ledger import reads, receipts
from msgcore.store.ledger.beginning import WorkItem, begin
from msgcore.store.ledger.recording import WorkResult, record
from msgcore.store.tables import (
    deliveries,
    events,
    inbound_requests,
    pending_receipts,
    platform_logs,
    project_platforms,
)
from servers.patience import PATIENCE
from store.ledger_rows import ACCOUNT, NOW
from store.side_by_side import accept, states


def receipt(of: str, status: str, *, event_id: str | None = None, chat: str = "room", **more: Any) -> RawRequest:
    body = msgspec.json.decode(request("x").body)
    body |= {"chat": {"id": chat}, "content": {"kind": "receipt", "messageId": of, "status": status} | more}
    body["eventId"] = event_id or new_id()
    raw = request("x")
    return msgspec.structs.replace(raw, body=msgspec.json.encode(body), received_at=SystemClock().now())


@pytest.fixture
async def inbox(database: Database, tmp_path: Path) -> AsyncIterator[Inbox]:
    made = Inbox(database, BlobStore.open(Settings(data_dir=tmp_path)))
    yield made
    for reader in made.readers:
        await reader.stop()


async def sending(inbox: Inbox, *targets: str) -> list[WorkItem]:
    """Deliveries that are being sent."""
    ids = await accept(inbox.database, *targets)
    sealed = KEYRING.encrypt(b"{}", context=ACCOUNT)
    async with inbox.database.write() as connection:
        await connection.execute(update(project_platforms).values(credentials_encrypted=sealed))
    return await begin(inbox.database, ids, NOW)


def sent(item: WorkItem, provider_id: str) -> WorkResult:
    return WorkResult(item, DeliveryState.SENT, "sent", NOW, provider_message_id=provider_id, sent_at=NOW)


async def told(inbox: Inbox, *, waiting: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """The events after `message.sent`, once everything was read and only so many receipts wait."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with inbox.database.read() as connection:
                unread = (await connection.execute(select(inbound_requests.c.id))).all()
                early = (await connection.execute(select(pending_receipts.c.id))).all()
                found = await connection.execute(select(events.c.type, events.c.data).order_by(events.c.sequence))
                rows = [(row.type, row.data) for row in found if row.type != "message.sent"]
            if not unread and len(early) == waiting:
                return rows
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("statuses", "kinds", "state"),
    [
        (["delivered", "read"], ["delivered", "read"], "read"),
        (["read", "delivered"], ["read"], "read"),
        (["delivered", "delivered"], ["delivered"], "delivered"),
        (["failed", "failed", "delivered"], ["failed"], "failed"),
        (["delivered", "failed"], ["delivered"], "delivered"),
    ],
)
async def test_states_go_forwards_and_each_is_told_once(
    inbox: Inbox, statuses: list[str], kinds: list[str], state: str
) -> None:
    (item,) = await sending(inbox, "ann")
    await record(inbox.database, [sent(item, "pm-1")])
    inbox.start()
    for status in statuses:
        await inbox.keep(receipt("pm-1", status, error="550 no such user"))
    rows = await told(inbox)
    assert [kind for kind, _ in rows] == [f"message.{kind}" for kind in kinds]
    assert {(data["message_id"], data["job_id"], data["chat_id"]) for _, data in rows} == {
        (item.id, item.message_id, "ann")
    }
    assert await states(inbox.database) == {state: 1}
    (row,) = await reads.deliveries_of(inbox.database, item.message_id)
    assert (row.delivered_at is not None, row.read_at is not None) == ("delivered" in kinds, "read" in kinds)


async def test_one_batch_may_tell_everything_of_many(inbox: Inbox) -> None:
    items = await sending(inbox, *"abcd")
    await record(inbox.database, [sent(item, f"pm-{item.target_id}") for item in items])
    said = [("a", "delivered"), ("b", "read"), ("a", "read"), ("c", "failed"), ("a", "delivered"), ("b", "delivered")]
    await inbox.keep(*(receipt(f"pm-{target}", status) for target, status in said), request("hello"))
    inbox.start(2)
    rows = await told(inbox)
    assert [(kind, data["chat_id"]) for kind, data in rows] == [
        *(("message.delivered", "a"), ("message.read", "b"), ("message.read", "a"), ("message.failed", "c")),
        ("message.received", "room"),
    ]
    assert await states(inbox.database) == {"read": 2, "failed": 1, "sent": 1}


async def test_a_bounce_makes_a_dead_letter_with_its_reason(inbox: Inbox) -> None:
    (item,) = await sending(inbox, "ann")
    await record(inbox.database, [sent(item, "pm-1")])
    await inbox.keep(receipt("pm-1", "failed", error="550 no such user"))
    inbox.start()
    [(kind, data)] = await told(inbox)
    assert (kind, data["error"], data["error_code"], data["state"], data["attempts"]) == (
        *("message.failed", "550 no such user"),
        *("undelivered", "failed", 1),
    )
    (row,) = await reads.deliveries_of(inbox.database, item.message_id)
    assert (row.error_code, row.error_message) == ("undelivered", "550 no such user")
    timeline = await reads.attempts_of(inbox.database, item.id)
    assert [(entry.outcome, entry.number, entry.reached) for entry in timeline][1:] == [("failed", 0, "yes")]
    async with inbox.database.read() as connection:
        (line,) = (await connection.execute(select(platform_logs))).all()
    assert (line.metadata["deliveryId"], line.error) == (item.id, "550 no such user")


async def test_one_that_is_earlier_than_the_recording_waits_for_it(inbox: Inbox) -> None:
    (item,) = await sending(inbox, "ann")
    inbox.start()
    await inbox.keep(receipt("pm-1", "delivered"), receipt("pm-1", "read"))
    assert await told(inbox, waiting=2) == []
    await record(inbox.database, [sent(item, "pm-1")])
    assert [(kind, data["message_id"]) for kind, data in await told(inbox)] == [
        ("message.delivered", item.id),
        ("message.read", item.id),
    ]
    assert await states(inbox.database) == {"read": 1}


async def test_one_that_waited_for_the_database_waits_for_the_recording_that_did_so_too(inbox: Inbox) -> None:
    (item,) = await sending(inbox, "ann")
    came = SystemClock().now() - timedelta(minutes=5)
    await inbox.keep(msgspec.structs.replace(receipt("pm-1", "failed", error="gone"), received_at=came))
    inbox.start()
    assert await told(inbox, waiting=1) == []
    await record(inbox.database, [sent(item, "pm-1")])
    assert [(kind, data["message_id"]) for kind, data in await told(inbox)] == [("message.failed", item.id)]
    assert await states(inbox.database) == {"failed": 1}


async def test_between_the_parts_of_a_message_it_waits_for_the_last_one(inbox: Inbox) -> None:
    (item,) = await sending(inbox, "ann")
    part = WorkResult(item, DeliveryState.RETRYING, "part", NOW, counts=False, part_ids=("pm-1",))
    await record(inbox.database, [msgspec.structs.replace(part, provider_message_id="pm-1")])
    inbox.start()
    await inbox.keep(receipt("pm-1", "failed", error="no such user"))
    assert await told(inbox, waiting=1) == []
    (item,) = await begin(inbox.database, [item.id], NOW)
    await record(inbox.database, [sent(item, "pm-1")])
    assert [(kind, data["message_id"]) for kind, data in await told(inbox)] == [("message.failed", item.id)]
    assert await states(inbox.database) == {"failed": 1}


async def test_of_a_reaction_only_its_failure_is_told(inbox: Inbox) -> None:
    first, second = await sending(inbox, "ann", "bob")
    async with inbox.database.write() as connection:
        await connection.execute(update(deliveries).values(action="react"))
    await record(inbox.database, [sent(first, "pm-1"), sent(second, "pm-2")])
    await inbox.keep(receipt("pm-1", "delivered"), receipt("pm-2", "failed"))
    inbox.start()
    [(kind, data)] = await told(inbox)
    assert (kind, data["action"], data["message_id"], data["error_code"]) == (
        *("action.failed", "react"),
        *(second.id, "undelivered"),
    )
    assert await states(inbox.database) == {"delivered": 1, "failed": 1}


async def test_it_waits_no_longer_than_somebody_may_be_sending_it(inbox: Inbox) -> None:
    first, second = await sending(inbox, "ann", "bob")
    inbox.start()
    await record(inbox.database, [sent(first, "pm-1")])
    await inbox.keep(receipt("of-somebody-else", "read"))
    assert await told(inbox, waiting=1) == []
    await record(inbox.database, [sent(second, "pm-2")])
    [(kind, data)] = await told(inbox)
    assert (kind, data["message_id"], data["job_id"]) == ("message.read", "of-somebody-else", None)


async def test_it_waits_no_longer_than_a_minute(inbox: Inbox) -> None:
    await sending(inbox, "ann")
    await inbox.keep(receipt("pm-1", "read"))
    inbox.start()
    assert await told(inbox, waiting=1) == []
    for reader in inbox.readers:  # which may have just this one in hand
        await reader.stop()
    later = SystemClock().now() + timedelta(minutes=1, seconds=1)
    await inbox.database.transact(lambda connection: receipts.take_waiting(connection, ACCOUNT, later))
    assert [kind for kind, _ in await told(inbox)] == ["message.read"]


async def test_of_several_with_an_id_the_one_of_the_chat_is_meant(inbox: Inbox) -> None:
    items = await sending(inbox, "ann", "bob", "cy")
    await record(inbox.database, [sent(item, "7") for item in items])
    await inbox.keep(receipt("7", "read", chat="bob"))
    inbox.start()
    assert [data["chat_id"] for _, data in await told(inbox)] == ["bob"]


async def test_receipts_and_recordings_at_once_neither_deadlock_nor_get_lost(inbox: Inbox) -> None:
    items = await sending(inbox, *(f"u{number}" for number in range(60)))
    inbox.start(2)

    async def finish(some: list[WorkItem]) -> None:
        await record(inbox.database, [sent(item, f"pm-{item.target_id}") for item in some])

    async def tell(some: list[WorkItem]) -> None:
        await inbox.keep(*(receipt(f"pm-{item.target_id}", "delivered") for item in reversed(some)))

    parts = [items[start : start + 6] for start in range(0, 60, 6)]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(call for part in parts for call in (finish(part), tell(part))))
    assert [kind for kind, _ in await told(inbox)] == ["message.delivered"] * 60
    assert await states(inbox.database) == {"delivered": 60}


async def test_deliveries_are_found_by_their_index(inbox: Inbox) -> None:
    async with inbox.database.read() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            await connection.exec_driver_sql("SET enable_seqscan = off")
        among = "IN (SELECT value FROM json_each('[\"pm\"]'))" if sqlite else "= ANY (ARRAY['pm'])"
        query = f"SELECT id FROM deliveries WHERE platform_id = '{ACCOUNT}' AND provider_message_id {among}"
        plan = await connection.execute(text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{query}"))
        found = str(plan.all())
    assert "provider_message" in found, found
