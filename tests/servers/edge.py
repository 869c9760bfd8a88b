"""A platform's edge: its adapter, and real servers in the platform's place that keep whatever reaches them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web
from sqlalchemy import delete, insert, select

from msgcore.core.content import Content
from msgcore.core.ids import new_id
from msgcore.platforms.base import Account, PlatformAdapter, PlatformDeclaration
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store.database import Database
from msgcore.store.tables import project_platforms, projects, sandbox_inbox, users
from servers.adapters import adapter_services
from servers.deliveries import PLATFORM_ID, make_account, make_delivery
from servers.facts import Facts, facts_of
from servers.http_sink import HttpSink, http_sink
from servers.smtp import SmtpServer, smtp_server

MESSAGE = "0190a000-0000-7000-8000-00000000000a"
LONG_AGO = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass
class Edge:
    """An adapter whose platform is on this machine, whatever it speaks."""

    adapter: PlatformAdapter
    account: Account
    facts: Facts
    database: Database
    http: HttpSink
    mail: SmtpServer

    async def send(self, content: Content, options: dict[str, Any] | None = None) -> list[bytes]:
        """Send all of a message, as the dispatch core does; what reached the platform.

        Requests are compared with the platform's description. Raises AssertionError, and what the adapter raises.
        """
        self.http.requests.clear()
        self.mail.mails.clear()
        made = make_delivery(
            self.facts.target, content, target_type=self.facts.target_type, options=options, delivery_id=MESSAGE
        )
        delivery = msgspec.structs.replace(made, created_at=LONG_AGO)
        parts: list[str] = []
        receipt = await self.adapter.send(self.account, delivery)
        while receipt.more:
            parts.append(receipt.provider_message_id or "")
            receipt = await self.adapter.send(self.account, msgspec.structs.replace(delivery, part_ids=tuple(parts)))
        if isinstance(self.adapter, CallingAdapter):
            assert [self.facts.check(request) for request in self.http.requests]
        return await self._arrived()

    async def _arrived(self) -> list[bytes]:
        requests = [f"{request.path}\n".encode() + request.body for request in self.http.requests]
        async with self.database.write() as connection:
            kept = (await connection.execute(select(sandbox_inbox.c.content, sandbox_inbox.c.reply_to))).all()
            await connection.execute(delete(sandbox_inbox))
        mails = [mail.data for mail in self.mail.mails]
        return [*requests, *mails, *(msgspec.json.encode(tuple(row)) for row in kept)]


@asynccontextmanager
async def edge_of(registry: PlatformRegistry, name: str, database_url: str) -> AsyncIterator[Edge]:
    """The edge of a platform."""
    facts, adapter_class = facts_of(name), registry.adapter_class(name)
    database = Database.open(database_url)
    await add_account(database)
    async with http_sink() as http, smtp_server() as mail, adapter_services(database) as services:

        async def answer(_: web.Request) -> web.StreamResponse:
            status, body = facts.answers(http.requests[-1])
            return web.json_response(body, status=status)

        http.answer = answer
        services.base_urls[name] = http.url
        local = {"smtpHost": "127.0.0.1", "smtpPort": mail.port, "url": f"{http.url}/hook", "smtpUser": None}
        local |= {"smtpPassword": None} | facts.credentials(http.url)
        declared = {field.name for field in adapter_class.declaration.credentials}
        given = example_credentials(adapter_class.declaration) | local
        account = make_account(name, {key: value for key, value in given.items() if key in declared})
        adapter = adapter_class(services)
        yield Edge(adapter, account, facts, database, http, mail)
        await adapter.close()
    await database.close()


def example_credentials(declaration: PlatformDeclaration) -> dict[str, Any]:
    """The credentials that the declaration shows as an example."""
    return {field.name: field.example for field in declaration.credentials if field.example is not None}


async def add_account(database: Database) -> None:
    """The row of the account that deliveries of tests name."""
    stamps = {"created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
    owner = {"id": new_id(), "email": "owner@example.com"}
    project = {"id": "demo", "name": "Demo", "environment": "development", "owner_id": owner["id"]}
    platform = {"id": PLATFORM_ID, "project_id": "demo", "platform": "any", "name": "Any", "webhook_token": new_id()}
    async with database.write() as connection:
        await connection.execute(insert(users), owner | stamps)
        await connection.execute(insert(projects), project | stamps)
        await connection.execute(insert(project_platforms), platform | {"credentials_encrypted": "x"} | stamps)


def holds(arrived: Sequence[bytes], marker: str) -> bool:
    """Whether a text is in what arrived, as it is or as the base64 of a file."""
    plain = marker.encode()
    return any(plain in each or base64.b64encode(plain).rstrip(b"=")[:-1] in each for each in arrived)
