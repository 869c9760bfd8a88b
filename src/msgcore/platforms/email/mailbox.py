"""What is new in a mailbox: found by UIDs, fetched in batches, and stored with how far it is read.

The state has the last UID that was stored, so that after any break the next one is where it goes on. Where a server
numbers its mails anew (another UIDVALIDITY), what came since the day before the last look is taken again: mails that
are known are known by their Message-ID, and dropped when they are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from msgcore.platforms.email.imap import Folder, ImapSession, Login
from msgcore.platforms.email.inbound import CONTENT_TYPE
from msgcore.platforms.email.mime import LARGEST
from msgcore.platforms.live import Payload, Sink, State

LOOKED_AT_EVERY = timedelta(hours=1)
"""How exactly the state says when was looked last, if nothing comes."""
OVERLAP = timedelta(days=1)
"""What is taken again when UIDs are worth nothing any more: IMAP knows days only, and not of which time zone."""
WINDOW = 10_000
"""UIDs that are searched with one command: so the answer has a bounded length."""
PAGE = 200
"""Mails whose sizes are asked for with one command."""
BATCH = 4_000_000
"""Bytes of mails that are fetched and stored together; one alone may have more."""

_HEADERS = {CONTENT_TYPE: "message/rfc822"}


class Progress(msgspec.Struct, rename="camel"):
    """How far a mailbox is read.

    `mailbox` says which one it is: another one begins anew. `since`: of UIDs that were given anew, only mails that
    came then or later can be new.
    """

    mailbox: str
    uid_validity: int
    last_uid: int
    looked_at: datetime
    since: datetime | None = None


class MailboxReading:
    """Reads one mailbox over one connection."""

    def __init__(
        self,
        login: Login,
        session: ImapSession,
        sink: Sink,
        state: State | None,
        *,
        fetches: asyncio.Semaphore,
        now: Callable[[], datetime],
    ) -> None:
        """`fetches` are the places of a process for batches in memory."""
        self._folder = login.folder
        self._mailbox = f"{login.user} {login.host.lower()} {login.folder}"
        self._session = session
        self._sink = sink
        self._fetches = fetches
        self._now = now
        self._largest = min(sink.largest, LARGEST)
        self._progress = None if state is None else msgspec.convert(state, Progress)

    async def catch_up(self) -> None:
        """Store what is new. Raises DeliveryError, and what the sink raises."""
        folder = await self._session.examine(self._folder)
        progress = await self._begin(folder)
        started = self._now()
        for first in range(progress.last_uid + 1, folder.next_uid, WINDOW):
            last = min(first + WINDOW, folder.next_uid) - 1
            uids = await self._session.search(first, last, None if progress.since is None else progress.since.date())
            for start in range(0, len(uids), PAGE):
                await self._take(uids[start : start + PAGE])
            progress.last_uid = last
        if progress.since is not None or started - progress.looked_at > LOOKED_AT_EVERY:
            progress.since, progress.looked_at = None, started
            await self._store([], [])

    async def _begin(self, folder: Folder) -> Progress:
        """Where to go on: from now on in a mailbox that is new, and with care where UIDs are worth nothing any more."""
        before, now = self._progress, self._now()
        if before is not None and (before.mailbox, before.uid_validity) == (self._mailbox, folder.validity):
            return before
        notes: list[str] = []
        if before is None or before.mailbox != self._mailbox:
            self._progress = Progress(self._mailbox, folder.validity, folder.next_uid - 1, now)
        else:
            since = (before.since or before.looked_at) - OVERLAP
            self._progress = Progress(self._mailbox, folder.validity, 0, before.looked_at, since)
            notes = [
                f"The server numbers the mails of {self._folder} anew: what came since {since.date()} is looked into"
            ]
        await self._store([], notes)
        return self._progress

    async def _take(self, uids: Sequence[int]) -> None:
        sizes = await self._session.sizes(uids)
        for batch in _batches(sorted(sizes.items()), self._largest):
            async with self._fetches:
                await self._take_batch(dict(batch))

    async def _take_batch(self, sizes: dict[int, int]) -> None:
        wanted = [uid for uid, size in sizes.items() if size <= self._largest]
        # Servers may say a size that is not quite right.
        room = 2 * sum(sizes[uid] for uid in wanted) + BATCH
        mails = await self._session.fetch(wanted, room) if wanted else {}
        found = {uid: len(mail) for uid, mail in mails.items()}
        left_out = {uid: size for uid, size in (sizes | found).items() if size > self._largest}
        notes = [
            f"A mail of {size} bytes was left out (UID {uid}): at most {self._largest} are taken"
            for uid, size in sorted(left_out.items())
        ]
        payloads = [Payload(mails[uid], _HEADERS) for uid in sorted(mails.keys() - left_out.keys())]
        if self._progress is not None:
            self._progress.last_uid = max(sizes)
            self._progress.looked_at = self._now() if self._progress.since is None else self._progress.looked_at
        await self._store(payloads, notes)

    async def _store(self, payloads: Sequence[Payload], notes: Sequence[str]) -> None:
        await self._sink.store(payloads, msgspec.to_builtins(self._progress), notes)


def _batches(sizes: Sequence[tuple[int, int]], largest: int) -> Iterator[Sequence[tuple[int, int]]]:
    """Mails in their order, as many together as may be fetched at once; those that are left out weigh nothing."""
    batch: list[tuple[int, int]] = []
    room = BATCH
    for uid, size in sizes:
        weight = size if size <= largest else 0
        if batch and weight > room:
            yield batch
            batch, room = [], BATCH
        batch.append((uid, size))
        room -= weight
    if batch:
        yield batch
