"""Tokens of an OpenID Connect issuer: which are taken, which never, and whose account they open."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert, update

from msgcore.config import load_settings
from msgcore.core.errors import ForbiddenError, StartupError, UnauthenticatedError, UnavailableError
from msgcore.core.ids import new_id
from msgcore.core.scopes import Principal
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.security.egress import EgressGuard
from msgcore.security.passwords import Passwords
from msgcore.security.tokens import Tokens
from msgcore.services.accounts import AccountService
from msgcore.services.authenticator import Authenticator
from msgcore.services.members import is_known
from msgcore.services.oidc_issuer import FRESH_SECONDS, RETRY_SECONDS, USABLE_SECONDS, OidcIssuer
from msgcore.services.oidc_users import OidcUsers
from msgcore.services.sign_in_guard import Rule, SignInGuard
from msgcore.store.database import Database
from msgcore.store.tables import users
from msgcore.store.users import find_user
from servers.api_client import ApiClient
from servers.clock import FakeClock
from servers.in_process import in_this_process
from servers.oidc import AUDIENCE, OidcServer, curve_key, encoded, oidc_server, public_jwk, public_pem, rsa_key

SECRET = "s" * 32
HOUR = 3600


@dataclass
class Office:
    """An issuer, and who reads its tokens."""

    server: OidcServer
    database: Database
    authenticator: Authenticator
    accounts: AccountService
    clock: FakeClock

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    async def who(self, token: str) -> Principal:
        return await self.authenticator.authenticate(None, token)

    def token(self, **changes: Any) -> str:
        return self.server.token(self.now, **changes)

    async def refusal(self, token: str) -> str:
        with pytest.raises(UnauthenticatedError) as caught:
            await self.who(token)
        return caught.value.message


@asynccontextmanager
async def open_office(database: Database) -> AsyncIterator[Office]:
    clock, tokens = FakeClock(), Tokens(SECRET, FakeClock())
    async with oidc_server() as server, open_transport(EgressGuard(["127.0.0.0/8"]), limit=10) as transport:
        issuer = OidcIssuer(transport, clock, server.sink.url, ("RS256", "ES256"))
        oidc_users = OidcUsers(database, issuer, audience=AUDIENCE, clock=clock)
        authenticator = Authenticator(database, tokens, clock, oidc_users)
        cheap = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        guard = SignInGuard(database, clock, Rule(100, timedelta(minutes=1), timedelta(minutes=1)))
        accounts = AccountService(database=database, passwords=cheap, tokens=tokens, guard=guard, clock=clock)
        yield Office(server, database, authenticator, accounts, clock)
        await authenticator.close()


@pytest.fixture
async def office(sqlite_url: str) -> AsyncIterator[Office]:
    database = Database.open(sqlite_url)
    async with open_office(database) as opened:
        yield opened
    await database.close()


@pytest.fixture
async def either(database: Database) -> AsyncIterator[Office]:
    async with open_office(database) as opened:
        yield opened


def by_hand(office: Office, header: dict[str, Any], signature: bytes = b"", **changes: Any) -> str:
    return f"{encoded(header)}.{encoded(office.server.claims(office.now, **changes))}.{encoded(signature)}"


def with_secret(office: Office, secret: bytes) -> str:
    """HS256 with what everybody can read; by hand, since the library refuses to."""
    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'})}.{encoded(office.server.claims(office.now))}"
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def tampered(office: Office) -> str:
    head, _, signature = office.token().split(".")
    return f"{head}.{encoded(office.server.claims(office.now, sub='auth0|boss'))}.{signature}"


def from_elsewhere(office: Office, header: str) -> str:
    """Signed by a key of somebody else's, which the token offers by itself or by an address."""
    mine = public_jwk(rsa_key(2), kid="one")
    offered = {"jwk": mine, "x5c": [encoded(b"certificate")]}.get(header, f"{office.server.sink.url}/elsewhere")
    return office.token(key=rsa_key(2), headers={header: offered})


