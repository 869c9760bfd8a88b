"""Two projects with one of everything in each, and every kind of caller."""

from __future__ import annotations

import hmac
import http.client
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
from sqlalchemy import Connection, delete, insert, select, update

from api.access_requests import LATER, TO_BOB
from api.access_table import ANY_KEY, ROLES, SIGNED_IN, Row
from api.conftest import ALL_SCOPES, PASSWORD, Running
from api.inbound import in_database, report
from msgcore.core.ids import new_id
from msgcore.security.digests import digest
from msgcore.store.tables import api_keys, metadata, project_members, sessions, users
from servers.api_client import ApiClient
from servers.patience import PATIENCE

MINE, THEIRS = "acme", "rivals"
READS = ("GET", "SSE", "WebSocket")
JWT_SECRET = "secret-of-the-matrix-of-access-control"
OWN_ORIGIN = "https://dashboard.example.com"
"""Listed in the settings, so that it is one whatever the port is."""
PAST = datetime.now(UTC) - timedelta(days=1)
TRACES = frozenset({"api_key_usage", "sign_in_attempts", "connection_holders", "system_state", "webhook_cursors"})
"""Tables that change of themselves, or by being asked."""


@dataclass(frozen=True)
class Caller:
    """Somebody who asks. Without `role`, `scopes` and `is_admin` it is nobody who is known."""

    name: str
    headers: dict[str, str]
    project: str = ""
    scopes: frozenset[str] | None = None
    role: str = ""
    is_person: bool = False
    is_admin: bool = False
    is_session: bool = False
    changes: bool = True
    """Whether it can change anything: a session without its CSRF token cannot."""

    @property
    def is_known(self) -> bool:
        return self.is_person or self.scopes is not None


def verdict(row: Row, caller: Caller) -> int:
    """What the table says: 200, 401, 403 or 404."""
    if row.is_public:
        return 200
    if not caller.is_known:
        return 401
    if not caller.changes and row.method not in READS:
        return 403
    if row.is_of_a_project and caller.project != MINE and not caller.is_admin:
        return 404
    if caller.scopes is not None:
        return 200 if row.key == ANY_KEY and caller.scopes >= row.scopes else 403
    if caller.is_admin or row.person == SIGNED_IN:
        return 200
    return 200 if row.person in ROLES and ROLES.index(caller.role) >= ROLES.index(row.person) else 403


