"""What proves who somebody is: no forged one is taken, and none is an error of ours."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import jwt
from hypothesis import strategies as st

from fuzz.hurried import hurried
from fuzz.mutation import documents, spliced, texts
from fuzz.target import Target
from msgcore.core.clock import SystemClock
from msgcore.core.errors import ForbiddenError, UnauthenticatedError, UnavailableError
from msgcore.outbound.transport import Response
from msgcore.security.api_keys import make_api_key, may_be_api_key
from msgcore.security.digests import digest
from msgcore.security.oidc_tokens import KeySet, Signature, read_token, signature_of
from msgcore.security.tokens import Tokens
from msgcore.security.webhook_secrets import LONGEST_SECRET, SHORTEST_SECRET, make_secret, read_secret
from msgcore.services.oidc_issuer import OidcIssuer
from servers.adapters import attachment_links
from servers.oidc import curve_key, encoded, public_jwk, public_pem

SECRET = "s" * 32
ISSUER, AUDIENCE = "https://id.example", "https://gateway.example"
CLOCK = SystemClock()
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
RSA_JWK = {
    "kty": "RSA", "kid": "2011-04-29", "use": "sig", "e": "AQAB",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
}  # fmt: skip
"""RFC 7517, appendix A.1, as the next one; the third is of RFC 8037, appendix A.2."""
EC_JWK = {
    "kty": "EC", "crv": "P-256", "kid": "1", "use": "sig",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}  # fmt: skip
OKP_JWK = {"kty": "OKP", "crv": "Ed25519", "kid": "three", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
_HEADERS = [
    json.dumps(each).encode()
    for each in ({"alg": "HS256", "typ": "JWT"}, {"alg": "RS256", "kid": "one", "typ": "JWT"}, {"alg": "none"})
]
_ALGS = st.sampled_from(
    ("none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA", "ES256K", "hs256")
)


def _claims(**more: Any) -> dict[str, Any]:
    now = CLOCK.now().timestamp()
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": int(now) - 5, "exp": int(now) + 10**6, **more}


def _signed_otherwise(draw: Any, claims: dict[str, Any], keys: list[Any]) -> str:
    """A token of the same words under another algorithm, signed with what anybody has."""
    algorithm = draw(_ALGS)
    head = {"alg": algorithm, "typ": "JWT", "kid": "one"}
    if algorithm.startswith("HS"):
        by = draw(st.sampled_from((b"", b"wrong", *keys)))
        signer = jwt.get_algorithm_by_name(algorithm)
        words = f"{encoded(head)}.{encoded(claims)}"
        return f"{words}.{encoded(signer.sign(words.encode(), by))}"
    return f"{encoded(head)}.{encoded(claims)}.{draw(st.sampled_from(('', 'AA', 'x' * 342)))}"


def _changed(draw: Any, token: str, claims: dict[str, Any], keys: list[Any]) -> str:
    """Another token than this one."""
    parts = token.split(".")
    match draw(st.integers(0, 6)):
        case 0:
            return _signed_otherwise(draw, claims, keys)
        case 1:
            parts[1] = encoded(draw(documents([json.dumps(claims).encode()])))
        case 2:
            parts[0] = encoded(draw(documents(_HEADERS)))
        case 3:
            return ".".join([*parts[: draw(st.integers(0, 2))], draw(texts)])
        case 4:
            return spliced(draw, token.encode(), (b".", b"..", b"=", b"\0", b"A", b" ")).decode("latin-1")
        case 5:
            at = draw(st.integers(0, len(parts[2]) - 2))  # of the last character some bits stand for nothing
            parts[2] = parts[2][:at] + ("A" if parts[2][at] != "A" else "B") + parts[2][at + 1 :]
        case _:
            return draw(
                texts | st.text(max_size=40) | st.just("." * 5000) | st.just(f"{parts[0]}.{'A' * 20_000}.{parts[2]}")
            )
    return ".".join(parts)


def _unpadded(token: str) -> Any:
    """A token's parts as bytes, as lenient readers of base64 have them."""
    try:
        return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")]
    except ValueError:
        return token


def login_target() -> Target:
    """Tokens of our own."""
    tokens = Tokens(SECRET, CLOCK)

    def look(data: st.DataObject) -> None:
        now = CLOCK.now().replace(microsecond=0)  # so that tokens are as long as one another
        token = tokens.issue("ann", email="a@example.com", is_admin=True, signed_in_at=now)
        assert tokens.read(token).user_id == "ann"
        claims = {
            "sub": "eve",
            "iss": "msgcore",
            "aud": "msgcore-api",
            "iat": now.timestamp(),
            "exp": now.timestamp() + 60,
        }
        other = _changed(data.draw, token, claims, [public_pem(curve_key(1))])
        _must_refuse(lambda: tokens.read(other), token, other)

    return Target("login tokens", st.data(), look)


