"""A gateway on the test's clock, with an account for each fault, so that none holds up another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from pydantic import SecretStr
from sqlalchemy import insert, select

from contract.fault_cases import Case
from msgcore.config import Settings
from msgcore.core.ids import new_id
from msgcore.platforms.base import PlatformDeclaration
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.keyring import Keyring
from msgcore.store.tables import attempts, deliveries, project_platforms
from servers.clock import FakeClock
from servers.in_process import InProcess, in_this_process
from servers.passing_time import pass_time

KEY = "5c" * 32
REGISTRY = PlatformRegistry()
SHORTEST = 15
"""Characters of a message that says something."""
_NOT_FOR_PEOPLE = re.compile(r"Traceback|</?[a-z]+>|object at 0x|\b(Type|Key|Index|Value|Attribute|OS|Timeout)Error")


@dataclass
class Story:
    """What became of one delivery: its state at the end, and its attempts."""

    state: str
    code: str | None
    attempts: list[Any] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Whether nothing more is done."""
        return self.state in ("sent", "failed")

    @property
    def outcomes(self) -> list[str]:
        """In their order."""
        return [attempt.outcome for attempt in self.attempts]


class FaultPlace:
    """Accounts are made in the database, as their credentials need not be plausible; all else goes by the API."""

    def __init__(self, served: InProcess, clock: FakeClock) -> None:
        self.ask, self.clock = served.ask, clock
        self.gateway = served.gateway
        self._database = served.gateway.database
        self._keyring = Keyring(bytes.fromhex(KEY))

    async def add_accounts(self, platform: str, credentials: Sequence[dict[str, Any]]) -> list[str]:
        """An account of the platform for each of these credentials; their ids."""
        now = self.clock.now()
        rows = [
            {
                "id": (id_ := new_id()),
                "project_id": "shop",
                "platform": platform,
                "name": f"{platform} {number}",
                "credentials_encrypted": self._keyring.encrypt(msgspec.json.encode(each), context=id_),
                "webhook_token": new_id(),
                "created_at": now,
                "updated_at": now,
            }
            for number, each in enumerate(credentials)
        ]
        async with self._database.write() as connection:
            await connection.execute(insert(project_platforms), rows)
        return [row["id"] for row in rows]

    async def send(self, messages: Sequence[dict[str, Any]]) -> list[str]:
        """Accept these at once, and do what there is to do in this moment; the ids of their jobs."""
        accepted = await self.ask("POST", "projects/shop/messages/batch", messages)
        await self.pass_time(0.0)
        jobs: list[str] = accepted["jobIds"]
        return jobs

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, with what is done in each moment."""
        await pass_time(self.gateway, self.clock, seconds)

    async def stories(self) -> dict[str, Story]:
        """What became of each message so far, by its job."""
        query = (
            select(deliveries.c.message_id, deliveries.c.state, deliveries.c.error_code.label("final"), attempts)
            .join(attempts, attempts.c.delivery_id == deliveries.c.id)
            .order_by(attempts.c.id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        found: dict[str, Story] = {}
        for row in rows:
            found.setdefault(row.message_id, Story(row.state, row.final)).attempts.append(row)
        return found

    async def pauses(self) -> dict[str, tuple[str, str]]:
        """Who or what paused an account, and why, by the accounts that are."""
        listed = await self.ask("GET", "projects/shop/platforms")
        return {each["id"]: (each["pausedBy"], each["pausedReason"]) for each in listed if each["paused"]}

    async def resume(self, accounts: Sequence[str]) -> None:
        """As somebody does who has mended what was wrong."""
        await asyncio.gather(*(self.ask("POST", f"projects/shop/platforms/{id_}/resume") for id_ in accounts))


@asynccontextmanager
async def fault_place(folder: Path, database_url: str, clock: FakeClock, **settings: Any) -> AsyncIterator[FaultPlace]:
    """A running gateway with a project."""
    made = Settings(
        data_dir=folder / "data",
        database_url=SecretStr(database_url),
        encryption_key=SecretStr(KEY),
        egress_allow=["127.0.0.0/8"],
        reconcile_seconds=60.0,
        shutdown_seconds=1.0,
        **settings,
    )
    async with in_this_process(made, clock=clock) as served:
        await served.set_up()
        yield FaultPlace(served, clock)


def example_credentials(declaration: PlatformDeclaration) -> dict[str, Any]:
    """Those that an account must have, as the declaration shows them: with others it would receive as well."""
    return {field.name: field.example for field in declaration.credentials if field.required}


def assert_nothing(found: Iterable[list[str]]) -> None:
    """That nothing is wrong."""
    wrong = [each for several in found for each in several]
    assert not wrong, "\n".join(wrong)


def begins_wrong(case: Case, story: Story, declaration: PlatformDeclaration) -> list[str]:
    """What is wrong with the first attempt."""
    attempt = story.attempts[0]
    wrong: list[str] = []
    if attempt.outcome not in case.outcomes:
        wrong.append(f"{attempt.outcome} in place of {sorted(case.outcomes)}")
    if case.reached is not None and (attempt.reached or "no") != case.reached:
        wrong.append(f"reached: {attempt.reached}")
    if case.code is not None and attempt.error_code != case.code:
        wrong.append(f"code: {attempt.error_code}")
    if not (attempt.error_message or "").startswith(case.words):
        wrong.append("other words")
    if attempt.outcome != "sent" and (problem := unclear(attempt, declaration)):
        wrong.append(problem)
    return [f"{case}: {each} ({attempt.error_code}: {attempt.error_message})" for each in wrong]


def ends_wrong(case: Case, story: Story, requests: int) -> list[str]:
    """What is wrong with the end of a message whose fault was met once, and with how often it came there."""
    first = story.attempts[0]
    gives_up = first.outcome == "retry" and first.reached == "maybe" and case.on_uncertain == "fail"
    expected = (1 if first.outcome in ("sent", "failed") or gives_up else 2) - (case.play is None)
    state = "failed" if first.outcome == "failed" or gives_up else "sent"
    wrong: list[str] = []
    if story.state != state:
        wrong.append(f"{story.state} in place of {state} ({story.outcomes}, {story.attempts[-1].error_message})")
    if requests != expected:
        wrong.append(f"{requests} requests in place of {expected} ({story.outcomes})")
    if gives_up and story.code != "uncertain":
        wrong.append(f"given up as {story.code}")
    return [f"{case}: {each}" for each in wrong]


def unclear(attempt: Any, declaration: PlatformDeclaration) -> str | None:
    """What is wrong with how an attempt that failed is explained to people; None if nothing is."""
    code, message = attempt.error_code, attempt.error_message
    secrets = [str(field.example) for field in declaration.credentials if field.secret and field.example]
    if not code or re.fullmatch(r"[a-z][a-z_]+", code) is None:
        return f"the code {code!r} is no word"
    if not message or len(message) < SHORTEST:
        return f"{message!r} says nothing"
    if _NOT_FOR_PEOPLE.search(message):
        return f"{message!r} is not for people"
    if any(secret in message for secret in secrets):
        return f"{code}: the message has a secret"
    return None
