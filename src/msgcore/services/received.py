"""What people wrote to a project, and how they reacted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import ForbiddenError, NotFoundError
from msgcore.core.ids import canonical_id
from msgcore.core.scopes import Principal, Role
from msgcore.security.links import AttachmentLinks
from msgcore.services.authenticator import Authenticator
from msgcore.services.jobs import CompatibleStatus, compatible_status
from msgcore.store import received as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.ledger.counts import PlatformCount, count_by_platform
from msgcore.store.ledger.feed import NIL
from msgcore.store.received import Order, ReceivedFilter

RECENT = timedelta(hours=24)
BATCH = 500
MOST_DELETED = 50_000
"""Messages that one request deletes: a few seconds' work."""

Reactions = dict[str, list[Any]]
"""Who reacts at present, by emoji; oldest reaction first."""


@dataclass(frozen=True, slots=True)
class ReceivedView:
    """A received message with its attachments and, where they were asked for, the reactions to it.

    Each attachment is a row and the address of the file.
    """

    row: Any
    attachments: Sequence[tuple[Any, str]] = field(default=())
    reactions: Reactions | None = None


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """Messages, how many there are (counted up to a limit), and whether more follow."""

    messages: Sequence[ReceivedView]
    total: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class SentCount:
    """How many deliveries of a platform have a status."""

    platform: str
    status: CompatibleStatus
    number: int


@dataclass(frozen=True, slots=True)
class MessageStats:
    """What was received (over the newest ones; `limited`: there may be more) and what was sent."""

    received: Any
    by_platform: Sequence[Any]
    limited: bool
    sent: Sequence[SentCount]


@dataclass(frozen=True, slots=True)
class CleanUp:
    """How many messages were deleted, and whether older ones than asked for may be left."""

    deleted: int
    remaining: bool


class ReceivedService:
    """Lists, shows, counts and deletes received messages."""

    def __init__(
        self, *, database: Database, authenticator: Authenticator, links: AttachmentLinks, clock: Clock
    ) -> None:
        self._database = database
        self._links = links
        self._authenticator = authenticator
        self._clock = clock

    async def list(
        self,
        chosen: ReceivedFilter,
        *,
        limit: int,
        offset: int,
        order: Order,
        before: str | None,
        raw: bool,
        reactions: bool,
    ) -> ReceivedPage:
        """A page of messages; `before` is the id of the last entry of the page before."""
        async with self._database.read() as connection:
            rows = await store.list_received(
                connection, chosen, limit=limit + 1, offset=offset, order=order, before=before, raw=raw
            )
            total = await store.count_received(connection, chosen)
            views = await views_of(connection, self._links, chosen.project_id, rows[:limit], reactions=reactions)
        return ReceivedPage(views, total, has_more=len(rows) > limit)

    async def get(self, project_id: str, message_id: str) -> ReceivedView:
        """One message with its attachments and reactions. Raises NotFoundError."""
        known_id = canonical_id(message_id)
        async with self._database.read() as connection:
            row = None if known_id is None else await store.find_received(connection, project_id, known_id)
            if row is None:
                raise NotFoundError(f"Message {message_id[:64]!r} not found: messages/sent lists what was sent")
            return (await views_of(connection, self._links, project_id, [row], reactions=True))[0]

    async def stats(self, project_id: str) -> MessageStats:
        """Counts of what was received and sent."""
        async with self._database.read() as connection:
            totals, by_platform = await store.summarize_received(connection, project_id, self._clock.now() - RECENT)
        return MessageStats(
            received=totals,
            by_platform=by_platform,
            limited=totals.total >= store.MOST_COUNTED,
            sent=_by_status(await count_by_platform(self._database, project_id)),
        )

    async def clean_up(self, principal: Principal, project_id: str, days: int) -> CleanUp:
        """Delete what was received more than `days` days ago, at most `MOST_DELETED`, oldest first.

        In small batches, each a transaction of its own: nobody waits for long, and what was deleted stays deleted when
        the rest is interrupted; each is in the audit log. Raises ForbiddenError for people below admin.
        """
        if principal.kind != "api-key":
            role = await self._authenticator.role_of(principal, project_id)
            if role is None or role < Role.ADMIN:
                raise ForbiddenError("Only the project's owner and admins, and API keys, can delete received messages")
        now = self._clock.now()
        moment, deleted, last_id = now - timedelta(days=days), 0, NIL
        while deleted < MOST_DELETED:
            async with self._database.write() as connection:
                ids = await store.delete_received_before(connection, project_id, moment, after=last_id, limit=BATCH)
                if ids:
                    told = {"days_before": days, "count": len(ids)}
                    action = "received_messages.deleted"
                    await record_audit(
                        connection, principal, action, project_id, project_id=project_id, now=now, before=told
                    )
            deleted += len(ids)
            if len(ids) < BATCH:
                return CleanUp(deleted, remaining=False)
            last_id = ids[-1]
        return CleanUp(deleted, remaining=True)


async def views_of(
    connection: AsyncConnection,
    links: AttachmentLinks,
    project_id: str,
    rows: Sequence[Any],
    *,
    reactions: bool = False,
) -> list[ReceivedView]:
    """Messages with what hangs on them; two queries however many they are."""
    if not rows:
        return []
    attachments: defaultdict[str, list[tuple[Any, str]]] = defaultdict(list)
    for attachment in await store.list_attachments(connection, [row.id for row in rows]):
        attachments[attachment.message_id].append((attachment, links.url_of(attachment.id)))
    if not reactions:
        return [ReceivedView(row, attachments[row.id]) for row in rows]
    asked = [(row.platform_id, row.provider_message_id) for row in rows]
    standing = _standing(await store.list_reactions(connection, project_id, asked))
    return [ReceivedView(row, attachments[row.id], standing[key]) for row, key in zip(rows, asked, strict=True)]


def _standing(newest_first: Sequence[Any]) -> defaultdict[tuple[str, str], Reactions]:
    """The reactions that were not taken back, by message."""
    latest: dict[tuple[str, str, str, str], Any] = {}
    cleared: set[tuple[str, str, str]] = set()
    for row in newest_first:
        who = (row.platform_id, row.provider_message_id, row.provider_user_id)
        if not row.emoji:  # taken away, whichever it was
            cleared.add(who)
        elif who not in cleared:
            latest.setdefault((*who, row.emoji), row)
    standing: defaultdict[tuple[str, str], Reactions] = defaultdict(dict)
    for row in reversed(latest.values()):
        if row.reaction_type == "added":
            of_message = standing[row.platform_id, row.provider_message_id]
            of_message.setdefault(row.emoji, []).append(row)
    return standing


def _by_status(counts: Sequence[PlatformCount]) -> list[SentCount]:
    numbers: defaultdict[tuple[str, CompatibleStatus], int] = defaultdict(int)
    for count in counts:
        numbers[count.platform, compatible_status(count.state)] += count.number
    return [SentCount(platform, status, number) for (platform, status), number in sorted(numbers.items()) if number]
