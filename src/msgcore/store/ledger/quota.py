"""How many open deliveries a project may have.

A process reads the kept counts of a project at most once a second and adds what it let in since,
so asking costs no query. It never lets in too many by itself; of several processes each may let in
what the others took within that second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType

from msgcore.core.clock import Clock
from msgcore.core.deliveries import OPEN_STATES
from msgcore.core.errors import InvalidInputError, QueueFullError
from msgcore.store.database import Database
from msgcore.store.ledger.counts import count_by_state

FRESH_SECONDS = 1.0
"""How old a count may be."""

FULL_SECONDS = 5.0
"""When to come back to a full queue."""


@dataclass(slots=True)
class _Usage:
    """What is known of a project's queue.

    `open` was read from the ledger; `taken` and `settled` only ever grow: what was let in, and what
    of it is committed or refused since. `base` is what was settled when the reading began, and is
    therefore part of `open`.
    """

    open: int = 0
    taken: int = 0
    settled: int = 0
    base: int = 0
    read_at: float = float("-inf")
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def most(self) -> int:
        """The most that can be open just now, as far as this process knows."""
        return self.open + self.taken - self.base


class Place:
    """Room in a queue, held while a `with` block stores what it is for."""

    def __init__(self, usage: _Usage, number: int) -> None:
        self._usage = usage
        self._number = number
        usage.taken += number

    def __enter__(self) -> None:
        """It was taken when it was made."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """From here on the ledger's count has it, if it was stored."""
        self._usage.settled += self._number


class QueueQuota:
    """Lets deliveries in while their project's queue has room."""

    def __init__(self, database: Database, clock: Clock, most: int) -> None:
        """`most` open deliveries a project; 0 for any number."""
        self._database = database
        self._clock = clock
        self._most = most
        self._usage: dict[str, _Usage] = {}

    async def reserve(self, project_id: str, number: int) -> Place:
        """Room for so many deliveries; use it at once, in a `with` that stores them.

        Raises QueueFullError when there is none, and InvalidInputError when there never can be.
        """
        if not self._most:
            return Place(_Usage(), 0)
        if number > self._most:
            raise InvalidInputError(
                f"The request has {number} targets, and a project may have {self._most} open deliveries: split it, "
                "or raise MSGCORE_QUEUE_QUOTA"
            )
        usage = self._usage.setdefault(project_id, _Usage())
        if self._clock.monotonic() - usage.read_at >= FRESH_SECONDS:
            await self._read(project_id, usage)
        if usage.most + number > self._most:
            raise QueueFullError(
                f"The project has {usage.most} open deliveries of at most {self._most} (MSGCORE_QUEUE_QUOTA): "
                "send more when some of them are done",
                retry_after=FULL_SECONDS,
            )
        return Place(usage, number)

    async def _read(self, project_id: str, usage: _Usage) -> None:
        """Read the kept counts, once for all who ask for them at the same time."""
        async with usage.reading:
            now = self._clock.monotonic()
            if now - usage.read_at < FRESH_SECONDS:
                return
            settled = usage.settled
            counts = await count_by_state(self._database, project_id=project_id)
            usage.open = sum(counts[state] for state in OPEN_STATES)
            usage.base = settled
            usage.read_at = now
