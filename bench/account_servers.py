"""The other ends of accounts of every platform, in this process: they take everything, and note when messages come."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from msgcore.platforms.base import PlatformDeclaration
from msgcore.platforms.registry import PlatformRegistry
from servers.facts import Facts, http_facts
from servers.faulty_smtp import faulty_smtp
from servers.http_sink import Request
from servers.smtp import make_certificate

REGISTRY = PlatformRegistry()
MARK = b"benchaccount"
"""A word that each message has in its text, and no other request."""


class Arrival:
    """When the newest message came."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.moment = 0.0

    def note(self) -> float:
        """One came."""
        self.moment = time.perf_counter()
        self.came.set()
        return self.moment


@dataclass
class Mailboxes:
    """An IMAP server: every mailbox is empty, and stays so."""

    waiting: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        writer.write(b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n")
        is_waiting = False
        while line := await reader.readline():
            tag, _, command = line.strip().partition(b" ")
            word = command.split(b" ")[0].upper()
            if tag.upper() == b"DONE":
                self.waiting, is_waiting = self.waiting - 1, False
                writer.write(b"IDLE1 OK done\r\n")
            elif word == b"IDLE":
                self.waiting, is_waiting = self.waiting + 1, True
                self.news.set()
                writer.write(b"+ waiting\r\n")
            else:
                writer.write(_SAID.get(word, b"") + tag + b" OK done\r\n")
        self.waiting -= is_waiting
        writer.close()


_SAID = {
    b"CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE\r\n",
    b"EXAMINE": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
    b"UID": b"* SEARCH\r\n",
}


@dataclass(frozen=True)
class Kind:
    """A platform of which accounts can be made here: credentials for one, and whom its messages go to."""

    declaration: PlatformDeclaration
    credentials: dict[str, Any]
    targets: tuple[dict[str, str], ...]
    content: dict[str, str]

    @property
    def name(self) -> str:
        """Of the platform."""
        return self.declaration.name


@dataclass
class Servers:
    """What accounts are made of, and the variables of a gateway that lead it here."""

    arrival: Arrival
    mailboxes: Mailboxes
    kinds: list[Kind] = field(default_factory=list[Kind])
    environment: dict[str, str] = field(default_factory=dict[str, str])

    async def add_http(self, name: str, facts: Facts, resources: AsyncExitStack) -> None:
        """A platform with an HTTP API, as its facts say that it answers."""
        runner = web.ServerRunner(web.Server(_answering(facts, self.arrival.note)))
        await runner.setup()
        resources.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.environment[f"MSGCORE_{name.upper().replace('-', '_')}_BASE_URL"] = url
        declaration = REGISTRY.declaration(name)
        targets = tuple({"type": facts.target_type, "id": each} for each in (facts.target, facts.other_target))
        credentials = example_credentials(declaration) | facts.credentials(url)
        self.kinds.append(Kind(declaration, credentials, targets, {"text": MARK.decode()}))

    async def add_mail(self, certificate: ssl.SSLContext, resources: ExitStack) -> None:
        """E-mail both ways: SMTP, and a mailbox over TLS that is watched."""
        smtp = resources.enter_context(faulty_smtp("text", None, self.arrival.note))
        await smtp.listen()
        imap = await asyncio.start_server(self.mailboxes.handle, "127.0.0.1", 0, ssl=certificate)
        resources.callback(imap.close)
        login = {"imapUser": "me", "imapPassword": "secret", "imapTls": "tls", "imapTlsVerify": False}
        sending = {"smtpHost": "127.0.0.1", "smtpPort": smtp.port, "fromEmail": "me@example.com"}
        receiving = {"imapHost": "127.0.0.1", "imapPort": imap.sockets[0].getsockname()[1], **login}
        targets = tuple({"type": "user", "id": f"{name}@example.com"} for name in ("ann", "bob"))
        content = {"subject": "Hi", "text": MARK.decode()}
        self.kinds.append(Kind(REGISTRY.declaration("email"), sending | receiving, targets, content))


def example_credentials(declaration: PlatformDeclaration) -> dict[str, Any]:
    """Those that an account must have, as the declaration shows them; all where one of several is needed."""
    shown = {each.name: each.example for each in declaration.credentials if each.example is not None}
    needed = {each.name: each.example for each in declaration.credentials if each.required and each.default is None}
    return shown if REGISTRY.check_credentials(declaration.name, needed) else needed


def _answering(facts: Facts, note: Callable[[], float]) -> Callable[[web.BaseRequest], Any]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if MARK in body:
            note()
        status, said = facts.answers(Request(request.method, request.path_qs, dict(request.headers), body))
        content = b"" if said is None else msgspec.json.encode(said)
        return web.Response(status=status, body=content, content_type="application/json")

    return answer


@asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[Servers]:
    """A server for each platform that sends, as far as its ways are known here."""
    servers = Servers(Arrival(), Mailboxes())
    async with AsyncExitStack() as resources:
        for name, facts in http_facts(REGISTRY).items():
            await servers.add_http(name, facts, resources)
        await servers.add_mail(make_certificate(folder, "127.0.0.1").context, resources.enter_context(ExitStack()))
        yield servers
