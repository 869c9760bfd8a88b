"""Tokens of an OpenID Connect issuer: JSON Web Tokens (RFC 7519, 8725) checked with the issuer's public keys.

A token says which key signed it (`kid`) and how (`alg`), never where that key is: what it says in `jwk`, `jku`, `x5u`
or `x5c` is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from msgcore.core.errors import UnauthenticatedError

LONGEST_TOKEN = 16 * 1024
MOST_KEYS = 100
LEEWAY = timedelta(seconds=60)
"""How far the issuer's clock may be ahead of ours."""

_LEAST_RSA_BITS = 2048
_LONGEST_SUBJECT = 255
_LONGEST_NAME = 100
_REQUIRED = ["sub", "exp", "iat", "iss", "aud"]
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Others are signed by the same keys and meant for other purposes: logout tokens, say."""

_FAULTS = (jwt.PyJWTError, TypeError, ValueError, OverflowError, RecursionError)
_NOT_VALID = "The token is not valid here: sign in again"


class Signature(NamedTuple):
    """By which key a token is said to be signed, and how. Nothing of it is checked."""

    key_id: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """What a valid token says about its user; `email` is set only where the issuer has verified it."""

    subject: str
    email: str | None
    name: str | None
    issued_at: datetime
    expires_at: datetime


class KeySet:
    """The public keys of an issuer (RFC 7517) that are for signatures, and strong enough."""

    def __init__(self, document: Any, algorithms: Sequence[str]) -> None:
        """Raises ValueError for what is no key set."""
        listed: Any = cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            raise ValueError("no key set")  # noqa: TRY004 - it is what was fetched that is wrong
        self._keys: dict[Signature, jwt.PyJWK] = {}
        for entry in cast("list[Any]", listed)[:MOST_KEYS]:
            for signature, key in _usable(entry, algorithms):
                self._keys.setdefault(signature, key)
        self.ids = frozenset(signature.key_id for signature in self._keys)

    def find(self, signature: Signature) -> jwt.PyJWK | None:
        """The key that makes such signatures."""
        return self._keys.get(signature)


def signature_of(token: str) -> Signature:
    """What a token says about its signature. Raises UnauthenticatedError for what is none of ours in any case."""
    header = read_header(token)
    key_id, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "JWT")
    # A critical extension (RFC 7515, section 4.1.11) must be understood, and none is.
    if "crit" in header or not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise UnauthenticatedError(_NOT_VALID)
    if not isinstance(key_id, str) or not isinstance(algorithm, str):
        raise UnauthenticatedError(_NOT_VALID)
    return Signature(key_id, algorithm)


def read_header(token: str) -> dict[str, Any]:
    """The header of a token; nothing of it is checked. Raises UnauthenticatedError."""
    if len(token) > LONGEST_TOKEN:
        raise UnauthenticatedError(_NOT_VALID)
    try:
        return jwt.get_unverified_header(token)
    except _FAULTS:
        raise UnauthenticatedError(_NOT_VALID) from None


def read_token(token: str, key: jwt.PyJWK, *, issuer: str, audience: str, now: datetime) -> OidcLogin:
    """Check a token. Raises UnauthenticatedError when it is forged, of another issuer, for others, or not valid now."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=audience,
            # Times are compared below, with the injected clock.
            options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        issued_at = _moment(claims["iat"])
        expires_at = _moment(claims["exp"])
        begins_at = max(issued_at, _moment(claims.get("nbf", claims["iat"])))
    except _FAULTS:
        raise UnauthenticatedError(_NOT_VALID) from None
    subject = claims["sub"]
    if not _is_subject(subject) or begins_at > now + LEEWAY:
        raise UnauthenticatedError(_NOT_VALID)
    if expires_at <= now:
        raise UnauthenticatedError("The token has expired: sign in again")
    return OidcLogin(subject, _verified_email(claims), _name(claims), issued_at, expires_at)


def _usable(entry: Any, algorithms: Sequence[str]) -> Iterator[tuple[Signature, jwt.PyJWK]]:
    """A key of a set with each allowed algorithm that it is for."""
    if not isinstance(entry, dict):
        return
    jwk = cast("dict[str, Any]", entry)
    key_id, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    for_signatures = jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    # One with a private part is known to others than its owner: to us, for a start.
    if not isinstance(key_id, str) or not for_signatures or "d" in jwk:
        return
    families = _FAMILIES.get(str(jwk.get("kty")), ())
    for algorithm in algorithms:
        if jwk.get("alg", algorithm) == algorithm and algorithm.startswith(families):
            try:
                key = jwt.PyJWK(jwk, algorithm)
            except _FAULTS:
                continue
            if _is_strong(key, algorithm):
                yield Signature(key_id, algorithm), key


_FAMILIES = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
"""How the names of the algorithms begin that a type of key is for. A secret shared with others is in none."""

_CURVE_BITS = {"ES256": 256, "ES384": 384, "ES512": 521}


def _is_strong(key: jwt.PyJWK, algorithm: str) -> bool:
    """Whether a key is long enough, and of an elliptic curve the one that the algorithm names."""
    public = key.key
    if isinstance(public, RSAPublicKey):
        return public.key_size >= _LEAST_RSA_BITS
    if algorithm in _CURVE_BITS:
        return public.key_size == _CURVE_BITS[algorithm]
    return True


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _is_subject(subject: Any) -> bool:
    return isinstance(subject, str) and 0 < len(subject) <= _LONGEST_SUBJECT and subject.isprintable()


def _verified_email(claims: Mapping[str, Any]) -> str | None:
    email = claims.get("email")
    # Only the truth itself: a text such as "false" would be true as well.
    if claims.get("email_verified") is not True or not isinstance(email, str) or not email.isprintable():
        return None
    return email


def _name(claims: Mapping[str, Any]) -> str | None:
    name = claims.get("name")
    shown = "".join(filter(str.isprintable, name))[:_LONGEST_NAME].strip() if isinstance(name, str) else ""
    return shown or None