FORGERIES: dict[str, Callable[[Office], str]] = {
    "no signature, and says so": lambda o: by_hand(o, {"alg": "none", "typ": "JWT", "kid": "one"}),
    "the same in other letters": lambda o: by_hand(o, {"alg": "nOnE", "typ": "JWT", "kid": "one"}),
    "an empty algorithm": lambda o: by_hand(o, {"alg": "", "kid": "one"}),
    "no algorithm": lambda o: by_hand(o, {"kid": "one"}),
    "an algorithm that is no text": lambda o: by_hand(o, {"alg": ["RS256"], "kid": "one"}),
    "a signature that was cut off": lambda o: o.token().rpartition(".")[0] + ".",
    "two parts": lambda o: o.token().rpartition(".")[0],
    "five parts, encrypted": lambda o: o.token() + ".e.e",
    "no token": lambda _: "nonsense",
    "other claims": tampered,
    "another key": lambda o: o.token(key=rsa_key(2)),
    "the public key as a secret": lambda o: with_secret(o, public_pem(rsa_key(1))),
    "the key set as a secret": lambda o: with_secret(o, json.dumps(o.server.keys[0]).encode()),
    "an empty secret": lambda o: with_secret(o, b""),
    "our own secret, in the issuer's name": lambda o: with_secret(o, SECRET.encode()),
    "a key of its own": lambda o: from_elsewhere(o, "jwk"),
    "a certificate of its own": lambda o: from_elsewhere(o, "x5c"),
    "keys at an address": lambda o: from_elsewhere(o, "jku"),
    "a certificate at an address": lambda o: from_elsewhere(o, "x5u"),
    "an unknown key": lambda o: o.token(headers={"kid": "two"}),
    "no key": lambda o: o.token(headers={"kid": None}),
    "a path as a key": lambda o: o.token(headers={"kid": "../../dev/null"}),
    "a key for another algorithm": lambda o: o.token(key=curve_key(1), alg="ES256"),
    "a key's algorithm for another key": lambda o: o.token(headers={"kid": "curve"}),
    "an algorithm that is not allowed": lambda o: o.token(alg="RS512"),
    "another one": lambda o: o.token(alg="PS256"),
    "a psychic signature": lambda o: by_hand(o, {"alg": "ES256", "typ": "JWT", "kid": "curve"}, bytes(64)),
    "another curve": lambda o: o.token(key=ec.generate_private_key(ec.SECP384R1()), alg="ES384"),
    "a critical extension": lambda o: o.token(headers={"crit": ["exp"], "exp": 1}),
    "a payload that is not encoded": lambda o: by_hand(
        o, {"alg": "RS256", "kid": "one", "b64": False, "crit": ["b64"]}
    ),
    "another purpose": lambda o: o.token(headers={"typ": "logout+jwt"}),
    "a purpose that is no text": lambda o: by_hand(o, {"alg": "RS256", "kid": "one", "typ": 5}),
    "another issuer": lambda o: o.token(iss="https://evil.example.com/"),
    "almost the issuer": lambda o: o.token(iss=o.server.sink.url),
    "several issuers": lambda o: o.token(iss=[o.server.name]),
    "no issuer": lambda o: o.token(iss=None),
    "for others": lambda o: o.token(aud="https://other.example.com"),
    "for somebody whose name begins like ours": lambda o: o.token(aud=f"{AUDIENCE}.evil.example.com"),
    "for nobody": lambda o: o.token(aud=None),
    "for no text": lambda o: o.token(aud={"aud": AUDIENCE}),
    "expired": lambda o: o.token(exp=int(o.now)),
    "without an end": lambda o: o.token(exp=None),
    "an end that is no number": lambda o: o.token(exp="tomorrow"),
    "an end beyond all time": lambda o: o.token(exp=10**30),
    "not yet valid": lambda o: o.token(nbf=int(o.now) + HOUR),
    "from the future": lambda o: o.token(iat=int(o.now) + HOUR, exp=int(o.now) + 2 * HOUR),
    "without a beginning": lambda o: o.token(iat=None),
    "about nobody": lambda o: o.token(sub=None),
    "about an empty name": lambda o: o.token(sub=""),
    "about a number": lambda o: o.token(sub=5),
    "about a name that no database takes": lambda o: o.token(sub="ann\0"),
    "about half a character": lambda o: o.token(sub="\ud800"),
    "about an endless name": lambda o: o.token(sub="a" * 256),
    "larger than any": lambda o: o.token(more="x" * 20_000),
    "a header without a bottom": lambda _: f"{encoded(b'[' * 9000)}.e30.e30",
    "claims without a bottom": lambda o: f"{encoded({'alg': 'RS256', 'kid': 'one'})}.{encoded(b'[' * 9000)}.e30",
    "claims that are a list": lambda o: jwt.api_jws.encode(b"[]", rsa_key(1), "RS256", {"kid": "one"}),
}


