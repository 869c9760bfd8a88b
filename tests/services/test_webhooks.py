"""What webhooks leave in the database: sealed secrets, audit rows, failures forgotten, deliveries counted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.egress import EgressGuard
from msgcore.security.keyring import Keyring
from msgcore.security.webhook_secrets import make_secret, read_secret
from msgcore.services.webhooks import NewWebhook, WebhookService
from msgcore.store import webhooks as store
from msgcore.store.database import Database
from msgcore.store.tables import audit_logs, webhook_deliveries, webhooks
from store.ledger_rows import CALLER, NOW, PROJECT, add_project

ANN = Principal("jwt", CALLER)
URL = "https://hooks.example.com:8443/path-token?query-token=1"
FIRST, SECOND, THIRD = (f"planted secret number {n}" for n in range(3))
DAY = timedelta(days=1)


class SetClock:
    """Shows the time that it is set to."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


class Office:
    """The service, and a look behind it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = SetClock()
        self.keyring = Keyring(b"k" * 32)
        self.told: list[str] = []
        self.service = self.with_keyring(self.keyring)

    def with_keyring(self, keyring: Keyring) -> WebhookService:
        return WebhookService(
            database=self.database, keyring=keyring, egress=EgressGuard(), clock=self.clock, on_change=self.changed
        )

    async def changed(self, webhook_id: str) -> None:
        self.told.append(webhook_id)

    async def create(self, project: str = PROJECT, **more: Any) -> str:
        new = NewWebhook(**({"name": "hook", "url": URL, "events": ["*"], "secret": FIRST} | more))
        return str((await self.service.create(ANN, project, new)).row.id)

    async def rotate(self, webhook_id: str, secret: str, overlap: timedelta = DAY) -> None:
        await self.service.rotate_secret(ANN, PROJECT, webhook_id, secret=secret, overlap=overlap)

    async def row(self, webhook_id: str) -> Any:
        async with self.database.read() as connection:
            return await store.find_webhook(connection, PROJECT, webhook_id)

    async def secrets(self, webhook_id: str) -> tuple[str | None, str | None]:
        row = await self.row(webhook_id)
        sealed = (row.secret_encrypted, row.previous_secret_encrypted)
        first, second = (text and self.keyring.decrypt(text, context=webhook_id).decode() for text in sealed)
        return first, second

    async def set(self, webhook_id: str, **values: Any) -> None:
        async with self.database.write() as connection:
            await connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))


@pytest.fixture
async def office(database: Database) -> Office:
    await add_project(database)
    return Office(database)


async def test_secrets_are_sealed_and_the_last_but_one_is_kept(office: Office) -> None:
    webhook_id = await office.create()
    assert FIRST not in str(await office.row(webhook_id))
    assert await office.secrets(webhook_id) == (FIRST, None)
    await office.rotate(webhook_id, SECOND)
    assert await office.secrets(webhook_id) == (SECOND, FIRST)
    assert (await office.row(webhook_id)).previous_secret_until == NOW + DAY
    await office.rotate(webhook_id, THIRD)
    assert await office.secrets(webhook_id) == (THIRD, SECOND)
    await office.rotate(webhook_id, FIRST, timedelta(0))
    assert await office.secrets(webhook_id) == (FIRST, None)
    assert (await office.row(webhook_id)).previous_secret_until is None


async def test_an_overlap_that_ended_is_not_shown(office: Office) -> None:
    webhook_id = await office.create()
    await office.rotate(webhook_id, SECOND)
    office.clock.time = NOW + DAY - timedelta(seconds=1)
    assert (await office.service.get(PROJECT, webhook_id))[0].previous_secret_until == NOW + DAY
    office.clock.time = NOW + DAY
    assert (await office.service.get(PROJECT, webhook_id))[0].previous_secret_until is None


async def test_a_secret_of_a_lost_key_can_be_replaced(office: Office) -> None:
    webhook_id = await office.create()
    anew = office.with_keyring(Keyring(b"n" * 32))
    view = await anew.rotate_secret(ANN, PROJECT, webhook_id, secret=FIRST, overlap=DAY)
    assert (view.secret, view.previous_secret_until) == (FIRST, None)
    assert (await office.row(webhook_id)).previous_secret_encrypted is None


async def test_secrets_do_not_show_in_what_is_printed(office: Office) -> None:
    new = NewWebhook("hook", URL, ["*"], FIRST)
    view = await office.service.create(ANN, PROJECT, new)
    assert view.secret == FIRST
    assert FIRST not in f"{new!r} {view!r}"


def test_made_secrets_are_standard_webhooks_secrets() -> None:
    made = {make_secret() for _ in range(10)}
    assert len(made) == 10
    assert {len(read_secret(secret) or b"") for secret in made} == {32}


async def test_switching_on_forgets_failures_and_nothing_else_does(office: Office) -> None:
    webhook_id = await office.create()
    failed = {"is_active": False, "failing_since": NOW, "disabled_reason": "nothing got through for 5 days"}
    await office.set(webhook_id, **failed)
    for changes in ({"name": "new"}, {"is_active": False}, {"events": ["message.sent"]}):
        row = (await office.service.update(ANN, PROJECT, webhook_id, dict(changes))).row
        assert (row.failing_since, row.disabled_reason) == (NOW, failed["disabled_reason"])
    row = (await office.service.update(ANN, PROJECT, webhook_id, {"is_active": True})).row
    assert (row.is_active, row.failing_since, row.disabled_reason) == (True, None, None)
    assert (await office.row(webhook_id)).failing_since is None


async def test_who_changed_what_is_kept_without_secrets_and_tokens(office: Office) -> None:
    webhook_id = await office.create()
    await office.service.update(ANN, PROJECT, webhook_id, {"name": "new", "url": "https://example.org/other-token"})
    await office.rotate(webhook_id, SECOND)
    await office.service.delete(ANN, PROJECT, webhook_id)
    async with office.database.read() as connection:
        rows = (await connection.execute(select(audit_logs).order_by(audit_logs.c.id))).all()
    assert {(row.actor_id, row.subject_type, row.subject_id) for row in rows} == {(CALLER, "webhook", webhook_id)}
    told = {"name": "hook", "url": "https://hooks.example.com:8443"}
    assert [(row.action, row.before, row.after) for row in rows] == [
        ("webhook.created", None, told | {"events": ["*"], "isOrdered": False}),
        ("webhook.updated", told, {"name": "new", "url": "https://example.org"}),
        ("webhook.secret_rotated", None, {"previousSecretUntil": "2030-01-02T00:00:00.000Z"}),
        ("webhook.deleted", {"name": "new", "url": "https://example.org"}, None),
    ]


async def test_deliveries_are_counted_up_to_a_limit(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook_id, other_id = await office.create(), await office.create()
    statuses = ["failed"] * 2 + ["success"] * 3 + ["pending"]
    rows = [
        {"id": new_id(), "webhook_id": webhook_id, "event": "message.sent", "payload": {}, "status": status}
        for status in statuses
    ]
    async with office.database.write() as connection:
        await connection.execute(insert(webhook_deliveries), [row | {"created_at": NOW, "attempts": 1} for row in rows])

    async def counts(of: str) -> tuple[int, int, int, int]:
        stats = (await office.service.get(PROJECT, of))[1]
        return stats.total, stats.successful, stats.failed, stats.pending

    assert await counts(webhook_id) == (6, 3, 2, 1)
    assert await counts(other_id) == (0, 0, 0, 0)
    monkeypatch.setattr(store, "MOST_COUNTED", 4)
    assert await counts(webhook_id) == (4, 3, 0, 1)
    await office.service.delete(ANN, PROJECT, webhook_id)
    async with office.database.read() as connection:
        assert (await connection.execute(select(webhook_deliveries))).all() == []


async def test_who_dispatches_is_told_of_what_changed(office: Office) -> None:
    webhook_id = await office.create()
    assert office.told == [], "nobody knows it yet"
    await office.service.update(ANN, PROJECT, webhook_id, {"name": "new"})
    await office.rotate(webhook_id, SECOND)
    await office.service.delete(ANN, PROJECT, webhook_id)
    assert office.told == [webhook_id] * 3