@dataclass
class Tenant:
    """A project, its owner, and what is in it by name; a name of a parameter of a path is that thing's id."""

    project: str
    owner: ApiClient
    hook_url: str
    things: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the owner that must succeed; its answer."""
        reply = self.owner.ask(method, f"projects/{self.project}{path}", body)
        assert reply.status in {200, 201}, (path, reply)
        return reply.body

    def make(self, thing: str) -> str:
        """A new one of those that requests use up; its id."""
        there = {"platformId": self.things.get("platform_id", "")}
        account = there | {"providerUserId": f"{self.project}-{uuid4().hex[:8]}"}
        message: Any = TO_BOB | {"targets": [there | {"type": "user", "id": "bob"}], "options": {"scheduled": LATER}}
        match thing:
            case "key_id":
                made = self.ask("POST", "/keys", {"name": f"{self.project} k", "scopes": ["keys:write"]})
            case "user_id":
                return self._accept(self._invite()["inviteLink"])
            case "invite_id":
                made = self._invite()
            case "platform_id":
                sandbox = {"platform": "sandbox", "name": f"{self.project} b", "credentials": {}}
                made = self.ask("POST", "/platforms", sandbox)
            case "webhook_id":
                hook = {"name": f"{self.project} w", "url": self.hook_url, "events": ["webhook.test"]}
                made = self.ask("POST", "/webhooks", hook)
            case "identity_id":
                made = self.ask("POST", "/identities", {"displayName": f"{self.project} i", "aliases": [account]})
            case "alias_id":
                made = self.ask("POST", f"/identities/{self.things['identity_id']}/aliases", account)
            case "opt_out_id":
                made = self.ask("POST", "/opt-outs", account)
            case "job_id":
                return str(self.ask("POST", "/messages/send", message)["jobId"])
            case "batch_id":
                return str(self.ask("POST", "/messages/batch", [message])["batchId"])
            case "failed_job":
                message |= {"targets": [there | {"type": "user", "id": "fail-permanent"}], "options": {}}
                job = str(self.ask("POST", "/messages/send", message)["jobId"])
                self.wait(f"/messages/status/{job}", "status", "failed")
                return job
            case _:
                raise KeyError(thing)
        return str(made["id"])

    def _invite(self) -> Any:
        address = f"{self.project}-{uuid4().hex[:8]}@example.com"
        return self.ask("POST", "/members/invite", {"email": address, "role": "viewer"})

    def _accept(self, link: str) -> str:
        accepting = {"token": link.rpartition("/")[2], "name": self.project, "password": PASSWORD}
        return str(ApiClient(self.owner.url, {}).ask("POST", "auth/accept-invite", accepting).body["user"]["id"])

    def wait(self, path: str, name: str, value: str) -> None:
        """Until a field of an answer is this."""
        deadline = time.monotonic() + PATIENCE
        while self.ask("GET", path)[name] != value:
            assert time.monotonic() < deadline, path
            time.sleep(0.01)


FRESH = (
    "user_id", "invite_id", "platform_id", "key_id", "webhook_id", "identity_id", "alias_id", "opt_out_id", "job_id", "batch_id", "failed_job"
)  # fmt: skip


def furnish(tenant: Tenant) -> None:
    """Put one of everything into a project, and wait until all that it led to is done."""
    things = tenant.things | {"project": tenant.project, "platform": "sandbox"}
    tenant.things = things
    for thing in FRESH:
        things[thing] = tenant.make(thing)
    platform = things["platform_id"]
    things["person"] = tenant.ask("GET", f"/identities/{things['identity_id']}")["aliases"][0]["providerUserId"]
    _receive(tenant, things)
    [message] = tenant.ask("GET", f"/messages?platformId={platform}")["messages"]
    things |= {"message_id": message["id"], "provider_message": message["providerMessageId"]}
    shown = tenant.ask("GET", f"/messages/{message['id']}")
    things["attachment_id"] = shown["attachments"][0]["id"]
    link = urlsplit(tenant.ask("GET", f"/messages/{message['id']}/attachments/{things['attachment_id']}")["url"])
    things |= {"signed": link.query}
    [chat] = tenant.ask("GET", f"/chats?platformId={platform}")["chats"]
    things["chat_id"] = chat["id"]
    body = TO_BOB | {"targets": [{"platformId": platform, "type": "user", "id": "bob"}]}
    sent = str(tenant.ask("POST", "/messages/send", body)["jobId"])
    tenant.wait(f"/messages/status/{sent}", "status", "completed")
    found = tenant.ask("GET", "/messages/sent?status=sent")["messages"]
    things["sent_message"] = found[0]["providerMessageId"]
    things["dead"] = tenant.ask("GET", f"/dead-letters?jobId={things['failed_job']}")["deadLetters"][0]["id"]
    tenant.ask("POST", f"/webhooks/{things['webhook_id']}/test")
    deliveries = f"/webhooks/{things['webhook_id']}/deliveries"
    things["delivery_id"] = tenant.ask("GET", deliveries)["deliveries"][0]["id"]
    deadline = time.monotonic() + PATIENCE
    while tenant.ask("GET", deliveries)["deliveries"][0]["status"] == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _receive(tenant: Tenant, things: dict[str, str]) -> None:
    """A message with a file, read to its end."""
    shown = tenant.ask("GET", f"/platforms/{things['platform_id']}")
    address = urlsplit(shown["webhookUrl"]).path
    things["webhook_token"] = address.rpartition("/")[2]
    posted = report(text=f"hello {tenant.project}", author=things["person"], attachments=[{"data": "YQ=="}])
    assert tenant.owner.ask("POST", address, posted).status == 200
    deadline = time.monotonic() + PATIENCE
    while not tenant.ask("GET", f"/chats?platformId={things['platform_id']}")["chats"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class World:
    """A running gateway with both tenants and all callers."""

    def __init__(self, running: Running, scope_sets: Iterable[frozenset[str]], hook_url: str) -> None:
        self.running = running
        ids = {name: new_id() for name in (*ROLES, "stranger", "gone")}
        in_database(running, lambda connection: _add_users(connection, ids))
        people = {name: self._sign_in(user_id) for name, user_id in ids.items()}
        self.mine = Tenant(MINE, people["owner"], hook_url)
        self.theirs = Tenant(THEIRS, people["stranger"], hook_url)
        for tenant in (self.mine, self.theirs):
            made = tenant.owner.ask("POST", "projects", {"id": tenant.project, "name": tenant.project})
            assert made.status == 201, made
            furnish(tenant)
        in_database(running, lambda connection: _add_members(connection, ids))
        self.unknown = self._unknown(people)
        self.people = [
            *(Caller(role, people[role].headers, MINE, role=role, is_person=True) for role in ROLES),
            Caller(
                "an administrator", self._sign_in(_claims(running.admin)["sub"]).headers, is_person=True, is_admin=True
            ),
            Caller("no member", people["stranger"].headers, THEIRS, is_person=True),
        ]
        self._member = ids["member"]
        self.open_session()
        self.sessions = [_session("member", told) for told in (True, False)]
        self._keys: dict[tuple[str, frozenset[str]], Caller] = {}
        self.all_scopes = frozenset(ALL_SCOPES)
        wanted = {*scope_sets, self.all_scopes, *(self.all_scopes - {scope} for scope in ALL_SCOPES)}
        for scopes in sorted(wanted, key=sorted):
            if scopes:
                self.key_with(scopes)
        self.their_key = self.key_with(self.all_scopes, THEIRS)

    def key_with(self, scopes: frozenset[str], project: str = MINE) -> Caller:
        """The key with exactly these scopes."""
        if (project, scopes) not in self._keys:
            key = self._make_key(self.mine if project == MINE else self.theirs, scopes)
            lacking = sorted(self.all_scopes - scopes)
            told = f"a key without {', '.join(lacking)}" if len(lacking) == 1 else f"a key with {sorted(scopes)}"
            self._keys[project, scopes] = Caller(f"{project}: {told}", {"X-API-Key": key}, project, scopes)
        return self._keys[project, scopes]

    @property
    def known(self) -> list[Caller]:
        """Everybody who is somebody."""
        return [*self.people, *self.sessions, *self._keys.values()]

    def open_session(self) -> None:
        """Of the member, once more after a sign-out."""
        in_database(self.running, lambda connection: _add_session(connection, "member", self._member))

    def contents(self) -> dict[str, list[str]]:
        """All rows of all tables, but for who asked when."""
        return in_database(self.running, _contents)

    def settled(self) -> dict[str, list[str]]:
        """The same, once nothing is under way any more."""
        deadline = time.monotonic() + PATIENCE
        found = self.contents()
        while True:
            time.sleep(0.2)
            if (now := self.contents()) == found:
                return found
            assert time.monotonic() < deadline
            found = now

    # --- the callers

    def _sign_in(self, user_id: str) -> ApiClient:
        """What signing in would give, without the time that passwords take."""
        # Dated so late that signing out everywhere does not end it.
        claims = _claims(self.running.admin) | {"sub": user_id, "iat": datetime.fromisoformat(LATER).timestamp()}
        return self.running.nobody.as_user(jwt.encode(claims, JWT_SECRET, "HS256"))

    def _make_key(self, tenant: Tenant, scopes: Iterable[str]) -> str:
        return str(tenant.ask("POST", "/keys", {"name": "k", "scopes": sorted(scopes)})["key"])

    def _unknown(self, people: dict[str, ApiClient]) -> list[Caller]:
        expired, revoked = (self._make_key(self.mine, ALL_SCOPES) for _ in range(2))
        in_database(self.running, lambda connection: _end_keys(connection, expired, revoked))
        in_database(self.running, lambda connection: connection.execute(delete(users).where(users.c.name == "gone")))
        claims = _claims(self.mine.owner)
        past = claims | {"iat": int(PAST.timestamp()) - 60, "exp": int(PAST.timestamp())}
        tokens = {
            "a token that is none": "not.a.token",
            "an expired token": jwt.encode(past, JWT_SECRET, "HS256"),
            "an unsigned token": jwt.encode(claims, "", "none"),
            "a token signed with another secret": jwt.encode(claims, "x" * 32, "HS256"),
            "a token of a user who is gone": _token(people["gone"]),
        }
        keys = {"an unknown key": "msc_dev_" + "x" * 43, "an expired key": expired, "a revoked key": revoked}
        return [
            Caller("nobody", {}),
            *(Caller(name, {"Authorization": f"Bearer {token}"}) for name, token in tokens.items()),
            *(Caller(name, {"X-API-Key": key}) for name, key in keys.items()),
            Caller("an unknown session", {"Cookie": "msgcore_session=none", "Origin": OWN_ORIGIN}),
        ]


def _token(person: ApiClient) -> str:
    return person.headers["Authorization"].removeprefix("Bearer ")


def _claims(person: ApiClient) -> dict[str, Any]:
    return jwt.decode(_token(person), options={"verify_signature": False})


def _add_users(connection: Connection, ids: dict[str, str]) -> None:
    stamps = {"created_at": PAST, "updated_at": PAST, "is_admin": False}
    rows = [{"id": id_, "email": f"{name}@example.com", "name": name, **stamps} for name, id_ in ids.items()]
    connection.execute(insert(users), rows)


def _add_members(connection: Connection, ids: dict[str, str]) -> None:
    stamps = {"created_at": PAST, "updated_at": PAST, "project_id": MINE}
    rows = [{"id": new_id(), "user_id": ids[role], "role": role, **stamps} for role in ROLES if role != "owner"]
    connection.execute(insert(project_members), rows)


def _session(role: str, told: bool) -> Caller:
    """Somebody's session, with and without what changes need besides."""
    key = hmac.digest(JWT_SECRET.encode(), b"msgcore: CSRF tokens of sessions, version 1", "sha256")
    csrf = urlsafe_b64encode(hmac.digest(key, role.encode(), "sha256")).decode().rstrip("=")
    headers = {"Cookie": f"theme=dark; msgcore_session={role}", "Origin": OWN_ORIGIN}
    headers |= {"X-CSRF-Token": csrf} if told else {}
    name = f"a session of {role}, {'with' if told else 'without'} CSRF token"
    return Caller(name, headers, MINE, role=role, is_person=True, is_session=True, changes=told)