async def test_no_forged_token_is_taken(office: Office) -> None:
    assert (await office.who(office.token())).email == "ann@corp.example.com"
    messages = {}
    for name, forge in FORGERIES.items():
        try:
            messages[name] = await office.refusal(forge(office))
        except BaseException as error:
            raise AssertionError(name) from error
    assert len(FORGERIES) > 50
    assert set(messages.values()) <= {
        "The token is not valid here: sign in again",
        "The token has expired: sign in again",
    }
    assert {request.path for request in office.server.sink.requests} == {"/.well-known/openid-configuration", "/keys"}


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits long")
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(public_jwk(rsa_key(3, 1024), kid="weak"), id="too short"),
        pytest.param(public_jwk(rsa_key(1), kid="weak", use="enc"), id="for encryption"),
        pytest.param(public_jwk(rsa_key(1), kid="weak", key_ops=["sign"]), id="for something else"),
        pytest.param(public_jwk(rsa_key(1), kid="weak", d="AQAB"), id="with its private part"),
        pytest.param(public_jwk(rsa_key(1), kid="weak", alg="RS512"), id="for another algorithm"),
        pytest.param({"kty": "oct", "kid": "weak", "k": encoded(b"secret"), "alg": "HS256"}, id="a secret"),
        pytest.param({"kty": "RSA", "kid": "weak", "n": "!", "e": 5}, id="broken"),
        pytest.param({"kty": ["RSA"], "kid": "weak"}, id="of no type"),
        pytest.param(["RSA"], id="no key"),
    ],
)
async def test_a_key_that_is_no_good_is_not_taken(office: Office, key: Any) -> None:
    office.server.keys.insert(0, key)
    bits = 1024 if key == public_jwk(rsa_key(3, 1024), kid="weak") else 2048
    signer = rsa_key(3, 1024) if bits == 1024 else rsa_key(1)
    assert "not valid" in await office.refusal(office.token(key=signer, headers={"kid": "weak"}))
    assert (await office.who(office.token())).kind == "jwt"
    curve = office.token(key=curve_key(1), alg="ES256", headers={"kid": "curve", "typ": "at+jwt"}, aud=AUDIENCE)
    assert (await office.who(curve)).name == "Ann"


async def test_new_keys_are_found_and_old_ones_end(office: Office) -> None:
    server, old = office.server, office.token()
    await asyncio.gather(*(office.who(old) for _ in range(20)))
    assert server.readings == 1
    new = office.token(key=rsa_key(2), headers={"kid": "two"})
    server.keys = [public_jwk(rsa_key(2), kid="two")]
    await office.refusal(new)
    assert server.readings == 1, "not again so soon: keys that are invented must not become requests"
    office.clock.advance(RETRY_SECONDS)
    assert len({(await office.who(new)).id for _ in range(3)}) == 1
    assert server.readings == 2
    await office.refusal(old)
    # Nothing asks for an unknown key, and still what was withdrawn ends.
    server.keys = [public_jwk(rsa_key(1), kid="one")]
    office.clock.advance(FRESH_SECONDS)
    new = office.token(key=rsa_key(2), headers={"kid": "two"})
    await office.who(new)
    await office.authenticator._oidc_users._issuer._reading  # type: ignore[union-attr,misc]
    await office.refusal(new)


