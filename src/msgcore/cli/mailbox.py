"""A mail server for the demo: takes every mail and keeps it."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session


class Mailbox:
    """What was received, in order."""

    def __init__(self) -> None:
        self._received: asyncio.Queue[EmailMessage] = asyncio.Queue()

    async def next_mail(self) -> EmailMessage:
        """The next mail; waits for it."""
        return await self._received.get()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[int]:
        """Serve SMTP on a free port of 127.0.0.1; gives the port."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(self, enable_SMTPUTF8=True), "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep one mail; aiosmtpd calls this when its text is complete."""
        content = envelope.content or b""
        raw = content if isinstance(content, bytes) else content.encode()
        self._received.put_nowait(email.message_from_bytes(raw, policy=email.policy.default))
        return "250 OK"
