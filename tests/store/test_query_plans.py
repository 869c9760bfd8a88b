"""Lists find their page by an index: they look at no more for a project with a long past than for a young one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.ids import new_id
from msgcore.store import audit, chats, events, identities, platform_logs, received, webhook_deliveries, webhooks
from msgcore.store import tables as t
from msgcore.store.audit import AuditFilter
from msgcore.store.chats import ChatFilter
from msgcore.store.database import Database
from msgcore.store.events import Log
from msgcore.store.ledger import dead, reads
from msgcore.store.ledger.dead import DeadLetterFilter
from msgcore.store.platform_logs import LogFilter
from msgcore.store.received import ReceivedFilter
from msgcore.store.webhook_deliveries import WebhookDeliveryFilter
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project
from store.query_cost import work_of

MANY = 3000
FEW = 5
PAGE = 10
RARE = "01920000-0000-7000-8000-0000000000ab"
OTHER = "01920000-0000-7000-8000-0000000000ac"
WEBHOOK = "01920000-0000-7000-8000-0000000000ad"
PERSON = "01920000-0000-7000-8000-0000000000ae"

SEEN = {"sqlite": 6000, "postgresql": 200}
"""The most that a page may cost, in `work_of`'s units: a look at each of MANY rows costs several times as much."""


def received_rows(platform_id: str, platform: str, number: int, chat: str, project: str = PROJECT) -> list[Any]:
    ids = [new_id() for _ in range(number)]
    return [
        {
            "id": id_,
            "project_id": project,
            "platform_id": platform_id,
            "platform": platform,
            "provider_message_id": id_,
            "provider_chat_id": chat,
            "provider_user_id": chat,
            "message_text": "x",
            "message_type": "text",
            "raw_data": {},
            "received_at": NOW,
        }
        for id_ in ids
    ]


def reactions(rows: list[Any]) -> list[Any]:
    kept = ("project_id", "platform_id", "platform", "provider_chat_id", "provider_user_id", "raw_data", "received_at")
    return [
        {name: row[name] for name in kept}
        | {"id": new_id(), "provider_message_id": "m", "emoji": "x", "reaction_type": "added"}
        for row in rows
    ]


def delivery_rows(target: str, number: int, state: str = "sent", platform_id: str = ACCOUNT) -> list[Any]:
    return [
        {
            "id": (id_ := new_id()),
            "message_id": id_,
            "project_id": PROJECT,
            "platform_id": platform_id,
            "platform": "sandbox",
            "target_type": "user",
            "target_id": target,
            "rank": 1,
            "state": state,
            "first_due_at": NOW,
            "due_at": NOW,
            "created_at": NOW,
        }
        for _ in range(number)
    ]


def chat_rows(platform_id: str, number: int, *, active: bool = True, project: str = PROJECT) -> list[Any]:
    return [
        {
            "id": (id_ := new_id()),
            "project_id": project,
            "platform_id": platform_id,
            "platform": "sandbox",
            "provider_chat_id": id_,
            "chat_type": "user",
            "last_message_at": NOW + timedelta(seconds=n) if active else None,
            "created_at": NOW,
            "updated_at": NOW,
        }
        for n in range(number)
    ]


def log_rows(platform_id: str, number: int) -> list[Any]:
    about = {"project_id": PROJECT, "platform_id": platform_id, "platform": "sandbox", "timestamp": NOW}
    said = {"level": "info", "category": "general", "message": "x"}
    return [{"id": new_id(), **about, **said} for _ in range(number)]


def audit_rows(number: int, **other: Any) -> list[Any]:
    row = {"project_id": PROJECT, "actor_kind": "jwt", "actor_id": PERSON, "action": "busy.done", "subject_id": "busy"}
    return [row | {"id": new_id(), "subject_type": "busy", "created_at": NOW} | other for _ in range(number)]


