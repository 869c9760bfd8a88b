"""Whether the gateway can work: the database, and the key that its credentials are encrypted with."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from msgcore import __version__
from msgcore.core.clock import Clock
from msgcore.core.errors import StartupError
from msgcore.observability.snapshot import Snapshot
from msgcore.security.keyring import DecryptionError, Keyring
from msgcore.services.monitoring import Monitoring
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.sealed import ENCRYPTION_CHECK
from msgcore.store.system_state import claim_state, read_state
from msgcore.store.users import has_local_user

_PATIENCE_SECONDS = 3.0


Phase = Literal["starting", "ready", "stopping"]
"""Where a process is in its life."""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the gateway. `setup_required`: nobody has signed up yet (None: not known)."""

    database_reachable: bool
    setup_required: bool | None
    version: str
    checked_at: datetime
    snapshot: Snapshot


@dataclass(slots=True)
class Life:
    """The phase of this process, set by whoever starts and stops it."""

    phase: Phase = "starting"


class HealthService:
    """Answers health checks."""

    def __init__(self, database: Database, clock: Clock, monitoring: Monitoring, life: Life) -> None:
        self._database = database
        self._clock = clock
        self._monitoring = monitoring
        self._life = life

    async def check(self) -> Health:
        """The state just now; never raises because the database is away."""
        setup_required, snapshot = await asyncio.gather(self._ask_database(), self._monitoring.snapshot())
        return Health(setup_required is not None, setup_required, __version__, self._clock.now(), snapshot)

    async def unready(self) -> str | None:
        """Why this process should get no requests just now; None when it should."""
        if self._life.phase != "ready":
            return self._life.phase
        return None if await self._ask_database() is not None else "database unreachable"

    async def _ask_database(self) -> bool | None:
        """Whether nobody has signed up yet; None when the database is away."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._database.read() as connection:
                return not await has_local_user(connection)
        except Exception as error:
            if not is_away(error):
                raise
            return None


async def check_encryption_key(database: Database, keyring: Keyring) -> None:
    """Make sure that this keyring can read what this database holds.

    The first start keeps a ciphertext for that. Raises StartupError when the key is another one;
    nothing is changed then.
    """
    async with database.read() as connection:
        known = await read_state(connection, ENCRYPTION_CHECK)
    if known is None:
        token = keyring.encrypt(secrets.token_bytes(16), context=ENCRYPTION_CHECK)
        async with database.write() as connection:
            await claim_state(connection, ENCRYPTION_CHECK, token)
            known = await read_state(connection, ENCRYPTION_CHECK)
    try:
        keyring.decrypt(known or "", context=ENCRYPTION_CHECK)
    except DecryptionError:
        raise StartupError(
            "MSGCORE_ENCRYPTION_KEY (or what its command prints) is not the key that this database was encrypted with; "
            "set the old key (without the variable, it is in secrets.json in the data directory), "
            "or add it to MSGCORE_DECRYPTION_KEYS"
        ) from None