async def test_an_issuer_that_is_away_is_done_without_for_a_while(office: Office) -> None:
    office.server.status = 503
    with pytest.raises(UnavailableError):
        await office.who(office.token())
    office.server.status = 200
    with pytest.raises(UnavailableError):
        await office.who(office.token())
    office.clock.advance(RETRY_SECONDS)
    await office.who(office.token())
    office.server.status = 503
    office.clock.advance(USABLE_SECONDS - 1)
    await office.who(office.token())
    office.clock.advance(RETRY_SECONDS)
    with pytest.raises(UnavailableError):
        await office.who(office.token())


@pytest.mark.parametrize(
    "about",
    [{"issuer": "https://evil.example.com"}, {"jwks_uri": None}, {"jwks_uri": "ftp://example.com/"}, {"issuer": 5}],
)
async def test_a_discovery_document_about_another_is_not_believed(office: Office, about: dict[str, Any]) -> None:
    office.server.about = about
    with pytest.raises(UnavailableError):
        await office.who(office.token())


async def add_user(office: Office, email: str, **columns: Any) -> str:
    user_id, now = new_id(), office.clock.now()
    row = {"id": user_id, "email": email, "is_admin": False, "created_at": now, "updated_at": now, **columns}
    async with office.database.write() as connection:
        await connection.execute(insert(users), row)
    return user_id


async def test_a_user_is_made_once(either: Office) -> None:
    token = either.token()
    found = await asyncio.gather(*(either.who(token) for _ in range(5)))
    assert {(each.email, each.name, each.is_admin) for each in found} == {("ann@corp.example.com", "Ann", False)}
    assert len({each.id for each in found}) == 1
    later = either.token(email="other@corp.example.com", email_verified=None)
    assert (await either.who(later)).id == found[0].id, "the subject counts from then on"
    await either.accounts.sign_out_everywhere(found[0].id)
    assert "signed out" in await either.refusal(token)
    either.clock.advance(10)
    assert (await either.who(either.token())).id == found[0].id


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_address_that_nobody_verified_opens_no_account(office: Office, verified: Any) -> None:
    await add_user(office, "boss@corp.example.com", password_hash="x")
    for email in ("boss@corp.example.com", "new@corp.example.com"):
        with pytest.raises(ForbiddenError, match="verified"):
            await office.who(office.token(email=email, email_verified=verified))


async def test_addresses_that_only_look_like_others_open_no_account(office: Office) -> None:
    kate = await add_user(office, "kate@corp.example.com")
    for email in ("\N{KELVIN SIGN}ate@corp.example.com", "k\u0430te@corp.example.com", "\uff4bate@corp.example.com"):
        with pytest.raises(ForbiddenError, match="none can be made: email must have plain ASCII"):
            await office.who(office.token(email=email))
    assert (await office.who(office.token(email="kate@corp.example.com"))).id == kate


async def test_a_verified_address_opens_the_account_and_shuts_out_who_made_it(either: Office) -> None:
    """Whoever had the invitation's link may have been another than the owner of the address."""
    password_hash = await either.accounts._passwords.hash("Passw0rd1")
    ann = await add_user(either, "ann@corp.example.com", password_hash=password_hash)
    before = (await either.accounts.sign_in("ann@corp.example.com", "Passw0rd1", address="")).access_token
    assert (await either.who(before)).id == ann
    token = either.token(email="Ann@Corp.example.com")
    assert (await either.who(token)).id == ann
    assert "signed out" in await either.refusal(before)
    with pytest.raises(UnauthenticatedError):
        await either.accounts.sign_in("ann@corp.example.com", "Passw0rd1", address="")
    assert (await either.who(token)).id == ann
    with pytest.raises(ForbiddenError, match="somebody else"):
        await either.who(either.token(sub="auth0|mallory"))


