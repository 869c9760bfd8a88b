"""What `msgcore users` does."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from msgcore.cli.operators import operator_database
from msgcore.config import Settings
from msgcore.core.clock import SystemClock
from msgcore.core.errors import ConflictError, InvalidInputError, NotFoundError
from msgcore.services.account_rules import email_errors, normal_email
from msgcore.store.audit import record_audit
from msgcore.store.members import forget_acquaintances
from msgcore.store.users import find_user_by_email, update_user


async def change_address(settings: Settings, old: str, new: str) -> None:
    """Give an account another address.

    Raises NotFoundError for an address that no account has, InvalidInputError for one that is none, and ConflictError
    for one that is taken, or an account whose address is its issuer's.
    """
    if errors := email_errors(normal_email(new), "NEW"):
        raise InvalidInputError.of(errors)
    now = SystemClock().now()
    async with operator_database(settings) as database:
        try:
            async with database.write() as connection:
                user = await find_user_by_email(connection, normal_email(old))
                if user is None:
                    raise NotFoundError(f"there is no account with the address {old!r}")
                if user.oidc_issuer is not None:
                    raise ConflictError("this account has the address that its OpenID Connect issuer verified")
                await update_user(connection, user.id, {"email": normal_email(new), "updated_at": now})
                await forget_acquaintances(connection, user.id)
                told = {"fields": ["email"]}
                await record_audit(connection, None, "user.updated", user.id, project_id=None, now=now, after=told)
        except IntegrityError:
            raise ConflictError(f"there is an account with the address {new!r} already") from None
    print("changed")