def _add_session(connection: Connection, role: str, user_id: str) -> None:
    late = datetime.fromisoformat(LATER)  # so that signing out everywhere does not end it
    row = {"id": new_id(), "user_id": user_id, "token_hash": digest(role), "signed_in_at": late}
    connection.execute(insert(sessions).values(row | {"idle_at": late, "expires_at": late}))


def _end_keys(connection: Connection, expired: str, revoked: str) -> None:
    for key, column in ((expired, "expires_at"), (revoked, "revoked_at")):
        connection.execute(update(api_keys).where(api_keys.c.key_hash == digest(key)).values({column: PAST}))


def _contents(connection: Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in metadata.sorted_tables:
        if table.name not in TRACES:
            columns = [column for column in table.c if column.name != "last_used_at"]
            found[table.name] = sorted(str(row) for row in connection.execute(select(*columns)))
    return found


@dataclass
class Line:
    """One connection to the gateway that is kept."""

    port: int

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str]:
        """Status and body of the answer. Of a stream or a socket that opens, the status alone: it is closed."""
        match method:
            case "SSE":
                method, headers = "GET", headers | {"Accept": "text/event-stream"}
            case "WebSocket":
                upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
                method, headers = "GET", headers | upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        answer = self._answer(method, path, body, headers)
        if answer.status == 101 or answer.headers.get_content_type() == "text/event-stream":
            self._connection.close()
            return 200, ""
        return answer.status, answer.read().decode()

    def _answer(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        with suppress(BrokenPipeError, ConnectionResetError):  # answered, and closed, before it was sent whole
            self._connection.request(method, path, body, headers)
        try:
            return self._connection.getresponse()
        except ConnectionResetError:  # closed since the last answer
            self._connection.close()
            self._connection.request(method, path, body, headers)
            return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()
