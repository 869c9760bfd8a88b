"""What is told of refused requests: a few lines a minute, and how many more there were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from msgcore.core.clock import Clock
from msgcore.dispatch.accounts import AccountRecord
from msgcore.inbound.refusals import MOST_LINES, PERIOD, RefusalLog
from msgcore.store.database import Database
from msgcore.store.tables import platform_logs
from store.ledger_rows import ACCOUNT, NOW, PROJECT, add_project

OTHER = "01920000-0000-7000-8000-0000000000ab"


@dataclass
class HandClock(Clock):
    """Stands still until it is set."""

    seconds: float = 0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def record(account_id: str) -> AccountRecord:
    return AccountRecord(
        id=account_id,
        project_id=PROJECT,
        platform="sandbox",
        name="box",
        webhook_token="t",
        is_active=True,
        paused_reason=None,
        project_paused=False,
        credentials_encrypted="",
        updated_at=NOW,
    )


async def test_a_few_lines_a_minute_and_account(database: Database) -> None:
    await add_project(database)
    clock = HandClock()
    refusals = RefusalLog(database, clock)
    for _ in range(MOST_LINES + 7):
        refusals.note(record(ACCOUNT), 401, "wrong")
    refusals.note(record(OTHER), 400, "cut\0off")
    clock.seconds = PERIOD
    for _ in range(2):
        refusals.note(record(ACCOUNT), 422, "deep")
    await refusals.stop()
    async with database.read() as connection:
        rows = (await connection.execute(select(platform_logs).order_by(platform_logs.c.id))).all()
    assert [(row.platform_id, row.error, row.metadata) for row in rows] == [
        *[(ACCOUNT, "wrong", {"status": 401})] * MOST_LINES,
        (OTHER, "cutoff", {"status": 400}),
        (ACCOUNT, "deep", {"status": 422, "leftOut": 7}),
        (ACCOUNT, "deep", {"status": 422}),
    ]