async def test_administrators_may_add_who_has_a_verified_address(either: Office) -> None:
    """Others may not, since they would learn who has an account."""
    ann = (await either.who(either.token())).id
    async with either.database.read() as connection:
        row = await find_user(connection, ann)
        callers = [Principal("jwt", new_id(), is_admin=is_admin) for is_admin in (True, False)]
        assert [await is_known(connection, caller, row) for caller in callers] == [True, False]


async def test_an_administrator_keeps_the_password(office: Office) -> None:
    """Without anybody who has one, the installation would be open for sign-up again."""
    made = await office.accounts.sign_up("ann@corp.example.com", "Passw0rd1", None, address="")
    assert (await office.who(office.token())).id == made.user.id
    assert (await office.accounts.sign_in("ann@corp.example.com", "Passw0rd1", address="")).user.id == made.user.id
    assert (await office.who(made.access_token)).is_admin


async def test_the_same_subject_of_another_issuer_is_somebody_else(office: Office) -> None:
    ann = await office.who(office.token())
    async with office.database.write() as connection:
        await connection.execute(
            update(users).where(users.c.id == ann.id).values(oidc_issuer="https://old.example.com/")
        )
    assert "another identity provider" in await office.refusal(office.token())


async def test_a_gateway_takes_them_beside_its_own(tmp_path: Path) -> None:
    async with oidc_server() as server:
        environ = {
            "MSGCORE_DATA_DIR": str(tmp_path),
            "MSGCORE_EGRESS_ALLOW": "127.0.0.0/8",
            "AUTH0_DOMAIN": server.name,
            "AUTH0_AUDIENCE": AUDIENCE,
        }
        async with in_this_process(load_settings(environ)) as gateway:
            nobody = gateway.api
            await gateway.set_up()
            now = time()
            person = nobody.as_user(server.token(now))
            me = await asyncio.to_thread(person.ask, "GET", "auth/whoami")
            assert (me.status, me.body["user"]["email"]) == (200, "ann@corp.example.com")
            assert (await asyncio.to_thread(person.ask, "GET", "projects/shop")).status == 404
            forged = nobody.as_user(server.token(time(), key=rsa_key(2)))
            assert (await asyncio.to_thread(forged.ask, "GET", "auth/whoami")).status == 401
            opened = await asyncio.to_thread(person.ask, "POST", "auth/session/exchange")
            assert datetime.fromisoformat(opened.body["expiresAt"]).timestamp() == int(now) + 600, "as its token"
            browser = ApiClient(nobody.url, {"Cookie": opened.headers["set-cookie"].partition(";")[0]})
            assert (await asyncio.to_thread(browser.ask, "GET", "auth/whoami")).body == me.body
            assert (await asyncio.to_thread(forged.ask, "POST", "auth/session/exchange")).status == 401


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"MSGCORE_OIDC_ISSUER": "https://login.example.com"}, "go together"),
        ({"MSGCORE_OIDC_ISSUER": "http://login.example.com", "AUTH0_AUDIENCE": "a"}, "MSGCORE_OIDC_ISSUER is"),
        ({"MSGCORE_OIDC_ALGORITHMS": "RS256,HS256"}, "MSGCORE_OIDC_ALGORITHMS is"),
        ({"MSGCORE_OIDC_ALGORITHMS": "none"}, "MSGCORE_OIDC_ALGORITHMS is"),
        ({"MSGCORE_OIDC_ALGORITHMS": ","}, "MSGCORE_OIDC_ALGORITHMS is"),
    ],
)
def test_settings_that_would_be_no_lock(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(StartupError, match=problem):
        load_settings(environ)


def test_the_original_names_a_host() -> None:
    settings = load_settings({"AUTH0_DOMAIN": "corp.eu.auth0.com", "AUTH0_AUDIENCE": "a"})
    assert settings.oidc_issuer == "https://corp.eu.auth0.com"
