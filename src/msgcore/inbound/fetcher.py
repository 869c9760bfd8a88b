"""The fetcher: gets the files of received messages that are somewhere else, and puts them into the blob store.

Several processes share the work: whoever claims a file has it until its lease ends, so that one that was left by a
process which ended is fetched by another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any
from weakref import WeakValueDictionary

import structlog

from msgcore.blobs.store import BlobError, BlobStore
from msgcore.core.attachments import AttachmentState
from msgcore.core.clock import Clock
from msgcore.core.envelope import File
from msgcore.core.errors import DeliveryError, PermanentError, TemporaryError
from msgcore.core.tasks import end
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.inbound.bus import EventBus
from msgcore.inbound.files import LOOKED_AT, UNKNOWN_TYPE, FilePolicy, log_line
from msgcore.outbound.following import media_type, open_file
from msgcore.outbound.transport import TooLargeError, Transport
from msgcore.platforms.base import FileSource, PlatformAdapter
from msgcore.platforms.discretion import discreet
from msgcore.security.keyring import DecryptionError
from msgcore.store import attachments as store
from msgcore.store.attachments import Ending
from msgcore.store.database import Database
from msgcore.store.faults import is_away

log = structlog.stdlib.get_logger(__name__)

SWEEP_SECONDS = 2.0
"""How often files are looked for that nobody told of, or that are due once more."""
REST_SECONDS = 0.1
"""Between two looks, however much happens."""
FETCH_SECONDS = 120.0
"""How long fetching one file may take, from looking it up to having all of it."""
LEASE = timedelta(seconds=FETCH_SECONDS + 60)
PLATFORMS_AT_ONCE, FILES_AT_ONCE = 4, 2
"""How many platforms' files are fetched at a time, and of each how many: one with slow files holds up no other."""
OF_PROJECT_AT_ONCE = 2
"""How many of these platforms may be of one project: it holds up no other with all of its platforms either."""
RETRIES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 720))
"""Waits after failures that may pass: 20 hours together."""
_REFUSALS = frozenset(("egress_denied", "url_invalid", "attachment_too_large", "attachment_type_refused"))
"""What was wrong with the file or its address, and not with getting it."""


