"""An OpenID Connect issuer: discovery and keys over HTTP, and tokens of every make, forged ones too."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from servers.http_sink import HttpSink, http_sink

AUDIENCE = "https://gateway.example.com"


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of several keys; making them takes long."""
    del number
    return rsa.generate_private_key(65537, bits)


@cache
def curve_key(number: int) -> ec.EllipticCurvePrivateKey:
    """One of several keys on P-256."""
    del number
    return ec.generate_private_key(ec.SECP256R1())


def public_jwk(key: Any, **more: Any) -> dict[str, Any]:
    """The public half of a key, as a key set has it."""
    make = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**make.to_jwk(key.public_key(), as_dict=True), "use": "sig", **more}


def public_pem(key: Any) -> bytes:
    """The public half of a key, as a file."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def encoded(part: Any) -> str:
    """A part of a token, by hand."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class OidcServer:
    """What it publishes can be changed: `keys`, and `about` in the discovery document."""

    sink: HttpSink
    keys: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    status: int = 200

    @property
    def name(self) -> str:
        """What its tokens call it, with a slash at the end as some have it."""
        return f"{self.sink.url}/"

    @property
    def readings(self) -> int:
        """How often its keys were read."""
        return sum(request.path == "/keys" for request in self.sink.requests)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Discovery or keys."""
        if self.status != 200:
            return web.Response(status=self.status)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response({"issuer": self.name, "jwks_uri": f"{self.sink.url}/keys", **self.about})
        return web.json_response({"keys": self.keys})

    def claims(self, now: float, **changes: Any) -> dict[str, Any]:
        """What a good token says; None takes a claim away."""
        good = {
            "iss": self.name,
            "aud": [AUDIENCE, "https://other.example.com"],
            "sub": "auth0|ann",
            "email": "ann@corp.example.com",
            "email_verified": True,
            "name": "Ann",
            "iat": int(now) - 5,
            "exp": int(now) + 600,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(
        self, now: float, *, key: Any = None, alg: str = "RS256", headers: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """A token; a good one unless told otherwise."""
        head = {name: value for name, value in ({"kid": "one"} | (headers or {})).items() if value is not None}
        payload = json.dumps(self.claims(now, **changes)).encode()  # the library would refuse some of them
        return jwt.api_jws.encode(payload, key or rsa_key(1), algorithm=alg, headers=head)


@asynccontextmanager
async def oidc_server() -> AsyncIterator[OidcServer]:
    """An issuer with one RSA key, `one`, and one on a curve, `curve`."""
    async with http_sink() as sink:
        keys = [public_jwk(rsa_key(1), kid="one"), public_jwk(curve_key(1), kid="curve", alg="ES256")]
        server = OidcServer(sink, keys)
        sink.answer = server.answer
        yield server