def everything() -> dict[Any, list[Any]]:
    """What a project has that was busy for long, and of each something old and rare."""
    few, old = received_rows(RARE, "webhook", FEW, "rare"), received_rows(ACCOUNT, "sandbox", FEW, "old")
    many = [
        row
        for _ in range(MANY)
        for row in (
            *received_rows(ACCOUNT, "sandbox", 1, "busy"),
            *received_rows(OTHER, "sandbox", 1, "busy", project="other"),
        )
    ]
    deliveries = [
        *delivery_rows("old", FEW),
        *delivery_rows("dead", FEW, "failed"),
        *delivery_rows("busy", MANY),
        *delivery_rows("x", FEW, platform_id=WEBHOOK),
    ]
    stamps = {"created_at": NOW, "updated_at": NOW}
    people = [{"id": new_id(), "project_id": PROJECT, "display_name": "x", **stamps} for _ in range(MANY)]
    accounts = [(ACCOUNT, "busy"), (ACCOUNT, "old"), (RARE, "rare")]
    return {
        t.received_messages: [*few, *old, *many],
        t.received_reactions: reactions([*few, *old, *many]),
        t.deliveries: deliveries,
        t.messages: [
            {"id": row["message_id"], "project_id": PROJECT, "content": {"text": "x"}, "created_at": NOW}
            for row in deliveries
        ],
        t.chats: [
            *chat_rows(RARE, FEW),
            *chat_rows(ACCOUNT, MANY),
            *chat_rows(OTHER, MANY, active=False, project="other"),
        ],
        t.identities: [{"id": PERSON, "project_id": PROJECT, **stamps}, *people],
        t.identity_aliases: [
            {
                "id": new_id(),
                "identity_id": PERSON,
                "project_id": PROJECT,
                "platform_id": platform_id,
                "platform": "sandbox",
                "provider_user_id": user,
                "linked_at": NOW,
            }
            for platform_id, user in accounts
        ],
        t.events: [
            {"id": new_id(), "project_id": project, "type": "x", "data": {}, "created_at": NOW, "sequence": n}
            for project in (PROJECT, "other")
            for n in range(1, MANY + 1)
        ],
        t.platform_logs: [*log_rows(RARE, FEW), *log_rows(ACCOUNT, MANY)],
        t.audit_logs: [
            *audit_rows(FEW, action="rare.done"),
            *audit_rows(FEW, actor_id=RARE),
            *audit_rows(FEW, subject_id="rare"),
            *audit_rows(FEW, project_id="other"),
            *audit_rows(MANY),
        ],
        t.webhooks: [
            {
                "id": WEBHOOK,
                "project_id": PROJECT,
                "name": "x",
                "url": "x",
                "events": [],
                "secret_encrypted": "",
                **stamps,
            }
        ],
        t.webhook_deliveries: [
            {"id": new_id(), "webhook_id": WEBHOOK, "event": "x", "payload": {}, "status": "success", "created_at": NOW}
            for _ in range(MANY)
        ],
    }


@pytest.fixture
async def busy(database: Database) -> Database:
    """A database with all of that."""
    await add_project(database)
    await add_project(database, "other", OTHER)
    async with database.write() as connection:
        platform = dict((await connection.execute(t.project_platforms.select().limit(1))).mappings().one())
        rare = platform | {"id": RARE, "project_id": PROJECT, "platform": "webhook", "webhook_token": new_id()}
        await connection.execute(insert(t.project_platforms), rare)
        for table, rows in everything().items():
            await connection.execute(insert(table), rows)
        if database.kind == "postgresql":
            # As it does by itself within a minute: what is in partitions, and not what is made of them.
            tables = await connection.scalars(
                text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
            )
            await connection.execute(text(f"ANALYZE {', '.join(tables)}"))
    return database


Query = Callable[[AsyncConnection], Awaitable[Any]]


def received_by(**chosen: Any) -> Query:
    return lambda connection: received.list_received(connection, ReceivedFilter(PROJECT, **chosen), limit=PAGE)


def chats_of(project: str, **chosen: Any) -> Query:
    return lambda connection: chats.list_chats(connection, ChatFilter(project, **chosen), limit=PAGE, offset=PAGE)


def sent_to(target: str) -> Query:
    chat = SimpleNamespace(project_id=PROJECT, platform_id=ACCOUNT, provider_chat_id=target)
    return lambda connection: chats.list_sent(connection, chat, before=new_id(), limit=PAGE)


def audited(**chosen: Any) -> Query:
    return lambda connection: audit.list_audit(connection, AuditFilter(**chosen), limit=PAGE, before=None)


