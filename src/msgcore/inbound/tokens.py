"""Finding the configured platform that a webhook's address belongs to."""

from __future__ import annotations

import asyncio
import hmac
from hashlib import sha256

from cachetools import LRUCache, TTLCache
from sqlalchemy import select

from msgcore.core.ids import canonical_id
from msgcore.dispatch.accounts import AccountDirectory, AccountRecord
from msgcore.store.database import Database
from msgcore.store.faults import is_away
from msgcore.store.tables import project_platforms

KEPT = 10_000
UNKNOWN_SECONDS = 5.0
LOOK_SECONDS = 1.0
"""After which a database that does not answer counts as away: platforms wait no longer than 3 to 10 s for theirs."""


class TokenDirectory:
    """Looks platforms up by the token in their webhook's address, which never changes.

    Known ones are remembered by the token's hash, so that how long a look-up takes says nothing about
    how much of a guess was right; unknown ones for some seconds, so that guessing does not cost a query each.
    While the database is away, platforms are what they were when they were read last.
    """

    def __init__(self, database: Database, accounts: AccountDirectory) -> None:
        self._database = database
        self._accounts = accounts
        self._known = LRUCache[bytes, tuple[str, str]](KEPT)
        self._unknown = TTLCache[bytes, bool](KEPT, UNKNOWN_SECONDS)
        self._last = LRUCache[str, AccountRecord](KEPT)

    async def find(self, token: str) -> AccountRecord | None:
        """The platform, or None for a token that is nobody's. Raises what says that the database is away."""
        digest = sha256(token.encode()).digest()
        if digest in self._unknown:
            return None
        known = self._known.get(digest)
        if known is None:
            account_id = await self._look_up(token)
            if account_id is None:
                self._unknown[digest] = True
                return None
            known = self._known[digest] = (token, account_id)
        if not hmac.compare_digest(known[0], token):
            return None
        return await self._record(known[1])

    async def _record(self, account_id: str) -> AccountRecord | None:
        last = self._last.get(account_id)
        try:
            async with asyncio.timeout(None if last is None else LOOK_SECONDS):
                record = await self._accounts.get(account_id)
        except Exception as error:
            if last is None or not is_away(error):
                raise
            return last
        if record is None:
            self._last.pop(account_id, None)
        else:
            self._last[account_id] = record
        return record

    async def _look_up(self, token: str) -> str | None:
        if canonical_id(token) != token:  # another way to write it is no token of ours
            return None
        query = select(project_platforms.c.id).where(project_platforms.c.webhook_token == token)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one_or_none()
