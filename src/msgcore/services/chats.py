"""Chats, and what was said in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgcore.core.clock import Clock
from msgcore.core.errors import NotFoundError
from msgcore.core.ids import canonical_id
from msgcore.core.scopes import Principal
from msgcore.security.links import AttachmentLinks
from msgcore.services.received import ReceivedView, views_of
from msgcore.store import chats as store
from msgcore.store.audit import record_audit
from msgcore.store.chats import ChatFilter
from msgcore.store.database import Database
from msgcore.store.platforms import find_platform
from msgcore.store.received import ReceivedFilter, list_received


@dataclass(frozen=True, slots=True)
class ChatPage:
    """Chats, newest activity first, how many there are (counted up to a limit), and whether more follow."""

    rows: Sequence[Any]
    total: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class SentEntry:
    """A delivery to a chat, with its message's `content`."""

    row: Any


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """What was said in a chat, newest first, and whether more follows."""

    entries: Sequence[ReceivedView | SentEntry]
    has_more: bool


class ChatService:
    """Lists, shows and changes chats."""

    def __init__(self, *, database: Database, links: AttachmentLinks, clock: Clock) -> None:
        self._database = database
        self._links = links
        self._clock = clock

    async def list(self, chosen: ChatFilter, *, limit: int, offset: int) -> ChatPage:
        """A page of a project's chats."""
        async with self._database.read() as connection:
            rows = await store.list_chats(connection, chosen, limit=limit + 1, offset=offset)
            total = await store.count_chats(connection, chosen)
        return ChatPage(rows[:limit], total, has_more=len(rows) > limit)

    async def get(self, project_id: str, chat_id: str) -> Any:
        """One chat. Raises NotFoundError."""
        known_id = canonical_id(chat_id)
        if known_id is not None:
            async with self._database.read() as connection:
                row = await store.find_chat(connection, project_id, known_id)
            if row is not None:
                return row
        raise NotFoundError(f"Chat {chat_id[:64]!r} not found: it is the id that the list of chats has")

    async def history(self, project_id: str, chat_id: str, *, limit: int, before: str | None) -> HistoryPage:
        """What was sent and received in a chat, by the ids of both, which sort by time. Raises NotFoundError.

        `before` is the id of the last entry of the page before.
        """
        chat = await self.get(project_id, chat_id)
        said = ReceivedFilter(project_id, platform_id=chat.platform_id, chat_id=chat.provider_chat_id)
        async with self._database.read() as connection:
            received = await list_received(connection, said, limit=limit + 1, before=before)
            sent = await store.list_sent(connection, chat, before=before, limit=limit + 1)
            entries = [*await views_of(connection, self._links, project_id, received), *map(SentEntry, sent)]
        entries.sort(key=lambda entry: entry.row.id, reverse=True)
        return HistoryPage(entries[:limit], has_more=len(entries) > limit)

    async def update(self, principal: Principal, project_id: str, chat_id: str, changes: dict[str, Any]) -> Any:
        """Change columns of a chat; gives it as it is then. Raises NotFoundError."""
        before = await self.get(project_id, chat_id)
        if not changes:
            return before
        now = self._clock.now()
        async with self._database.write() as connection:
            await store.update_chat(connection, before.id, changes | {"updated_at": now})
            # Which fields, but not what was in them: the log outlives what is known of people.
            told = {"fields": sorted(changes)}
            await record_audit(
                connection, principal, "chat.updated", before.id, project_id=project_id, now=now, after=told
            )
        return await self.get(project_id, before.id)

    async def check_platform(self, project_id: str, platform_id: str) -> None:
        """Raise NotFoundError for a platform that is not the project's."""
        async with self._database.read() as connection:
            if await find_platform(connection, project_id, platform_id) is None:
                raise NotFoundError(f"Platform with id '{platform_id}' not found")
