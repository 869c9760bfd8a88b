"""Login tokens: JSON Web Tokens signed with HS256, valid for seven days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from msgcore.core.clock import Clock
from msgcore.core.errors import UnauthenticatedError
from msgcore.core.ids import new_id

LIFETIME = timedelta(days=7)
LOCAL_ALGORITHM = "HS256"
"""No issuer's tokens have it, so what a token says decides by which keys it is checked, and nothing else."""

_ISSUER = "msgcore"
_AUDIENCE = "msgcore-api"
_REQUIRED = ["sub", "exp", "iat", "iss", "aud"]


@dataclass(frozen=True, slots=True)
class Login:
    """What a valid token says: who signed in, when, and until when."""

    user_id: str
    issued_at: datetime
    expires_at: datetime


class Tokens:
    """Issues and reads login tokens."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, user_id: str, *, email: str, is_admin: bool, signed_in_at: datetime) -> str:
        """A token for this user. `email` and `isAdmin` are for clients to show; the server reads neither."""
        claims: dict[str, Any] = {
            "jti": new_id(),
            "sub": user_id,
            "email": email,
            "isAdmin": is_admin,
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            # Not whole seconds: a token of the second in which the others ended has to be told from them.
            "iat": signed_in_at.timestamp(),
            "exp": int((signed_in_at + LIFETIME).timestamp()),
        }
        return jwt.encode(claims, self._secret, algorithm=LOCAL_ALGORITHM)

    def read(self, token: str) -> Login:
        """Check a token. Raises UnauthenticatedError when it is forged, for another server, or expired."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[LOCAL_ALGORITHM],  # pinned: a token never chooses how it is checked
                issuer=_ISSUER,
                audience=_AUDIENCE,
                # Expiry is compared below, on the injected clock.
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            issued_at, expires_at = (datetime.fromtimestamp(claims[name], UTC) for name in ("iat", "exp"))
            login = Login(claims["sub"], issued_at, expires_at)
        except (jwt.PyJWTError, TypeError, ValueError, OverflowError, RecursionError):
            raise UnauthenticatedError("The token is not valid here: sign in again") from None
        if login.expires_at <= self._clock.now():
            raise UnauthenticatedError("The token has expired: sign in again")
        return login