LISTS: dict[str, Query] = {
    "audit log": audited(),
    "audit log of a project": audited(project_id=PROJECT),
    "audit log of a young project": audited(project_id="other"),
    "audit log by action": audited(action="rare.done"),
    "audit log of a project by action": audited(project_id=PROJECT, action="rare.done"),
    "audit log by actor": audited(actor_id=RARE),
    "audit log of a project by actor": audited(project_id=PROJECT, actor_id=RARE),
    "audit log by subject": audited(subject_id="rare"),
    "audit log of a project by subject": audited(project_id=PROJECT, subject_id="rare"),
    "audit log of long ago": audited(project_id=PROJECT, until=NOW - timedelta(days=3650)),
    "received": received_by(),
    "received by a busy account": received_by(platform_id=ACCOUNT),
    "received on a platform": received_by(platform="webhook"),
    "received on most platforms": received_by(platform="sandbox"),
    "received by an account": received_by(platform_id=RARE),
    "received in a chat": received_by(platform_id=ACCOUNT, chat_id="busy"),
    "received in an old chat": received_by(platform_id=ACCOUNT, chat_id="old"),
    "received in chats": received_by(chat_id="busy"),
    "received in old chats": received_by(chat_id="old"),
    "received of a user": received_by(platform_id=ACCOUNT, user_id="old"),
    "received of users": received_by(user_id="busy"),
    "received, none": received_by(chat_id="nobody"),
    "sent to a chat": sent_to("busy"),
    "sent to an old chat": sent_to("old"),
    "sent to nobody": sent_to("nobody"),
    "chats": chats_of(PROJECT),
    "quiet chats": chats_of("other"),
    "people": lambda c: identities.list_identities(c, PROJECT, limit=PAGE, offset=0),
    "messages of a person": lambda c: identities.list_messages_of(c, PERSON, limit=PAGE, offset=0),
    "reactions of a person": lambda c: identities.list_reactions_of(c, PERSON, limit=PAGE, offset=0),
    "platform logs": lambda c: platform_logs.list_logs(c, LogFilter(PROJECT), limit=PAGE, offset=0),
    "logs of an account": lambda c: platform_logs.list_logs(
        c, LogFilter(PROJECT, platform_id=RARE), limit=PAGE, offset=0
    ),
    "webhooks": lambda c: webhooks.list_webhooks(c, PROJECT, limit=PAGE),
    "posted to a webhook": lambda c: webhook_deliveries.list_deliveries(
        c, WebhookDeliveryFilter(WEBHOOK), limit=PAGE, offset=0
    ),
}

OF_DATABASES: dict[str, Callable[[Database], Awaitable[Any]]] = {
    "sent": lambda d: reads.list_deliveries(d, PROJECT, platform=None, states=None, limit=PAGE, offset=0),
    "dead letters": lambda d: dead.list_dead(d, DeadLetterFilter(PROJECT), limit=PAGE, before=None),
    "events": lambda d: events.read_after(d, Log(PROJECT, NOW), MANY - PAGE, limit=PAGE),
    "bounds of events": lambda d: events.bounds(d, PROJECT),
}


async def test_pages_are_found_by_index(busy: Database) -> None:
    asked = dict(OF_DATABASES)
    for name, query in LISTS.items():

        async def ask(database: Database, query: Query = query) -> Any:
            async with database.read() as connection:
                return await query(connection)

        asked[name] = ask
    cost = {name: await work_of(busy, ask) for name, ask in asked.items()}
    assert {name: seen for name, seen in cost.items() if seen > SEEN[busy.kind]} == {}


async def test_a_target_that_is_too_long_for_an_index_is_taken(database: Database) -> None:
    """PostgreSQL's rows of an index have 2704 bytes at most, and these targets do not compress."""
    await add_project(database)
    longest = "".join(
        chr(0x10000 + int.from_bytes(sha256(bytes([n % 256, n // 256])).digest()[:2])) for n in range(1024)
    )
    async with database.write() as connection:
        await connection.execute(insert(t.deliveries), [*delivery_rows(longest, 1), *delivery_rows(longest[:255], 1)])
