"""The audit log: every change is in it with who, from where and what, and no secret; it is listed and exported."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from api.audit_names import NOT_OF_REQUESTS, names_of, spoken
from api.conftest import ALL_SCOPES, EMAIL, PASSWORD, Running
from api.inbound import in_database, message, receive, store
from api.test_email_inbound import finished
from msgcore.core.ids import new_id
from msgcore.store.tables import audit_logs, chats, users
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE

PROJECT = "/api/v1/projects/{project}"
AGENT = "audit-test/1.0"
SECRETS = {name: f"planted-{name}-Aa1" for name in ("password", "wrong")} | {
    name: f"whsec_{base64.b64encode(name.encode() * 8).decode()}" for name in ("inbound", "moved")
}
BOB = "bob@example.com"
HOOK_SECRET = "planted-webhook-secret-of-32-chars"

BECAUSE_SENT = "what is sent has its own timeline, and events"
NO_CHANGE = "it changes nothing"
EXEMPT = {
    **dict.fromkeys(
        (
            *(f"POST {PROJECT}/messages/{what}" for what in ("send", "batch", "react", "unreact", "edit", "delete")),
            *(f"POST {PROJECT}/messages/{what}" for what in ("read", "typing")),
            f"POST {PROJECT}/messages/{{job_id}}/cancel",
            f"POST {PROJECT}/messages/{{job_id}}/reschedule",
            f"POST {PROJECT}/messages/batches/{{batch_id}}/cancel",
            f"POST {PROJECT}/webhooks/{{webhook_id}}/test",
        ),
        BECAUSE_SENT,
    ),
    **dict.fromkeys(
        (
            f"POST {PROJECT}/messages/preview",
            f"POST {PROJECT}/chats/sync-all",
            f"POST {PROJECT}/chats/{{chat_id}}/sync",
        ),
        NO_CHANGE,
    ),
    **dict.fromkeys(
        (f"{method} /api/v1/webhooks/{{platform}}/{{webhook_token}}" for method in ("POST", "PUT", "PATCH", "DELETE")),
        "it is a platform that tells what happened",
    ),
}
"""Operations that write no entry, and why."""


class Walk:
    """Makes changes, and sees that each is in the log as it should be."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.seen: set[str] = set()

    def entries(self, **query: str) -> list[dict[str, Any]]:
        text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        found = self.running.admin.ask("GET", f"audit?{text}")
        assert found.status == 200, found
        entries: list[dict[str, Any]] = found.body["entries"]
        return entries

    def do(
        self, client: ApiClient, operation: str, body: Any, action: str, *, status: int | None = None, **ids: str
    ) -> Any:
        """A request, which writes one entry with this action (two of a rolled key); what it answers."""
        method, template = operation.split(" ")
        path = template.replace("PROJECT", PROJECT)
        self.seen.add(f"{method} {path.partition('?')[0]}")
        request_id = f"r-{uuid4()}"
        headers = {"User_Agent": AGENT, "X_Request_ID": request_id}
        reply = client.ask(method, path.format(**{"project": "shop"} | ids), body, **headers)
        assert reply.status in ({200, 201} if status is None else {status}), reply
        found = [entry for entry in self.entries() if entry["origin"]["requestId"] == request_id]
        assert action in [entry["action"] for entry in found], (operation, found)
        for entry in found:
            assert (entry["origin"]["address"], entry["origin"]["userAgent"]) == ("127.0.0.1", AGENT)
            assert entry["subject"]["type"] == entry["action"].partition(".")[0]
            if "{project}" in template.replace("PROJECT", PROJECT):
                assert entry["projectId"] == ids.get("project", "shop")
            if client.headers:
                known = [("api-key", "all")] if client == self.running.key else [("user", EMAIL), ("user", BOB)]
                assert (entry["actor"]["kind"], entry["actor"]["name"]) in known
        return reply.body

    def keys(self) -> None:
        made = self.do(self.running.admin, "POST PROJECT/keys", {"name": "k", "scopes": ALL_SCOPES}, "api_key.created")
        SECRETS["key"] = made["key"]
        rolled = self.do(self.running.key, "POST PROJECT/keys/{key_id}/roll", None, "api_key.rolled", key_id=made["id"])
        SECRETS["rolled"] = rolled["key"]
        self.do(self.running.key, "DELETE PROJECT/keys/{key_id}", None, "api_key.revoked", key_id=rolled["id"])

    def projects(self) -> None:
        admin = self.running.admin
        self.do(admin, "POST /api/v1/projects", {"id": "brief", "name": "x"}, "project.created", project="brief")
        changes = {"name": "y", "isDefault": False, "settings": {"their_own": {"is_kept": 1}}}
        self.do(admin, "PATCH PROJECT", changes, "project.updated", project="brief")
        [changed] = self.entries(projectId="brief", action="project.updated")
        assert (changed["before"], changed["after"]) == ({"name": "x", "isDefault": False, "settings": None}, changes)
        self.do(admin, "POST PROJECT/pause", None, "project.paused")
        self.do(admin, "POST PROJECT/resume", None, "project.resumed")
        self.do(admin, "DELETE PROJECT", None, "project.deleted", project="brief")

    def platforms(self) -> None:
        key = self.running.key
        new = {"platform": "webhook", "name": "w", "credentials": {"url": "http://127.0.0.1:7000/"}}
        new["credentials"] |= {"secret": SECRETS["inbound"]}
        made = self.do(key, "POST PROJECT/platforms", new, "platform.created")["id"]
        changed = {"credentials": {"url": "http://127.0.0.1:7000/", "secret": SECRETS["moved"]}}
        self.do(
            key,
            "PATCH PROJECT/platforms/{platform_id}",
            changed,
            "platform.updated",
            platform_id=made,
        )
        assert self.entries(subjectId=made)[0]["after"] == {"credentials": ["secret"]}
        for what, action in (("pause", "paused"), ("resume", "resumed")):
            self.do(key, f"POST PROJECT/platforms/{{platform_id}}/{what}", None, f"platform.{action}", platform_id=made)
        self.do(key, "DELETE PROJECT/platforms/{platform_id}", None, "platform.deleted", platform_id=made)
        box = self.running.add_sandbox()
        path, action = "POST PROJECT/platforms/{platform_id}/register-webhook", "platform.webhook_registered"
        self.do(key, path, None, action, platform_id=box)
        self.do(key, "DELETE PROJECT/platforms/{platform_id}/inbox", None, "platform.inbox_cleared", platform_id=box)

    def people(self) -> None:
        key, box = self.running.key, self.running.add_sandbox()
        alias = {"platformId": box, "providerUserId": "ann"}
        made = self.do(key, "POST PROJECT/identities", {"aliases": [alias]}, "identity.created")["id"]
        self.do(key, "POST PROJECT/identities/quick-link", alias | {"providerUserId": "bob"}, "identity.created")
        one = "PROJECT/identities/{identity_id}"
        self.do(key, f"PATCH {one}", {"displayName": "Ann"}, "identity.updated", identity_id=made)
        other = alias | {"providerUserId": "ann2"}
        added = self.do(key, f"POST {one}/aliases", other, "identity.alias_added", identity_id=made)["id"]
        ids = {"identity_id": made, "alias_id": added}
        self.do(key, f"DELETE {one}/aliases/{{alias_id}}", None, "identity.alias_removed", **ids)
        self.do(key, f"DELETE {one}", None, "identity.deleted", identity_id=made)
        out = self.do(key, "POST PROJECT/opt-outs", alias, "opt_out.added")["id"]
        self.do(key, "DELETE PROJECT/opt-outs/{opt_out_id}", None, "opt_out.removed", opt_out_id=out)
        now = datetime.now(UTC)
        chat = {"id": new_id(), "project_id": "shop", "platform_id": box, "platform": "sandbox", "chat_type": "user"}
        store(self.running, chats, chat | {"provider_chat_id": "ann", "created_at": now, "updated_at": now})
        self.do(key, "PATCH PROJECT/chats/{chat_id}", {"name": "Ann"}, "chat.updated", chat_id=str(chat["id"]))
        receive(self.running, message("shop", box, "old", ago=timedelta(days=3)))
        path, action = "DELETE PROJECT/messages/cleanup", "received_messages.deleted"
        self.do(key, path + "?daysBefore=2", None, action)

    def dead_letters(self) -> None:
        key, box = self.running.key, self.running.add_sandbox()
        target = {"platformId": box, "type": "user", "id": "fail-permanent"}
        sent = key.ask("POST", "projects/shop/messages/send", {"targets": [target], "content": {"text": "hi"}})
        job = str(sent.body["jobId"])
        for operation, body in (("dead-letters/requeue", {"jobId": job}), ("messages/retry/{job_id}", None)):
            assert finished(self.running, job)["status"] == "failed"
            self.do(key, f"POST PROJECT/{operation}", body, "dead_letters.requeued", job_id=job)
        assert finished(self.running, job)["status"] == "failed"
        self.do(key, "POST PROJECT/dead-letters/purge", {"jobId": job}, "dead_letters.purged")
        assert self.entries(action="dead_letters.purged")[0]["before"]["jobId"] == job

    def webhooks(self) -> None:
        key = self.running.key
        hook = {"name": "h", "url": "http://127.0.0.1:7000/planted-token", "events": ["*"], "secret": HOOK_SECRET}
        made = self.do(key, "POST PROJECT/webhooks", hook, "webhook.created")["id"]
        one = "PROJECT/webhooks/{webhook_id}"
        tested = key.ask("POST", f"projects/shop/webhooks/{made}/test").body["id"]
        path = f"POST {one}/deliveries/{{delivery_id}}/redeliver"
        self.do(key, path, None, "webhook.redelivered", webhook_id=made, delivery_id=tested)
        self.do(key, f"POST {one}/replay", {"after": 0}, "webhook.replayed", webhook_id=made)
        SECRETS["rotated"] = self.do(key, f"POST {one}/rotate-secret", {}, "webhook.secret_rotated", webhook_id=made)[
            "secret"
        ]
        self.do(key, f"PATCH {one}", {"name": "g"}, "webhook.updated", webhook_id=made)
        self.do(key, f"DELETE {one}", None, "webhook.deleted", webhook_id=made)

    def accounts(self) -> None:
        nobody, admin, auth = self.running.nobody, self.running.admin, "/api/v1/auth"
        self.seen.add(f"POST {auth}/signup")
        [signed_up] = self.entries(action="user.signed_up")
        ann = signed_up["subject"]["id"]
        assert (signed_up["actor"]["id"], signed_up["projectId"]) == (ann, None)
        login, wrong = {"email": EMAIL, "password": PASSWORD}, {"email": EMAIL, "password": SECRETS["wrong"]}
        SECRETS["token"] = self.do(nobody, f"POST {auth}/login", login, "user.signed_in")["accessToken"]
        self.do(nobody, f"POST {auth}/login", wrong, "user.sign_in_failed", status=401)
        self.do(nobody, f"POST {auth}/login", wrong | {"email": "planted@x.org"}, "user.sign_in_failed", status=401)
        self.session(login)
        failed = self.entries(action="user.sign_in_failed")
        assert [(each["actor"]["kind"], each["subject"]["id"]) for each in failed] == [
            *(("anonymous", None), ("anonymous", ann)),
        ]
        self.do(admin, f"PATCH {auth}/profile", {"name": "Anna"}, "user.updated")
        change = {"currentPassword": SECRETS["wrong"], "newPassword": SECRETS["password"]}
        self.do(admin, f"PATCH {auth}/password", change, "user.password_change_failed", status=401)
        self.do(admin, f"PATCH {auth}/password", change | {"currentPassword": PASSWORD}, "user.password_changed")

    def session(self, login: dict[str, str]) -> None:
        """One of a password and one of a token, and the end of the first."""
        place = "/api/v1/auth/session"
        opened = self.running.nobody.ask("POST", place, login, X_Request_ID="session-1")
        actions = {each["action"] for each in self.entries() if each["origin"]["requestId"] == "session-1"}
        assert actions == {"user.signed_in", "user.session_opened"}
        self.seen.add(f"POST {place}")
        cookie = opened.headers["set-cookie"].partition(";")[0]
        SECRETS.update(session=cookie.partition("=")[2], csrf=opened.body["csrfToken"])
        person = ApiClient(self.running.nobody.url, {"Cookie": cookie, "X-CSRF-Token": SECRETS["csrf"]})
        self.do(person, f"DELETE {place}", None, "user.signed_out")
        self.do(self.running.admin, f"POST {place}/exchange", None, "user.session_opened")

    def members(self) -> None:
        nobody, admin, path = self.running.nobody, self.running.admin, "PROJECT/members"
        asked = {"email": "planted@x.org", "role": "viewer"}
        useless = self.do(admin, f"POST {path}/invite", asked, "invite.created")
        self.do(admin, f"DELETE {path}/invites/{{invite_id}}", None, "invite.revoked", invite_id=useless["id"])
        link = self.do(admin, f"POST {path}/invite", asked | {"email": BOB}, "invite.created")["inviteLink"]
        SECRETS["invite"] = link.rpartition("/")[2]
        accepting = {"token": SECRETS["invite"], "name": "Bob", "password": SECRETS["password"]}
        made = self.do(nobody, "POST /api/v1/auth/accept-invite", accepting, "member.added")
        bob = made["user"]["id"]
        assert {each["action"] for each in self.entries(actorId=bob)} == {"user.signed_up", "member.added"}
        role = {"role": "member"}
        self.do(admin, f"PATCH {path}/{{user_id}}", role, "member.role_changed", user_id=bob)
        self.do(admin, f"DELETE {path}/{{user_id}}", None, "member.removed", user_id=bob)
        self.do(admin, f"POST {path}", role | {"email": BOB}, "member.added")
        SECRETS["bob"] = made["accessToken"]
        client = nobody.as_user(made["accessToken"])
        again = admin.ask("POST", "projects/other/members/invite", asked).body["inviteLink"].rpartition("/")[2]
        self.do(client, "POST /api/v1/auth/join", {"token": again}, "member.added")
        self.do(client, "POST /api/v1/auth/logout-all", None, "user.signed_out_everywhere")