def oidc_target() -> Target:
    """Tokens of an issuer, whose keys anybody may read."""
    key = curve_key(1)
    known = KeySet({"keys": [RSA_JWK, public_jwk(key, kid="one", alg="ES256")]}, ALGORITHMS)

    def read(token: str) -> None:
        found = known.find(signature_of(token))
        if found is None:
            raise UnauthenticatedError("no such key")
        read_token(token, found, issuer=ISSUER, audience=AUDIENCE, now=CLOCK.now())

    def look(data: st.DataObject) -> None:
        claims = _claims()
        token = jwt.encode(claims, key, "ES256", headers={"kid": "one"})
        read(token)
        other = _changed(data.draw, token, {**claims, "sub": "eve"}, [public_pem(key)])
        _must_refuse(lambda: read(other), token, other)

    return Target("tokens of an issuer", st.data(), look)


def oidc_claims_target() -> Target:
    """What an issuer signs, in any shape: taken or refused."""
    key = curve_key(1)
    [found] = [
        KeySet({"keys": [public_jwk(key, kid="one", alg="ES256")]}, ("ES256",)).find(
            signature_of(jwt.encode({}, key, "ES256", headers={"kid": "one"}))
        )
    ]
    assert found is not None
    usual = json.dumps(_claims(email="a@example.com", email_verified=True, name="Ann", nbf=1)).encode()

    def look(payload: bytes) -> None:
        words = f"{encoded({'alg': 'ES256', 'kid': 'one'})}.{encoded(payload)}"
        signature = found.Algorithm.sign(words.encode(), key)
        try:
            login = read_token(
                f"{words}.{encoded(signature)}", found, issuer=ISSUER, audience=AUDIENCE, now=CLOCK.now()
            )
        except UnauthenticatedError:
            return
        for text in (login.subject, login.email, login.name):
            assert text is None or (isinstance(text, str) and text.isprintable())

    return Target("claims of an issuer", documents([usual]), look)


def key_set_target() -> Target:
    """An issuer's keys, in any shape."""
    keys = [RSA_JWK, EC_JWK, OKP_JWK]

    def look(document: bytes) -> None:
        try:
            given = json.loads(document)
            KeySet(given, ALGORITHMS)
        except (ValueError, RecursionError):
            return

    return Target("keys of an issuer", documents([json.dumps({"keys": keys}).encode()]), look)


def discovery_target() -> Target:
    """What an issuer publishes about itself, in any shape: its keys are found, or nobody signs in with its tokens."""
    about = json.dumps({"issuer": f"{ISSUER}/", "jwks_uri": f"{ISSUER}/keys"}).encode()
    keys = json.dumps({"keys": [RSA_JWK, EC_JWK]}).encode()
    answers = st.just(about) | documents([about]), st.just(keys) | documents([keys])

    def look(case: tuple[bytes, bytes, int]) -> None:
        issuer = OidcIssuer(Publishing(*case), CLOCK, ISSUER, ALGORITHMS)  # type: ignore[arg-type]
        try:
            name, _ = hurried(issuer.find(Signature("1", "ES256")))
        except (UnauthenticatedError, UnavailableError):
            return
        assert name == f"{ISSUER}/"

    return Target("discovery of an issuer", st.tuples(*answers, st.sampled_from((200, 200, 200, 404))), look)


class Publishing:
    """A transport to an issuer that publishes this."""

    def __init__(self, about: bytes, keys: bytes, status: int) -> None:
        self._about = about
        self._keys = keys
        self._status = status

    async def request(self, method: str, url: str, **_: Any) -> Response:
        return Response(self._status, {}, self._about if url.endswith("openid-configuration") else self._keys)


def _must_refuse(read: Callable[[], object], token: str, other: str) -> None:
    try:
        read()
    except UnauthenticatedError:
        return
    assert _unpadded(other) == _unpadded(token), f"taken: {other}"


def _look_at_key(text: str) -> None:
    if may_be_api_key(text):
        assert len(text) < 200
        digest(text)


def _look_at_secret(text: str) -> None:
    found = read_secret(text)
    assert found is None or SHORTEST_SECRET <= len(found) <= LONGEST_SECRET


def _look_at_link(case: tuple[str, int, str]) -> None:
    links = attachment_links()
    try:
        links.check(*case)
    except ForbiddenError:
        return
    raise AssertionError(f"taken: {case}")


def targets() -> Iterator[Target]:
    """Those of tokens, keys and secrets."""
    yield login_target()
    yield oidc_target()
    yield oidc_claims_target()
    yield key_set_target()
    yield discovery_target()
    key = make_api_key("production").secret
    keys = (
        texts
        | st.text(max_size=40).map(lambda text: f"msc_prod_{text}")
        | st.builds(lambda at, text: key[:at] + text, st.integers(0, len(key)), texts)
    )
    yield Target("API keys", keys, _look_at_key)
    secret = make_secret()
    secrets = texts.map(lambda text: f"whsec_{text}") | st.builds(
        lambda at, text: secret[:at] + text + secret[at:], st.integers(0, len(secret)), texts
    )
    yield Target("secrets of webhooks", secrets, _look_at_secret)
    yield Target("addresses of files", st.tuples(texts, st.integers(0, 2**53), texts), _look_at_link)
