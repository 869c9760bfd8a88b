"""What an e-mail address and a password have to be."""

from __future__ import annotations

import re

from msgcore.core.errors import FieldError

_SHORTEST_PASSWORD = 8
_LONGEST_PASSWORD = 1024
_EMAIL = re.compile(r"[^@\s\0]{1,64}@[^@\s\0]{1,255}")


def normal_email(email: str) -> str:
    """An e-mail address as it is stored and compared."""
    return email.strip().lower()


def is_email(email: str) -> bool:
    """Whether a text can be an e-mail address."""
    return _EMAIL.fullmatch(email) is not None


def email_errors(email: str) -> list[FieldError]:
    """What is wrong with an e-mail address."""
    if is_email(email):
        return []
    return [FieldError("/email", "email must be an e-mail address such as ann@example.com")]


def password_errors(field: str, password: str) -> list[FieldError]:
    """What is wrong with a new password."""
    rules = (
        (len(password) >= _SHORTEST_PASSWORD, f"must have at least {_SHORTEST_PASSWORD} characters"),
        (len(password) <= _LONGEST_PASSWORD, f"must have at most {_LONGEST_PASSWORD} characters"),
        (any(letter.isupper() for letter in password), "must have an uppercase letter"),
        (any(letter.isdigit() for letter in password), "must have a digit"),
    )
    return [FieldError(f"/{field}", f"{field} {problem}") for holds, problem in rules if not holds]
