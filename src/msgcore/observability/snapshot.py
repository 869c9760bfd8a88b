"""The state of a gateway at one moment, in numbers: what metrics and health show. No ids, no names of tenants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Dispatching = Literal["off", "starting", "running"]
"""Whether this process sends: not at all, not all of the ledger is read yet, or fully."""

PlatformState = tuple[str, str]
"""The name of a platform and a state."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Numbers by platform and state. Without a database only what the process itself knows is filled.

    `redis_reachable` is None where none is configured. `leading`: this process is the one that supplies the
    scheduler from the ledger. `oldest_waiting`: how many seconds ago the oldest
    delivery that is neither sent nor given up was accepted or scheduled for. `lag`: how many seconds the
    one that is due longest has been due. Both leave held accounts out. `inbound_lag`: how many seconds ago the
    oldest request came that nobody has read yet. `streams`: who follows events here, by how.
    """

    database_reachable: bool
    redis_reachable: bool | None = None
    dispatching: Dispatching = "off"
    leading: bool = False
    deliveries: Mapping[PlatformState, int] = field(default_factory=dict[PlatformState, int])
    accounts: Mapping[PlatformState, int] = field(default_factory=dict[PlatformState, int])
    breakers: Mapping[PlatformState, int] = field(default_factory=dict[PlatformState, int])
    connections: Mapping[str, int] = field(default_factory=dict[str, int])
    oldest_waiting: float = 0.0
    lag: float = 0.0
    inbound_lag: float = 0.0
    spool_bytes: int = 0
    streams: Mapping[str, int] = field(default_factory=dict[str, int])
