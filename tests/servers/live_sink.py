"""Connections of platforms in tests: a sink in memory, and a connection that is up for as long as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from msgcore.platforms.base import Account
from msgcore.platforms.live import Live, Payload, State
from servers.patience import PATIENCE


@dataclass
class MemorySink:
    """Keeps what it gets; `away` while the database is. It fails once it would have more than `fails_after`."""

    largest: int = 1_000_000
    bodies: list[bytes] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ups: int = 0
    away: bool = False
    fails_after: int = 10**9

    async def store(self, payloads: Sequence[Payload], state: State, notes: Sequence[str] = ()) -> None:
        if self.away or len(self.bodies) + len(payloads) > self.fails_after:
            raise ConnectionRefusedError
        self.bodies += [payload.body for payload in payloads]
        self.notes += notes
        self.states.append(state)

    def connected(self) -> None:
        self.ups += 1

    @property
    def state(self) -> State | None:
        """What a connection goes on from."""
        return self.states[-1] if self.states else None

    async def until(self, count: int) -> None:
        """Wait until so many payloads are there."""
        async with asyncio.timeout(PATIENCE):
            while len(self.bodies) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(
    live: Live, account: Account, sink: MemorySink, state: State | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """The connection that goes on from a state (else the sink's), up and then hung up. Raises what it raises."""
    before = sink.ups
    running = asyncio.create_task(live.run(account, sink, sink.state if state is None else state))
    try:
        async with asyncio.timeout(PATIENCE):
            while sink.ups == before and not running.done():
                await asyncio.sleep(0.005)
        if running.done():
            await running
        yield running
    finally:
        running.cancel()
        await asyncio.wait([running])
