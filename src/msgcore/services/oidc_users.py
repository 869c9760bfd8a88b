"""People who sign in at an OpenID Connect issuer: their tokens, and their accounts here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import ForbiddenError, UnauthenticatedError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.digests import digest
from msgcore.security.oidc_tokens import OidcLogin, read_token, signature_of
from msgcore.services.account_rules import email_errors, is_email, normal_email, tokens_end
from msgcore.services.oidc_issuer import OidcIssuer
from msgcore.store.audit import record_audit
from msgcore.store.database import Database
from msgcore.store.users import find_user_by_email, find_user_by_subject, insert_user, lock_user, update_user

log = structlog.stdlib.get_logger(__name__)


class OidcUsers:
    """Finds the account of a token's user, and makes it at first sight."""

    def __init__(self, database: Database, issuer: OidcIssuer, *, audience: str, clock: Clock) -> None:
        """Tokens have to be for `audience`."""
        self._database = database
        self._issuer = issuer
        self._audience = audience
        self._clock = clock

    async def find(self, token: str) -> tuple[Any, OidcLogin]:
        """The user's row, and what the token says.

        Raises UnauthenticatedError for a token that is not valid, ForbiddenError for a user who can have no account
        here, and UnavailableError while the issuer cannot be reached.
        """
        name, key = await self._issuer.find(signature_of(token))
        login = read_token(token, key, issuer=name, audience=self._audience, now=self._clock.now())
        async with self._database.read() as connection:
            row = await find_user_by_subject(connection, login.subject)
        row = row or await self._meet(login, name, token)
        if row.oidc_issuer not in {None, name}:
            raise UnauthenticatedError("This account belongs to another identity provider")
        return row, login

    async def close(self) -> None:
        """Stop reading the issuer's keys."""
        await self._issuer.close()

    async def _meet(self, login: OidcLogin, issuer: str, token: str) -> Any:
        """The account of somebody who was not here before."""
        email = normal_email(login.email or "")
        if not is_email(email):
            raise ForbiddenError(
                "There is no account for this token yet, and none can be made: it has no e-mail address that the "
                "identity provider has verified (the claims email and email_verified)"
            )
        if errors := email_errors(email):
            told = "; ".join(error.message for error in errors)
            raise ForbiddenError(f"There is no account for this token yet, and none can be made: {told}")
        try:
            async with self._database.write() as connection:
                await self._join(connection, login, issuer, email, token)
        except IntegrityError:
            log.debug("oidc_user_met_twice")  # by two requests at once: the other one made the account
        async with self._database.read() as connection:
            row = await find_user_by_subject(connection, login.subject)
        if row is None:
            raise ForbiddenError(f"The address {email} belongs to an account of somebody else")
        return row

    async def _join(self, connection: AsyncConnection, login: OidcLogin, issuer: str, email: str, token: str) -> None:
        now = self._clock.now()
        identity = {"auth0_id": login.subject, "oidc_issuer": issuer, "updated_at": now}
        found = await find_user_by_email(connection, email)
        if found is None:
            user_id = new_id()
            row = {"id": user_id, "email": email, "name": login.name, "is_admin": False, "created_at": now}
            await insert_user(connection, row | identity)
            await _write_down(connection, user_id, "user.signed_up", issuer, now)
            return
        user = await lock_user(connection, found.id)
        if user is None or user.auth0_id is not None:
            return
        if not user.is_admin:
            # Accounts are made by whoever has an invitation's link, which may have been another than the owner of the
            # address. That one must not stay in beside them. Administrators have made their account themselves.
            identity |= {"password_hash": None} | tokens_end(user, now) | {"spared_token": digest(token)}
        await update_user(connection, user.id, identity)
        await _write_down(connection, user.id, "user.linked", issuer, now)


async def _write_down(connection: AsyncConnection, user_id: str, action: str, issuer: str, now: datetime) -> None:
    caller = Principal("jwt", user_id)
    await record_audit(connection, caller, action, user_id, project_id=None, now=now, after={"issuer": issuer})
