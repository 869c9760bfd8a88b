"""What an e-mail address and a password have to be, and from when on tokens are valid."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from msgcore.core.errors import FieldError, UnauthenticatedError
from msgcore.security.digests import digest

_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 1024
_CAPITALS = re.compile("[A-Z]+")
_EMAIL = re.compile(r"[^@\s\0]{1,64}@[^@\s\0]{1,255}")

_COMMIT_TIME = timedelta(seconds=2)
"""Until what ends tokens is committed. A sign-in meanwhile still reads the old password, and its token has to end too.

One after it is dated no earlier than that end, whatever the clock says.
"""


def tokens_end(user: Any, now: datetime) -> dict[str, Any]:
    """The columns that let all tokens of a user end, by their row, which is locked."""
    end = now + _COMMIT_TIME
    if user.tokens_valid_from is not None:
        # Those that were issued since the last time are dated no earlier than that.
        end = max(end, user.tokens_valid_from + timedelta(microseconds=1))
    return {"tokens_valid_from": end, "spared_token": None}


def refuse_ended(user: Any, token: str, issued_at: datetime) -> None:
    """Raise UnauthenticatedError for a token (of a login or a session) of a user, by their row, that was ended."""
    ended = user.tokens_valid_from is not None and issued_at < user.tokens_valid_from
    if ended and user.spared_token != digest(token):
        raise UnauthenticatedError("This token was ended, as its user signed out everywhere: sign in again")


def normal_email(email: str) -> str:
    """An e-mail address as it is stored and compared."""
    # Of ASCII alone: the Kelvin sign becomes a k, so that somebody else's address would be this one's.
    return _CAPITALS.sub(lambda found: found[0].lower(), email.strip())


def is_email(email: str) -> bool:
    """Whether a text can be an e-mail address."""
    return _EMAIL.fullmatch(email) is not None


def email_errors(email: str, name: str = "email") -> list[FieldError]:
    """What is wrong with the e-mail address of an account, which is given by this name."""
    if not is_email(email):
        return [FieldError(f"/{name}", f"{name} must be an e-mail address such as ann@example.com")]
    # Others look the same and are not: letters of other scripts, full width, no width, written from right to left.
    if not (email.isascii() and email.isprintable()):
        return [
            FieldError(
                f"/{name}", f"{name} must have plain ASCII characters alone; write a domain of other scripts as xn--..."
            )
        ]
    return []


def password_errors(field: str, password: str) -> list[FieldError]:
    """What is wrong with a new password."""
    rules = (
        (len(password) >= _SHORTEST_PASSWORD, f"must have at least {_SHORTEST_PASSWORD} characters"),
        (len(password) <= _LONGEST_PASSWORD, f"must have at most {_LONGEST_PASSWORD} characters"),
        (any(letter.isupper() for letter in password), "must have an uppercase letter"),
        (any(letter.isdigit() for letter in password), "must have a digit"),
    )
    return [FieldError(f"/{field}", f"{field} {problem}") for holds, problem in rules if not holds]
