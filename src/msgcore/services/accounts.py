"""People: signing up, signing in, and their own data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError

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
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.account_rules import email_errors, is_email, normal_email, password_errors
from msgcore.store.database import Database
from msgcore.store.projects import find_project
from msgcore.store.system_state import put_state
from msgcore.store.users import find_user, find_user_by_email, has_local_user, insert_user, update_user

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
    access_token: str


class AccountService:
    """Sign-up of the first administrator, sign-in, profile and password."""

    def __init__(self, *, database: Database, passwords: Passwords, tokens: Tokens, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._clock = clock

    async def sign_up(self, email: str, password: str, name: str | None) -> SignedIn:
        """Make the first user, who becomes the administrator.

        Raises ConflictError once there is one, and InvalidInputError with every wrong field.
        """
        email = normal_email(email)
        errors = email_errors(email) + password_errors("password", password)
        if errors:
            raise InvalidInputError.of(errors)
        async with self._database.read() as connection:
            if await has_local_user(connection):
                raise ConflictError(_SIGN_UP_CLOSED)
        password_hash = await self._passwords.hash(password)
        user = User(new_id(), email, name, is_admin=True)
        await self._insert_first(user, password_hash)
        return self.signed_in(user)

    async def sign_in(self, email: str, password: str) -> SignedIn:
        """A token for a user. Raises UnauthenticatedError, which does not tell which of the two was wrong."""
        row = None
        email = normal_email(email)
        if is_email(email):
            async with self._database.read() as connection:
                row = await find_user_by_email(connection, email)
        verdict = await self._passwords.verify(password, row.password_hash if row else None)
        if row is None or not verdict.matches:
            raise UnauthenticatedError("The e-mail address or the password is wrong")
        if verdict.better_hash is not None:
            await self._update(row.id, {"password_hash": verdict.better_hash})
        return self.signed_in(_user(row))

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
            await self._update(user_id, {"name": name})
        return _user(await self._find(user_id))

    async def change_password(self, user_id: str, current: str, new: str) -> None:
        """Replace a password. Raises UnauthenticatedError when the current one is wrong."""
        errors = password_errors("newPassword", new)
        if new == current:
            errors.append(FieldError("/newPassword", "newPassword must differ from the current password"))
        if errors:
            raise InvalidInputError.of(errors)
        row = await self._find(user_id)
        if not (await self._passwords.verify(current, row.password_hash)).matches:
            raise UnauthenticatedError("The current password is wrong")
        await self._update(user_id, {"password_hash": await self._passwords.hash(new)})

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
        except IntegrityError:
            raise ConflictError(f"There is a user with the address {user.email} already") from None

    async def _find(self, user_id: str) -> Any:
        async with self._database.read() as connection:
            row = await find_user(connection, user_id)
        if row is None:
            raise UnauthenticatedError("The user of this token no longer exists: sign in again")
        return row

    async def _update(self, user_id: str, values: dict[str, Any]) -> None:
        async with self._database.write() as connection:
            await update_user(connection, user_id, values | {"updated_at": self._clock.now()})

    def signed_in(self, user: User) -> SignedIn:
        """A user with a new token."""
        return SignedIn(user, self._tokens.issue(user.id, email=user.email, is_admin=user.is_admin))


def _user(row: Any) -> User:
    return User(row.id, row.email, row.name, is_admin=row.is_admin)
