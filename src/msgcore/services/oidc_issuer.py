"""The public keys of an OpenID Connect issuer: found by discovery, kept, and read again when they change."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, cast
from urllib.parse import urlsplit

import jwt
import msgspec
import structlog

from msgcore.core.clock import Clock
from msgcore.core.errors import DeliveryError, UnauthenticatedError, UnavailableError
from msgcore.core.tasks import end
from msgcore.outbound.transport import Transport
from msgcore.security.oidc_tokens import KeySet, Signature

FRESH_SECONDS = 600.0
"""Keys are read again after this time: one that the issuer has withdrawn is not taken for much longer."""

USABLE_SECONDS = 3600.0
"""How long keys are taken while the issuer cannot be reached."""

RETRY_SECONDS = 30.0
"""Least time between two readings: tokens with invented key ids must not become requests to the issuer."""

FETCH_SECONDS = 10.0
LARGEST_DOCUMENT = 256 * 1024

log = structlog.stdlib.get_logger(__name__)


class OidcIssuer:
    """What an issuer publishes about itself (OpenID Connect Discovery 1.0)."""

    def __init__(self, transport: Transport, clock: Clock, url: str, algorithms: tuple[str, ...]) -> None:
        """`url` is what the issuer is called, without a slash at its end; `algorithms` may sign tokens."""
        self._transport = transport
        self._clock = clock
        self._url = url
        self._algorithms = algorithms
        self._name = url
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._tried_at: float | None = None
        self._reading: asyncio.Task[None] | None = None

    async def find(self, signature: Signature) -> tuple[str, jwt.PyJWK]:
        """The issuer's exact name, and the key that makes such signatures.

        Raises UnauthenticatedError where it has no such key, and UnavailableError while nothing is known about it.
        """
        if signature.algorithm not in self._algorithms:
            raise UnauthenticatedError("The token is not valid here: sign in again")
        age = self._clock.monotonic() - self._read_at
        known = self._keys is not None and signature.key_id in self._keys.ids and age < USABLE_SECONDS
        if not known or age >= FRESH_SECONDS:
            reading = self._read_soon()
            if reading is not None and not known:
                await asyncio.shield(reading)
        keys = self._keys
        if keys is None or self._clock.monotonic() - self._read_at >= USABLE_SECONDS:
            raise UnavailableError("The identity provider cannot be reached just now; try again", retry_after=5.0)
        key = keys.find(signature)
        if key is None:
            raise UnauthenticatedError("The token is not valid here: sign in again")
        return self._name, key

    async def close(self) -> None:
        """Stop reading."""
        await end(self._reading)

    def _read_soon(self) -> asyncio.Task[None] | None:
        """The reading that is under way or begins now; None where the last one was a moment ago."""
        now = self._clock.monotonic()
        if self._reading is None or self._reading.done():
            if self._tried_at is not None and now - self._tried_at < RETRY_SECONDS:
                return None
            self._tried_at = now
            self._reading = asyncio.create_task(self._read(), name="oidc-keys", context=Context())
        return self._reading

    async def _read(self) -> None:
        try:
            about = await self._fetch(f"{self._url}/.well-known/openid-configuration")
            name, keys_url = _checked(about, self._url)
            keys = KeySet(await self._fetch(keys_url), self._algorithms)
        except (DeliveryError, ValueError) as error:
            log.warning("oidc_keys_not_read", issuer=self._url, error=str(error))
            return
        self._name, self._keys, self._read_at = name, keys, self._clock.monotonic()

    async def _fetch(self, url: str) -> Any:
        answer = await self._transport.request("GET", url, timeout=FETCH_SECONDS, max_bytes=LARGEST_DOCUMENT)
        if answer.status != 200 or answer.body is None:  # noqa: PLR2004
            raise ValueError(f"answered {answer.status}")
        try:
            return msgspec.json.decode(answer.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _checked(about: Any, url: str) -> tuple[str, str]:
    """The issuer's name and where its keys are. Raises ValueError where this is about another issuer."""
    found = cast("dict[str, Any]", about) if isinstance(about, dict) else {}
    name, keys_url = found.get("issuer"), found.get("jwks_uri")
    if not isinstance(name, str) or name.removesuffix("/") != url:
        raise ValueError("the discovery document is about another issuer")
    if not isinstance(keys_url, str) or urlsplit(keys_url).scheme not in {"https", urlsplit(url).scheme}:
        raise ValueError("the discovery document names no keys, or keys without TLS")
    return name, keys_url