class Fetcher:
    """Fetches files, for all configured platforms."""

    def __init__(
        self,
        *,
        database: Database,
        blobs: BlobStore,
        policy: FilePolicy,
        accounts: AccountDirectory,
        adapters: Mapping[str, PlatformAdapter],
        transport: Transport,
        bus: EventBus,
        clock: Clock,
        every: float = SWEEP_SECONDS,
        seconds: float = FETCH_SECONDS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._policy = policy
        self._accounts = accounts
        self._adapters = adapters
        self._transport = transport
        self._clock = clock
        self._every = every
        self._seconds = seconds
        self._places = asyncio.Semaphore(PLATFORMS_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """Of each project, for as long as something of it is fetched."""
        self._news = asyncio.Event()
        self._working: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        bus.listen(lambda _: self._news.set())

    def start(self) -> None:
        """Begin to fetch."""
        self._looking = asyncio.create_task(self._look(), name="fetcher")

    async def stop(self) -> None:
        """Leave what is being fetched: another process takes it when its lease ends."""
        await end(self._looking)
        for task in list(self._working.values()):
            await end(task)

    async def _look(self) -> None:
        while True:
            self._news.clear()
            try:
                for platform_id in await store.platforms_with_pending(self._database, self._clock.now()):
                    self._wake(platform_id)
            except Exception as error:
                if not is_away(error):
                    log.exception("attachments_sweep_failed")
            await asyncio.sleep(min(REST_SECONDS, self._every))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._news.wait()

    def _wake(self, platform_id: str) -> None:
        if platform_id not in self._working:
            task = asyncio.create_task(self._fetch_of(platform_id), name="fetch")
            self._working[platform_id] = task
            task.add_done_callback(lambda _: self._working.pop(platform_id))

    async def _fetch_of(self, platform_id: str) -> None:
        """All files of a platform that are due, a few at a time, in turn with other platforms."""
        try:
            record = await self._accounts.get(platform_id)
            if record is None:  # its messages go with it
                return
            turns = self._turns.setdefault(record.project_id, asyncio.Semaphore(OF_PROJECT_AT_ONCE))
            more = True
            while more:
                async with turns, self._places:
                    more = await self._fetch_some(platform_id)
        except Exception as error:
            if not is_away(error):
                log.exception("attachments_failed", platform_id=platform_id)

    async def _fetch_some(self, platform_id: str) -> bool:
        record = await self._accounts.get(platform_id)
        if record is None:  # its messages go with it
            return False
        now = self._clock.now()
        rows = await self._database.transact(
            lambda connection: store.claim(connection, platform_id, now=now, until=now + LEASE, limit=FILES_AT_ONCE)
        )
        await asyncio.gather(*(self._fetch(record, row) for row in rows))
        return len(rows) == FILES_AT_ONCE

    async def _fetch(self, record: AccountRecord, row: Any) -> None:
        """One file; how it went is noted, whatever that is."""
        error: DeliveryError
        try:
            size, mime_type = await self._store(record, row)
        except DeliveryError as raised:
            error = raised
        except TooLargeError:
            error = self._policy.too_large()
        except TimeoutError:
            error = TemporaryError("attachment_unavailable", "It did not come in time")
        except BlobError as raised:
            log.error("blobs_away", platform_id=record.id, error=str(raised))  # noqa: TRY400 - says all there is
            error = TemporaryError("attachment_unavailable", "It could not be stored")
        except Exception as raised:  # an adapter's bug holds nobody else back
            log.exception("attachment_failed", platform_id=record.id, attachment_id=row.id)
            error = TemporaryError("attachment_unavailable", f"Getting it failed ({type(raised).__name__})")
        else:
            await self._finish(row, Ending(AttachmentState.STORED, size=size, mime_type=mime_type))
            return
        await self._finish(row, self._ending(record, row, error))

    async def _store(self, record: AccountRecord, row: Any) -> tuple[int, str]:
        """Fetch a file into the blob store; its size and media type."""
        deadline = asyncio.get_running_loop().time() + self._seconds
        async with AsyncExitStack() as stack:
            async with asyncio.timeout_at(deadline):
                source = await self._locate(record, row)
                opening = open_file(self._transport, source.url, source.headers)
                answer, _ = await stack.enter_async_context(opening)
            mime_type = row.mime_type or media_type(answer) or UNKNOWN_TYPE
            content = _Checked(answer.pieces(self._policy.max_bytes), mime_type, self._policy, deadline)
            await self._blobs.put(row.id, content.pieces())
        return content.size, mime_type

    async def _locate(self, record: AccountRecord, row: Any) -> FileSource:
        adapter = self._adapters.get(record.platform)
        if adapter is None:
            raise TemporaryError("attachment_unavailable", f"No worker knows the platform {record.platform}")
        try:
            account = self._accounts.open(record)
        except DecryptionError:
            raise TemporaryError("attachment_unavailable", "The platform's credentials cannot be read") from None
        url = None if row.url.startswith("platform:") else row.url
        file = File(
            type=row.type,
            id=row.provider_file_id,
            url=url,
            filename=row.filename,
            mime_type=row.mime_type,
            size=row.size,
        )
        with discreet(account):
            return await adapter.locate_file(account, file)

    def _ending(self, record: AccountRecord, row: Any, error: DeliveryError) -> Ending:
        now = self._clock.now()
        attempts: int = row.attempts
        if not isinstance(error, PermanentError) and attempts <= len(RETRIES):
            return Ending(AttachmentState.PENDING, error.message, due_at=now + RETRIES[attempts - 1])
        is_refused = isinstance(error, PermanentError) and error.code in _REFUSALS
        state = AttachmentState.REFUSED if is_refused else AttachmentState.FAILED
        about = {
            "project_id": record.project_id,
            "platform_id": record.id,
            "platform": record.platform,
            "message_id": row.message_id,
            "timestamp": now,
        }
        log.warning("attachment_not_kept", platform_id=record.id, attachment_id=row.id, state=state, code=error.code)
        return Ending(state, error.message, line=log_line(about, row.id, state, error))

    async def _finish(self, row: Any, ending: Ending) -> None:
        await self._database.transact(lambda connection: store.finish(connection, row.id, row.attempts, ending))


class _Checked:
    """A file as it comes: counted, and looked at before the first of it goes on."""

    def __init__(self, source: AsyncIterator[bytes], mime_type: str, policy: FilePolicy, deadline: float) -> None:
        """`deadline` is when it must have come, by the event loop's clock."""
        self._source = source
        self._mime_type = mime_type
        self._policy = policy
        self._deadline = deadline
        self.size = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """Its bytes. Raises PermanentError for a file that is not to be kept, TemporaryError for a late one.

        The time is bounded here and not around the store, which ends an upload well only when its source fails.
        """
        start = b""
        while (piece := await self._next()) is not None:
            self.size += len(piece)
            if self.size - len(piece) < LOOKED_AT:
                start = (start + piece)[:LOOKED_AT]
                self._policy.check_type(self._mime_type, start)
            yield piece
        self._policy.check_type(self._mime_type, start)  # also of one that is empty

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(self._source, None)
        except TimeoutError:  # which the store would take for its own
            raise TemporaryError("attachment_unavailable", "It did not come in time") from None
