"""New mail by IMAP: told of by the server (IDLE) or asked for, fetched once, and left in the mailbox as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgcore.platforms.email.imap import ImapSession, Login, connect
from msgcore.platforms.email.mailbox import MailboxReading
from msgcore.platforms.email.tls import TlsContexts
from msgcore.platforms.live import Live, Sink, State

if TYPE_CHECKING:
    from msgcore.outbound.services import AdapterServices
    from msgcore.platforms.base import Account

IDLE_SECONDS = 9 * 60.0
"""Servers may hang up after 30 minutes (RFC 2177), and routers forget silent connections after ten or so."""
POLL_SECONDS = 60.0
"""How often is asked where the server does not tell."""
GATHER_SECONDS = 0.2
"""Before each wait: mails that come in a burst are fetched together, and a server that chatters keeps nobody busy."""
FETCHES = 8
"""Batches of mails that a process has in memory at a time."""
THREADS = 32
"""Commands of a process at a time; connections that only wait need none."""


class EmailLive(Live):
    """Reads mailboxes."""

    way = "imap"

    def __init__(self, services: AdapterServices) -> None:
        super().__init__(services)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="imap")
        self._fetches = asyncio.Semaphore(FETCHES)
        self._tls = TlsContexts()

    @classmethod
    def wanted(cls, account: Account) -> bool:
        """Where an IMAP server is named."""
        return bool(account.credentials.get("imapHost"))

    async def run(self, account: Account, sink: Sink, state: State | None) -> None:
        """Take what is new, and then what comes."""
        login = Login.of(account.credentials)
        async with self._session(login, account.credentials) as session:
            now = self.services.clock.now
            reading = MailboxReading(login, session, sink, state, fetches=self._fetches, now=now)
            await reading.catch_up()
            sink.connected()
            while True:
                await asyncio.sleep(GATHER_SECONDS)
                if session.can_idle:
                    await session.idle(IDLE_SECONDS)
                else:
                    await asyncio.sleep(POLL_SECONDS)
                await reading.catch_up()

    async def close(self) -> None:
        """End the threads, which have nothing to do any more."""
        self._threads.shutdown(wait=False)

    @asynccontextmanager
    async def _session(self, login: Login, credentials: Mapping[str, Any]) -> AsyncGenerator[ImapSession]:
        is_checked = credentials.get("imapTlsVerify") is not False
        context = self._tls.verified if is_checked else self._tls.unverified
        session = await connect(login, self.services.egress, self._threads, context)
        try:
            yield session
        finally:
            session.close()
