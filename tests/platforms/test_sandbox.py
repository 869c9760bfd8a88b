"""The sandbox: what each recipient's id asks for, and what the inbox shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from msgcore.core.envelope import Message
from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.core.ids import new_id
from msgcore.platforms.base import Account
from msgcore.platforms.receiving import InboundRequest
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.sandbox import SandboxAdapter
from msgcore.platforms.sandbox.behaviours import ACCEPTING, Behaviour, behaviour_of
from msgcore.platforms.sandbox.inbound import SandboxInbound
from msgcore.platforms.sandbox.inbox import clear_inbox, read_inbox
from msgcore.store.database import Database
from msgcore.store.tables import inbound_requests, project_platforms, projects, users
from servers.adapters import adapter_services
from servers.deliveries import PLATFORM_ID, make_account, make_content, make_delivery

OTHER_PLATFORM_ID = "0190a000-0000-7000-8000-000000000002"
HELLO = make_content(text="Hello")


async def add_platforms(database: Database) -> None:
    now = datetime.now(UTC)
    stamps = {"created_at": now, "updated_at": now}
    owner = {"id": new_id(), "email": "owner@example.com"}
    project = {"id": "demo", "name": "Demo", "environment": "development", "owner_id": owner["id"]}
    async with database.write() as connection:
        await connection.execute(insert(users), owner | stamps)
        await connection.execute(insert(projects), project | stamps)
        for platform_id in (PLATFORM_ID, OTHER_PLATFORM_ID):
            row = {"id": platform_id, "project_id": "demo", "platform": "sandbox", "name": "Sandbox"}
            secret = {"credentials_encrypted": "x", "webhook_token": new_id()}
            await connection.execute(insert(project_platforms), row | secret | stamps)


@pytest.fixture
async def adapter(database: Database) -> AsyncIterator[SandboxAdapter]:
    """On both databases."""
    await add_platforms(database)
    async with adapter_services(database) as services:
        made = SandboxAdapter(services)
        yield made
        await made.close()


@pytest.fixture
def account() -> Account:
    return make_account("sandbox", {})


BEHAVIOURS = [
    ("bob", ACCEPTING),
    ("", ACCEPTING),
    ("fail-permanent", Behaviour(fails_permanently=True)),
    ("fail-permanent:1", Behaviour(fails_permanently=True)),
    ("fail-permanent-1", ACCEPTING),
    ("Fail-Permanent", ACCEPTING),
    ("auth-failure:x:y", Behaviour(fails_authentication=True)),
    ("fail-times-3", Behaviour(fails_times=3)),
    ("fail-times-999:a\nb", Behaviour(fails_times=999)),
    ("fail-times-0", ACCEPTING),
    ("fail-times-1000", ACCEPTING),
    ("fail-times-x", ACCEPTING),
    ("fail-times-\u0663", ACCEPTING),
    ("throttle-2s", Behaviour(throttles_for=2.0)),
    ("throttle-250ms:bob", Behaviour(throttles_for=0.25)),
    ("throttle-2", ACCEPTING),
    ("slow-1500ms", Behaviour(answers_after=1.5)),
    ("slow-999999s", Behaviour(answers_after=600.0)),
    ("slow-1m", ACCEPTING),
    ("reply", Behaviour(replies=True)),
    ("reply:anna", Behaviour(replies=True)),
    ("replyanna", ACCEPTING),
]


@pytest.mark.parametrize(("target_id", "behaviour"), BEHAVIOURS)
def test_the_grammar(target_id: str, behaviour: Behaviour) -> None:
    assert behaviour_of(target_id) == behaviour


OUTCOMES = [
    ("fail-permanent", 1, 0, PermanentError, "sandbox_refused"),
    ("fail-permanent", 9, 0, PermanentError, "sandbox_refused"),
    ("auth-failure", 1, 0, AuthenticationError, "sandbox_unauthenticated"),
    ("fail-times-2", 1, 0, TemporaryError, "sandbox_failed"),
    ("fail-times-2", 2, 0, TemporaryError, "sandbox_failed"),
    ("fail-times-2", 3, 0, None, ""),
    ("throttle-1500ms", 1, 0, ThrottledError, "sandbox_throttled"),
    ("throttle-1500ms", 1, 1, None, ""),
    ("slow-1ms", 1, 0, None, ""),
    ("anybody", 1, 0, None, ""),
]


@pytest.mark.parametrize(("target_id", "attempt", "throttles", "error", "code"), OUTCOMES)
async def test_what_recipients_do(
    target_id: str,
    attempt: int,
    throttles: int,
    error: type[DeliveryError] | None,
    code: str,
    adapter: SandboxAdapter,
    account: Account,
) -> None:
    delivery = make_delivery(target_id, HELLO, attempt=attempt, throttles=throttles)
    if error is None:
        assert (await adapter.send(account, delivery)).provider_message_id == delivery.id
        assert [entry["id"] for entry in await read_inbox(adapter.services.database, PLATFORM_ID)] == [delivery.id]
        return
    with pytest.raises(DeliveryError) as raised:
        await adapter.send(account, delivery)
    assert (type(raised.value), raised.value.code, raised.value.reached) == (error, code, "no")
    if isinstance(raised.value, ThrottledError):
        assert (raised.value.retry_after, raised.value.scope) == (1.5, Scope.LANE)
    assert await read_inbox(adapter.services.database, PLATFORM_ID) == []


async def test_the_inbox_shows_what_was_sent(adapter: SandboxAdapter, account: Account) -> None:
    content = make_content(
        subject="Hi", text="Grüße", buttons=[{"text": "Yes", "value": "y"}], platformOptions={"x": {"y": 1}}
    )
    delivery = make_delivery("bob", content, target_type="channel", options={"replyTo": "17"})
    await adapter.send(account, delivery)
    [entry] = await read_inbox(adapter.services.database, PLATFORM_ID)
    assert entry.pop("receivedAt").endswith("Z")
    assert entry == {
        "id": delivery.id,
        "messageId": delivery.message_id,
        "target": {"type": "channel", "id": "bob"},
        "content": {"subject": "Hi", "text": "Grüße", "buttons": [{"text": "Yes", "value": "y"}], "platformOptions": {"x": {"y": 1}}},
        "replyTo": "17",
    }  # fmt: skip


async def test_the_inbox_is_read_in_pages_newest_first(adapter: SandboxAdapter, account: Account) -> None:
    deliveries = [make_delivery("bob", HELLO) for _ in range(5)]
    other = make_account("sandbox", {}, id=OTHER_PLATFORM_ID)
    await asyncio.gather(*(adapter.send(account, delivery) for delivery in deliveries))
    await adapter.send(other, make_delivery("bob", HELLO))
    database = adapter.services.database
    expected = sorted((delivery.id for delivery in deliveries), reverse=True)
    first = [entry["id"] for entry in await read_inbox(database, PLATFORM_ID, limit=3)]
    second = [entry["id"] for entry in await read_inbox(database, PLATFORM_ID, limit=3, before=first[-1])]
    assert first + second == expected


async def test_clearing_leaves_other_inboxes_alone(adapter: SandboxAdapter, account: Account) -> None:
    database = adapter.services.database
    other = make_account("sandbox", {}, id=OTHER_PLATFORM_ID)
    await adapter.send(account, make_delivery("bob", HELLO))
    await adapter.send(other, make_delivery("bob", HELLO))
    async with database.write() as connection:
        assert await clear_inbox(connection, PLATFORM_ID) == 1
        assert await clear_inbox(connection, PLATFORM_ID) == 0
    assert len(await read_inbox(database, OTHER_PLATFORM_ID)) == 1


async def test_a_redelivery_is_one_message_and_one_answer(adapter: SandboxAdapter, account: Account) -> None:
    delivery = make_delivery("reply:anna", make_content(text="How are you?"))
    await asyncio.gather(*(adapter.send(account, delivery) for _ in range(3)))
    await adapter.send(account, delivery)
    assert len(await read_inbox(adapter.services.database, PLATFORM_ID)) == 1
    async with adapter.services.database.read() as connection:
        [answer] = (await connection.execute(select(inbound_requests))).all()
    assert (answer.platform_id, answer.platform) == (PLATFORM_ID, "sandbox")
    request = InboundRequest("POST", answer.headers, answer.query, answer.body, answer.received_at)
    [envelope] = SandboxInbound().read(account, request)
    assert (envelope.chat.id, envelope.author and envelope.author.id) == ("reply:anna", "reply:anna")
    assert isinstance(envelope.content, Message)
    assert envelope.content.text == "You wrote: How are you?"


async def test_a_thousand_at_once_take_few_transactions(adapter: SandboxAdapter, account: Account) -> None:
    commits = 0
    original = adapter.services.database.write

    def counting() -> Any:
        nonlocal commits
        commits += 1
        return original()

    adapter.services.database.write = counting  # type: ignore[method-assign]
    await asyncio.gather(*(adapter.send(account, make_delivery(f"user-{i}", HELLO)) for i in range(1000)))
    assert len(await read_inbox(adapter.services.database, PLATFORM_ID, limit=2000)) == 1000
    assert commits <= 4


async def test_a_deleted_platform_fails_its_own_messages_only(adapter: SandboxAdapter, account: Account) -> None:
    other = make_account("sandbox", {}, id=OTHER_PLATFORM_ID)
    async with adapter.services.database.write() as connection:
        await connection.execute(delete(project_platforms).where(project_platforms.c.id == OTHER_PLATFORM_ID))
    outcomes = await asyncio.gather(
        adapter.send(account, make_delivery("a", HELLO)),
        adapter.send(other, make_delivery("b", HELLO)),
        adapter.send(account, make_delivery("c", HELLO)),
        return_exceptions=True,
    )
    assert [getattr(outcome, "code", "sent") for outcome in outcomes] == ["sent", "platform_deleted", "sent"]
    assert len(await read_inbox(adapter.services.database, PLATFORM_ID)) == 2


def test_it_takes_no_credentials_and_any_short_target() -> None:
    registry = PlatformRegistry()
    assert registry.check_credentials("sandbox", {}) == []
    assert [error.pointer for error in registry.check_credentials("sandbox", {"token": "x"})] == ["/credentials/token"]
    assert registry.check_target("sandbox", make_delivery("x" * 255, HELLO).target) == []
    [error] = registry.check_target("sandbox", make_delivery("x" * 256, HELLO).target)
    assert error.pointer == "/target/id"
