"""Configured platforms: what is asked of the platform itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from msgcore.core.clock import SystemClock
from msgcore.core.errors import InvalidInputError
from msgcore.core.scopes import Principal
from msgcore.platforms.base import Account, QrCode
from msgcore.platforms.registry import PlatformRegistry
from msgcore.platforms.sandbox import SandboxAdapter
from msgcore.security.keyring import Keyring
from msgcore.services import platforms
from msgcore.services.platforms import PlatformService
from msgcore.store.database import Database
from msgcore.store.tables import project_platforms
from servers.adapters import adapter_services
from store.ledger_rows import ACCOUNT, CALLER, PROJECT, add_project

KEYRING = Keyring(b"k" * 32)
ANN = Principal("jwt", CALLER)


class Tarpit(SandboxAdapter):
    """A platform that takes what it is asked, and says nothing."""

    async def register_webhook(self, account: Account, url: str) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def qr_code(self, account: Account) -> QrCode:
        await asyncio.Event().wait()
        return QrCode()


async def test_a_platform_that_does_not_answer_holds_no_caller(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "ANSWER_SECONDS", 0.01)
    await add_project(database)
    async with database.write() as connection:
        sealed = KEYRING.encrypt(b"{}", context=ACCOUNT)
        await connection.execute(update(project_platforms).values(credentials_encrypted=sealed))
    async with adapter_services(database) as services:
        service = PlatformService(
            database=database,
            registry=PlatformRegistry(),
            adapters={"sandbox": Tarpit(services)},
            keyring=KEYRING,
            clock=SystemClock(),
            api_url="http://localhost",
            on_change=lambda _: asyncio.sleep(0),
        )
        for asking in (service.register_webhook(ANN, PROJECT, ACCOUNT), service.qr_code(PROJECT, ACCOUNT)):
            with pytest.raises(InvalidInputError, match="did not answer within"):
                await asking
