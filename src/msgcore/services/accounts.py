"""People: signing up, signing in, and their own data."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.clock import Clock
from msgcore.core.errors import (
    ConflictError,
    FieldError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
)
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.security.digests import digest
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.account_rules import email_errors, is_email, normal_email, password_errors, tokens_end
from msgcore.services.sign_in_guard import SignInGuard
from msgcore.store.audit import Actor, record_audit
from msgcore.store.database import Database
from msgcore.store.projects import find_project
from msgcore.store.system_state import put_state
from msgcore.store.users import (
    find_user,
    find_user_by_email,
    has_local_user,
    insert_user,
    lock_user,
    replace_hash,
    update_user,
)

_SIGN_UP_CLOSED = "Sign-up is closed, this installation has its administrator: ask them for an invitation"
_FIRST_ADMIN = "first_admin"


@dataclass(frozen=True, slots=True)
class User:
    """A person, as they see themselves."""

    id: str
    email: str
    name: str | None
    is_admin: bool


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user, and the token that acts for them."""

    user: User
    access_token: str = field(repr=False)


class AccountService:
    """Sign-up of the first administrator, sign-in, profile and password."""

    def __init__(
        self, *, database: Database, passwords: Passwords, tokens: Tokens, guard: SignInGuard, clock: Clock
    ) -> None:
        self._database = database
        self._guard = guard
        self._passwords = passwords
        self._tokens = tokens
        self._clock = clock

    async def sign_up(self, email: str, password: str, name: str | None, *, address: str) -> SignedIn:
        """Make the first user, who becomes the administrator. `address` is the client's.

        Raises ConflictError once there is one, InvalidInputError with every wrong field, and TooManyAttemptsError.
        """
        email = normal_email(email)
        errors = email_errors(email) + password_errors("password", password)
        if errors:
            raise InvalidInputError.of(errors)
        attempt = await self._guard.begin(address)
        async with self._database.read() as connection:
            if await has_local_user(connection):
                raise ConflictError(_SIGN_UP_CLOSED)
        password_hash = await self._passwords.hash(password)
        user = User(new_id(), email, name, is_admin=True)
        await self._insert_first(user, password_hash)
        await self._guard.succeeded(attempt)
        return self.signed_in(user, self._clock.now())

    async def sign_in(self, email: str, password: str, *, address: str) -> SignedIn:
        """A token for a user, like `recognize`."""
        return self.signed_in(*await self.recognize(email, password, address=address))

    async def recognize(self, email: str, password: str, *, address: str) -> tuple[User, datetime]:
        """A user by address and password, and when they signed in. `address` is the client's.

        Raises UnauthenticatedError, which does not tell which of the two was wrong, and TooManyAttemptsError.
        """
        email, now = normal_email(email), self._clock.now()
        attempt = await self._guard.begin(address, email)
        row = None
        if is_email(email):
            async with self._database.read() as connection:
                row = await find_user_by_email(connection, email)
        verdict = await self._passwords.verify(password, row.password_hash if row else None)
        if row is None or not verdict.matches:
            # Not the address that was tried: people also type their password there.
            await self._note("anonymous", "user.sign_in_failed", None if row is None else row.id)
            raise UnauthenticatedError("The e-mail address or the password is wrong")
        await self._guard.succeeded(attempt)
        async with self._database.write() as connection:
            if verdict.better_hash is not None:
                await replace_hash(connection, row.id, row.password_hash, verdict.better_hash)
            await self._write_down(connection, row.id, "user.signed_in")
        # When the password was read, not now: it may have been changed meanwhile, and then this sign-in has ended too.
        return _user(row), max(now, row.tokens_valid_from or now)

    async def project_of_key(self, principal: Principal) -> tuple[str, str]:
        """Id and name of the project that an API key belongs to."""
        async with self._database.read() as connection:
            row = await find_project(connection, principal.project_id or "")
        if row is None:
            raise NotFoundError(f"Project '{principal.project_id}' not found")
        return row.id, row.name

    async def rename(self, user_id: str, name: str | None) -> User:
        """Change what a user is called (None: leave it)."""
        if name is not None:
            await self._update(user_id, {"name": name}, "user.updated")
        return _user(await self._find(user_id))

    async def change_password(self, user_id: str, current: str, new: str, *, address: str, spared: str) -> None:
        """Replace a password; all tokens and sessions of the user end but `spared`, the token that asks.

        Raises UnauthenticatedError when the current one is wrong, InvalidInputError for a weak one, and
        TooManyAttemptsError.
        """
        errors = password_errors("newPassword", new)
        if new == current:
            errors.append(FieldError("/newPassword", "newPassword must differ from the current password"))
        if errors:
            raise InvalidInputError.of(errors)
        row = await self._find(user_id)
        attempt = await self._guard.begin(address, row.email)
        if not (await self._passwords.verify(current, row.password_hash)).matches:
            await self._note(Principal("jwt", user_id), "user.password_change_failed", user_id)
            wrong = "The current password is wrong"
            told = FieldError("/currentPassword", "currentPassword must be the password that the account has now")
            raise UnauthenticatedError(wrong, errors=[told])
        await self._guard.succeeded(attempt)
        changed = {"password_hash": await self._passwords.hash(new), "spared_token": digest(spared)}
        await self._end_tokens(user_id, changed, "user.password_changed")

    async def sign_out_everywhere(self, user_id: str) -> None:
        """End all tokens and sessions of a user, in every process, from the next request on."""
        await self._end_tokens(user_id, {}, "user.signed_out_everywhere")

    async def _end_tokens(self, user_id: str, changes: dict[str, Any], action: str) -> None:
        """Let all tokens of a user end, change columns, and write down what the user did."""
        async with self._database.write() as connection:
            row = await lock_user(connection, user_id)
            now = self._clock.now()
            await update_user(connection, user_id, tokens_end(row, now) | changes | {"updated_at": now})
            await self._write_down(connection, user_id, action)

    async def _insert_first(self, user: User, password_hash: str) -> None:
        now = self._clock.now()
        row = {
            "id": user.id,
            "email": user.email,
            "name": user.name,
            "password_hash": password_hash,
            "is_admin": True,
            "created_at": now,
            "updated_at": now,
        }
        try:
            async with self._database.write() as connection:
                # Writing this row first makes two sign-ups take turns; the second then sees the first's user.
                await put_state(connection, _FIRST_ADMIN, user.id)
                if await has_local_user(connection):
                    raise ConflictError(_SIGN_UP_CLOSED)
                await insert_user(connection, row)
                await record_audit(
                    connection, Principal("jwt", user.id), "user.signed_up", user.id, project_id=None, now=now
                )
        except IntegrityError:
            raise ConflictError(f"There is a user with the address {user.email} already") from None

    async def _find(self, user_id: str) -> Any:
        async with self._database.read() as connection:
            row = await find_user(connection, user_id)
        if row is None:
            raise UnauthenticatedError("The user of this token no longer exists: sign in again")
        return row

    async def _update(self, user_id: str, values: dict[str, Any], action: str) -> None:
        """Change columns, and write down what the user did; not what they are called, which is personal data."""
        async with self._database.write() as connection:
            await update_user(connection, user_id, values | {"updated_at": self._clock.now()})
            await self._write_down(connection, user_id, action)

    async def _write_down(self, connection: AsyncConnection, user_id: str, action: str) -> None:
        now = self._clock.now()
        await record_audit(connection, Principal("jwt", user_id), action, user_id, project_id=None, now=now)

    async def _note(self, actor: Actor, action: str, user_id: str | None) -> None:
        """Write down what failed."""
        now = self._clock.now()
        async with self._database.write() as connection:
            await record_audit(connection, actor, action, user_id, project_id=None, now=now)

    def signed_in(self, user: User, at: datetime) -> SignedIn:
        """A user with a new token."""
        token = self._tokens.issue(user.id, email=user.email, is_admin=user.is_admin, signed_in_at=at)
        return SignedIn(user, token)


def _user(row: Any) -> User:
    return User(row.id, row.email, row.name, is_admin=row.is_admin)
