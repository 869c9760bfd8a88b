"""What comes in: posted to a running gateway as platforms do, or put straight into its database; and its events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from sqlalchemy import Table, insert, select
from sqlalchemy.engine import Row
from standardwebhooks import Webhook

from api.conftest import Running
from msgcore.core.ids import earliest_id, new_id
from msgcore.store.database import Database
from msgcore.store.tables import message_attachments, received_messages, received_reactions
from servers.patience import PATIENCE

UNKNOWN = "01920000-0000-7000-8000-0000000000ff"
EVENTS = "projects/shop/events"
HOOK_SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def in_database(running: Running, work: Callable[[Any], Any]) -> Any:
    """Run a function over a blocking connection to the gateway's database, in a transaction."""
    gateway = running.gateway
    url = gateway.environment.get("MSGCORE_DATABASE_URL", f"sqlite:///{gateway.data_dir}/msgcore.db")

    async def run() -> Any:
        database = Database.open(url)
        try:
            return await database.transact(work)
        finally:
            await database.close()

    return asyncio.run(run())


def store(running: Running, table: Table, *rows: dict[str, Any]) -> None:
    """Insert rows."""
    in_database(running, lambda connection: connection.execute(insert(table), list(rows)))


def stored(running: Running, table: Table, *conditions: Any) -> list[Row[Any]]:
    """The rows that a table has."""
    return list(in_database(running, lambda connection: connection.execute(select(table).where(*conditions)).all()))


def message(project: str, platform_id: str, text: str, *, ago: timedelta = timedelta(), **other: Any) -> dict[str, Any]:
    """A received message, with an id of the moment when it was received."""
    received_at = datetime.now(UTC) - ago
    fresh = new_id()
    return {
        "id": earliest_id(received_at)[:14] + fresh[14:] if ago else fresh,
        "project_id": project,
        "platform_id": platform_id,
        "platform": "sandbox",
        "provider_message_id": f"m-{fresh}",
        "provider_chat_id": "chat-1",
        "provider_user_id": "ann",
        "user_display": "Ann",
        "message_text": text,
        "message_type": "text",
        "raw_data": {"said": text},
        "received_at": received_at,
    } | other


def receive(running: Running, *rows: dict[str, Any]) -> None:
    """Store received messages."""
    store(running, received_messages, *rows)


def react(running: Running, to: dict[str, Any], who: str, emoji: str, kind: str = "added") -> None:
    """Store a reaction to a received message."""
    row = {name: to[name] for name in ("project_id", "platform_id", "platform", "provider_message_id")}
    row |= {"id": new_id(), "provider_chat_id": "chat-1", "provider_user_id": who, "user_display": who.title()}
    row |= {"emoji": emoji, "reaction_type": kind, "raw_data": {}, "received_at": datetime.now(UTC)}
    store(running, received_reactions, row)


def attach(running: Running, to: dict[str, Any], filename: str) -> None:
    """Store an attachment of a received message."""
    row = {"id": new_id(), "message_id": to["id"], "type": "image", "url": "https://example.com/a.png"}
    store(running, message_attachments, row | {"filename": filename, "size": 7, "mime_type": "image/png"})


def make_project(running: Running) -> str:
    """A project of its own."""
    project_id = f"p{time.monotonic_ns()}"
    made = running.admin.ask("POST", "projects", {"id": project_id, "name": "P"})
    assert made.status == 201, made
    return project_id


def ask(running: Running, project: str, method: str, path: str, body: Any = None) -> Any:
    """A call by the administrator that must succeed; its answer."""
    reply = running.admin.ask(method, f"projects/{project}{path}", body)
    assert reply.status in {200, 201}, reply
    return reply.body


def add_sandbox(running: Running, project: str) -> str:
    """A sandbox platform of a project; its id."""
    made = ask(running, project, "POST", "/platforms", {"platform": "sandbox", "name": "b", "credentials": {}})
    return str(made["id"])


def send(running: Running, project: str, platform_id: str, to: str, text: str = "hi") -> str:
    """Send a message and wait until it was tried, and answered by who answers; its job id."""
    targets = [{"platformId": platform_id, "type": "user", "id": to}]
    body = {"targets": targets, "content": {"text": text}}
    job = str(ask(running, project, "POST", "/messages/send", body)["jobId"])
    deadline = time.monotonic() + PATIENCE
    while ask(running, project, "GET", f"/messages/status/{job}")["status"] not in {"completed", "failed"}:
        assert time.monotonic() < deadline, "the message was not sent"
        time.sleep(0.02)
    while to.startswith("reply") and f"You wrote: {text}" not in answers(running, project, platform_id, to):
        assert time.monotonic() < deadline, "the answer was not read"
        time.sleep(0.02)
    return job


def answers(running: Running, project: str, platform_id: str, user_id: str) -> list[str]:
    """What somebody wrote on a platform."""
    found = ask(running, project, "GET", f"/messages?platformId={platform_id}&userId={user_id}")
    return [message["messageText"] for message in found["messages"]]


# --- posted, and the events of it


def report(kind: str = "message", chat: str = "room", author: str = "ann", **content: Any) -> dict[str, Any]:
    """What a sandbox or a custom webhook is posted."""
    if kind in ("message", "command"):
        content.setdefault("id", f"m-{uuid4().hex[:8]}")
    return {
        "chat": {"id": chat, "type": "group", "name": "The room"},
        "author": {"id": author, "name": author.title()},
        "content": {"kind": kind, **content},
    }


def path_of(running: Running, platform_id: str) -> str:
    """The path of a platform's webhook."""
    found = running.key.ask("GET", f"projects/shop/platforms/{platform_id}")
    return urlsplit(found.body["webhookUrl"]).path


def newest(running: Running) -> int:
    """The place of the newest event."""
    return int(running.key.ask("GET", EVENTS).body["next"])


def next_events(running: Running, after: int, number: int, **more: str) -> list[dict[str, Any]]:
    """So many events after a place, in the project's log."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE
    query = "".join(f"&{name}={value}" for name, value in more.items())
    while len(found) < number and time.monotonic() < deadline:
        page = running.key.ask("GET", f"{EVENTS}?after={after}&wait=10{query}")
        assert page.status == 200, page
        found += page.body["events"]
        after = page.body["next"]
    assert len(found) == number
    return found


def signed(
    body: bytes, *, secret: str = HOOK_SECRET, at: datetime | None = None, id_: str | None = None
) -> dict[str, str]:
    """The headers that a body is posted with to a custom webhook."""
    id_ = id_ or f"msg_{uuid4().hex}"
    at = at or datetime.now(UTC)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(id_, at, body.decode()),
    }