def mutating(running: Running) -> set[str]:
    paths = running.nobody.ask("GET", "/docs/openapi.json").body["paths"]
    return {f"{method.upper()} {path}" for path, ways in paths.items() for method in ways if method != "get"}


def test_every_operation_that_changes_something_is_in_the_log_without_secrets(running: Running) -> None:
    walk = Walk(running)
    parts = (
        walk.keys,
        walk.projects,
        walk.platforms,
        walk.people,
        walk.dead_letters,
        walk.webhooks,
        walk.accounts,
        walk.members,
    )
    for part in parts:
        part()
    assert walk.seen & EXEMPT.keys() == set()
    assert walk.seen | EXEMPT.keys() == mutating(running), "write an entry, test it above, or say why there is none"
    log = fetch(running, running.admin, "audit/export")
    assert len(log.splitlines()) > len(walk.seen)
    planted = [PASSWORD, HOOK_SECRET, "planted-token", "planted@x.org", *SECRETS.values()]
    assert [secret for secret in planted if secret in log] == []
    assert names_of(log) - spoken(running) == NOT_OF_REQUESTS


def fetch(running: Running, client: ApiClient, path: str) -> str:
    with urlopen(Request(f"{running.gateway.url}/api/v1/{path}", headers=client.headers), timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        assert answer.headers["Content-Type"].count("charset") <= 1
        return text


def record(running: Running, number: int, project: str | None, **other: Any) -> list[str]:
    """Entries of a day of its own, oldest first; their ids."""
    row = {"project_id": project, "actor_kind": "operator", "action": "x.done", "subject_type": "x"}
    rows = [row | {"id": new_id(), "created_at": datetime.now(UTC)} | other for _ in range(number)]
    store(running, audit_logs, *rows)
    return [str(row["id"]) for row in rows]


def test_pages_filters_and_exports_agree(running: Running) -> None:
    actor, subject = new_id(), f"s-{uuid4()}"
    older = {"before": {"is_active": True, "settings": {"their_own": 1}}}
    older["after"] = {"fields": ["avatar_url"], "too_long": ["is_default"]}
    mine = record(running, 7, "shop", actor_id=actor, subject_id=subject, **older)[::-1]
    record(running, 1, "other", actor_id=actor, subject_id=subject)
    key, path = running.key, f"projects/shop/audit?actorId={actor}&subjectId={subject}&action=x.done"
    whole = key.ask("GET", path).body
    assert ([entry["id"] for entry in whole["entries"]], whole["next"]) == (mine, None)
    paged: list[str] = []
    before = ""
    while before is not None:
        page = key.ask("GET", f"{path}&limit=3{before}").body
        paged += [entry["id"] for entry in page["entries"]]
        before = None if page["next"] is None else f"&before={page['next']}"
    assert paged == mine
    times = [entry["createdAt"] for entry in whole["entries"]]
    late = (datetime.fromisoformat(times[0]) + timedelta(hours=1)).isoformat().replace("+", "%2B")
    early = (datetime.fromisoformat(times[-1]) - timedelta(hours=1)).isoformat().replace("+", "%2B")
    for times_asked, number in ((f"since={early}&until={late}", 7), (f"since={late}", 0), (f"until={early}", 0)):
        assert len(key.ask("GET", f"{path}&{times_asked}").body["entries"]) == number
    assert len(key.ask("GET", f"{path}&since=0001-01-01&until=9999-12-31T23:59:59Z").body["entries"]) == 7
    assert len(running.admin.ask("GET", f"audit?actorId={actor}").body["entries"]) == 8
    assert len(running.admin.ask("GET", f"audit?actorId={actor}&projectId=other").body["entries"]) == 1

    export = path.replace("audit?", "audit/export?")
    first = whole["entries"][0]
    assert first["before"] == {"isActive": True, "settings": {"their_own": 1}}
    assert first["after"] == {"fields": ["avatarUrl"], "tooLong": ["isDefault"]}
    assert [json.loads(line) for line in fetch(running, key, export).splitlines()] == whole["entries"]
    heading, *rows = csv.reader(io.StringIO(fetch(running, key, f"{export}&format=csv"), newline=""))
    cells = [dict(zip(heading, row, strict=True)) for row in rows]
    assert ([each["id"] for each in cells], json.loads(cells[0]["after"])) == (mine, first["after"])
    assert len(fetch(running, running.admin, f"audit/export?actorId={actor}").splitlines()) == 8


def test_a_spreadsheet_calculates_nothing_of_an_export(running: Running) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20A1", 'a"b,c\nd']
    subject = f"s-{uuid4()}"
    for text in texts:
        record(running, 1, "shop", subject_id=subject, user_agent=text, after={"=name": text})
    text = fetch(running, running.key, f"projects/shop/audit/export?format=csv&subjectId={subject}")
    heading, *rows = csv.reader(io.StringIO(text, newline=""))
    entries = [dict(zip(heading, row, strict=True)) for row in rows][::-1]
    assert [entry["userAgent"] for entry in entries] == [*(f"'{text}" for text in texts[:-1]), texts[-1]]
    assert [json.loads(entry["after"])["=name"] for entry in entries] == texts
    assert not any(re.match(r"[=+\-@\uff1d\uff0b\uff0d\uff20\t\r]", cell) for row in rows for cell in row)


def test_the_name_of_an_export_is_no_way_into_its_headers(running: Running) -> None:
    for given in ('a"\r\nX-Planted: 1', "\u202egnp", "\u00fc" * 64):
        reply = running.admin.ask("GET", f"audit/export?projectId={quote(given)}")
        assert (reply.status, "x-planted" in reply.headers) == (200, False)
        assert re.fullmatch(
            r'attachment; filename="[^"]+\.ndjson"(; filename\*=.+)?', reply.headers["content-disposition"]
        )


def user_who_is_no_administrator(running: Running) -> ApiClient:
    now, email = datetime.now(UTC), f"{uuid4()}@example.com"

    def add(connection: Any) -> None:
        password = connection.execute(users.select().where(users.c.email == EMAIL)).one().password_hash
        row = {"id": new_id(), "email": email, "password_hash": password, "is_admin": False}
        connection.execute(users.insert(), row | {"created_at": now, "updated_at": now})

    in_database(running, add)
    passwords = (PASSWORD, SECRETS["password"])  # as the test above left it, or not
    replies = [running.nobody.ask("POST", "auth/login", {"email": email, "password": one}) for one in passwords]
    return running.nobody.as_user(next(reply.body["accessToken"] for reply in replies if reply.status == 201))


@pytest.mark.parametrize("what", ["audit", "audit/export"])
def test_who_may_read_it(running: Running, what: str) -> None:
    def status(client: ApiClient, path: str) -> int:
        reply: Reply = client.ask("GET", f"{path}?limit=1&actorId={new_id()}")
        return reply.status

    own, whole = f"projects/shop/{what}", what
    someone = user_who_is_no_administrator(running)
    asked = {
        "both scopes": (running.make_key("keys:read", "members:read"), own, 200),
        "one scope": (running.make_key("keys:read"), own, 403),
        "the other": (running.make_key("members:read"), own, 403),
        "another project": (running.make_key(*ALL_SCOPES, project="other"), own, 404),
        "no member": (someone, own, 404),
        "no administrator": (someone, whole, 403),
        "a key": (running.key, whole, 403),
        "nobody": (running.nobody, whole, 401),
    }
    assert {name: status(client, path) for name, (client, path, _) in asked.items()} == {
        name: expected for name, (_, _, expected) in asked.items()
    }


def test_what_a_deleted_project_left_is_not_for_the_next_one_of_its_name(running: Running) -> None:
    owners = [user_who_is_no_administrator(running) for _ in range(2)]
    for owner in owners:
        assert owner.ask("POST", "projects", {"id": "reused", "name": "Reused"}).status == 201
        shown = owner.ask("GET", "projects/reused/audit?since=2000-01-01").body["entries"]
        assert [entry["action"] for entry in shown] == ["project.created"]
        assert len(fetch(running, owner, "projects/reused/audit/export").splitlines()) == 1
        assert owner.ask("DELETE", "projects/reused").status == 200
    assert len(running.admin.ask("GET", "audit?projectId=reused").body["entries"]) == 4


def test_nothing_changes_it_through_the_api(running: Running) -> None:
    [entry] = record(running, 1, "shop")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("projects/shop/audit", f"projects/shop/audit/{entry}", "audit", f"audit/{entry}"):
            assert running.admin.ask(method, path, {}).status in {404, 405}
