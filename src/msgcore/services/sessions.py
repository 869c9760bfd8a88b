"""Sessions of browsers: what stands behind the cookie of somebody who signed in.

A row for each, read together with its user's for each request, as people make few: what ends a session, or all that a
user has, so holds from the next request on in every process. Of the cookie's token only the digest is kept.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgcore.core.clock import Clock
from msgcore.core.errors import UnauthenticatedError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.digests import digest
from msgcore.security.tokens import LIFETIME
from msgcore.services.account_rules import refuse_ended
from msgcore.services.accounts import AccountService
from msgcore.services.authenticator import Authenticator, person
from msgcore.store import sessions as store
from msgcore.store.audit import record_audit
from msgcore.store.database import Database

IDLE: Final = timedelta(hours=12)
"""After so long without a request a session ends."""

NOTED_EVERY: Final = timedelta(minutes=5)
"""How exactly it is written down when a session was used last: not at each request."""

MOST: Final = 50
"""Sessions of a user; one more ends the oldest."""

_PREFIX: Final = "msc_session_"
"""Begins like a key, which logs hide wherever they meet one."""

_TOKEN_BYTES: Final = 32
_PURPOSE: Final = b"msgcore: CSRF tokens of sessions, version 1"
_ENDED: Final = "The session has ended: sign in again"


@dataclass(frozen=True, slots=True)
class Session:
    """A session that works. `token` is what its cookie holds, `csrf_token` what only a page that may read is told."""

    id: str
    principal: Principal
    idle_at: datetime
    expires_at: datetime
    token: str = field(repr=False)
    csrf_token: str = field(repr=False)


class SessionService:
    """Opens sessions, tells whose they are, and ends them."""

    def __init__(
        self, *, database: Database, accounts: AccountService, authenticator: Authenticator, secret: str, clock: Clock
    ) -> None:
        """`secret` is the installation's; the key of CSRF tokens is derived from it."""
        self._database = database
        self._accounts = accounts
        self._authenticator = authenticator
        self._key = hmac.digest(secret.encode(), _PURPOSE, "sha256")
        self._clock = clock

    async def sign_in(self, email: str, password: str, *, address: str) -> Session:
        """A session for a user; raises what `AccountService.recognize` raises."""
        user, at = await self._accounts.recognize(email, password, address=address)
        caller = Principal("jwt", user.id, name=user.name, email=user.email, is_admin=user.is_admin)
        return await self._open(caller, at, at + LIFETIME)

    async def exchange(self, bearer: str) -> Session:
        """A session for whoever sends this token; it ends no later than the token.

        Raises UnauthenticatedError for a token that is not valid.
        """
        now = self._clock.now()
        login = await self._authenticator.check_login(bearer)
        # Not as early as the token, which may be the one that a change of the password spared.
        at = max(now, login.valid_from or now)
        return await self._open(login.principal, at, min(at + LIFETIME, login.expires_at))

    async def check(self, token: str) -> Session:
        """The session with this token. Raises UnauthenticatedError when there is none, or none any more."""
        async with self._database.read() as connection:
            row = await store.find_session(connection, digest(token))
        if row is None or row.idle_at <= self._clock.now():
            raise UnauthenticatedError(_ENDED)
        refuse_ended(row, token, row.signed_in_at)
        return self._session(row.session_id, person(row), row.idle_at, row.expires_at, token)

    async def note_use(self, session: Session) -> None:
        """Let a session go on that was used just now."""
        until = min(self._clock.now() + IDLE, session.expires_at)
        if until - session.idle_at >= NOTED_EVERY:
            async with self._database.write() as connection:
                await store.keep_session(connection, session.id, until)

    def seconds_left(self, session: Session) -> int:
        """How long a session lasts at most."""
        return max(0, int((session.expires_at - self._clock.now()).total_seconds()))

    async def end(self, session: Session) -> None:
        """Sign out of this session alone."""
        caller, now = session.principal, self._clock.now()
        async with self._database.write() as connection:
            await store.delete_session(connection, session.id)
            await record_audit(connection, caller, "user.signed_out", caller.id, project_id=None, now=now)

    async def _open(self, caller: Principal, at: datetime, expires_at: datetime) -> Session:
        token, session_id, now = f"{_PREFIX}{secrets.token_urlsafe(_TOKEN_BYTES)}", new_id(), self._clock.now()
        idle_at = min(now + IDLE, expires_at)
        row = {
            "id": session_id,
            "user_id": caller.id,
            "token_hash": digest(token),
            "signed_in_at": at,
            "idle_at": idle_at,
            "expires_at": expires_at,
        }
        async with self._database.write() as connection:
            await store.insert_session(connection, row, most=MOST)
            await record_audit(connection, caller, "user.session_opened", caller.id, project_id=None, now=now)
        return self._session(session_id, caller, idle_at, expires_at, token)

    def _session(
        self, session_id: str, caller: Principal, idle_at: datetime, expires_at: datetime, token: str
    ) -> Session:
        mac = hmac.digest(self._key, token.encode(), "sha256")
        csrf_token = base64.urlsafe_b64encode(mac).decode().rstrip("=")
        return Session(session_id, caller, idle_at, expires_at, token, csrf_token)
