"""Login tokens: JSON Web Tokens signed with HS256, valid for seven days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from msgcore.core.clock import Clock
from msgcore.core.errors import UnauthenticatedError

LIFETIME = timedelta(days=7)
_ALGORITHM = "HS256"
_ISSUER = "msgcore"
_AUDIENCE = "msgcore-api"
_REQUIRED = ["sub", "exp", "iat", "iss", "aud"]


@dataclass(frozen=True, slots=True)
class Login:
    """What a valid token says: who signed in, and until when."""

    user_id: str
    expires_at: datetime


class Tokens:
    """Issues and reads login tokens."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, user_id: str, *, email: str, is_admin: bool) -> str:
        """A token for this user. `email` and `isAdmin` are for clients to show; the server reads neither."""
        now = self._clock.now()
        claims: dict[str, Any] = {
            "sub": user_id,
            "email": email,
            "isAdmin": is_admin,
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def read(self, token: str) -> Login:
        """Check a token. Raises UnauthenticatedError when it is forged, for another server, or expired."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],  # pinned: a token never chooses how it is checked
                issuer=_ISSUER,
                audience=_AUDIENCE,
                # Expiry is compared below, on the injected clock.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            login = Login(claims["sub"], datetime.fromtimestamp(claims["exp"], UTC))
        except (jwt.PyJWTError, TypeError, ValueError, OverflowError):
            raise UnauthenticatedError("The token is not valid here: sign in again") from None
        if login.expires_at <= self._clock.now():
            raise UnauthenticatedError("The token has expired: sign in again")
        return login
