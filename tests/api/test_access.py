"""Who gets in where: keys, scopes, projects, and what happens to keys that ended."""

from __future__ import annotations

import http.client
import socket
import time
from urllib.parse import urlsplit

import pytest

from api.conftest import ALL_SCOPES, EMAIL, PASSWORD, Running
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE

READS = [
    ("keys", "keys:read"),
    ("platforms", "platforms:read"),
    ("platforms/logs", "platforms:read"),
    ("platforms/logs/stats", "platforms:read"),
    ("messages/sent", "messages:read"),
    ("messages/queue/metrics", "messages:read"),
    ("dead-letters", "messages:read"),
    ("webhooks", "webhooks:read"),
]


@pytest.mark.parametrize(("path", "scope"), READS)
def test_a_read_needs_its_scope_in_its_project(running: Running, path: str, scope: str) -> None:
    url = f"projects/shop/{path}"
    refused = running.nobody.ask("GET", url)
    assert (refused.status, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
    assert running.nobody.as_key("msc_dev_" + "x" * 43).ask("GET", url).status == 401
    assert running.nobody.as_user("not.a.token").ask("GET", url).status == 401
    without = running.make_key(*(other for other in ALL_SCOPES if other != scope))
    lacking = without.ask("GET", url)
    assert lacking.status == 403
    assert scope in lacking.body["message"]
    assert running.make_key(scope).ask("GET", url).status == 200
    assert running.admin.ask("GET", url).status == 200


def test_another_tenants_project_looks_like_none(running: Running) -> None:
    theirs = running.make_key(*ALL_SCOPES, project="other")
    for path in ("", *(f"/{path}" for path, _ in READS)):
        hidden = theirs.ask("GET", f"projects/shop{path}")
        missing = theirs.ask("GET", f"projects/none{path}")
        assert hidden.status == missing.status == 404
        assert hidden.body["message"].replace("shop", "none") == missing.body["message"]
    platform_id = running.add_sandbox()
    for method, body in (("GET", None), ("PATCH", {"name": "mine"}), ("DELETE", None)):
        assert theirs.ask(method, f"projects/other/platforms/{platform_id}", body).status == 404
    message = {"targets": [{"platformId": platform_id, "type": "user", "id": "eve"}], "content": {"text": "hi"}}
    refused = theirs.ask("POST", "projects/other/messages/send", message)
    assert refused.status == 400
    assert refused.body["errors"][0]["pointer"] == "/targets/0/platformId"
    assert running.key.ask("GET", f"projects/shop/platforms/{platform_id}").body["name"] == "box"


def test_a_key_sees_its_own_project_only(running: Running) -> None:
    assert [project["id"] for project in running.key.ask("GET", "projects").body] == ["shop"]
    assert {project["id"] for project in running.admin.ask("GET", "projects").body} >= {"shop", "other"}


def test_a_revoked_key_ends_at_once_also_for_sending(running: Running) -> None:
    platform_id = running.add_sandbox()
    message = {"targets": [{"platformId": platform_id, "type": "user", "id": "ann"}], "content": {"text": "hi"}}
    made = running.admin.ask("POST", "projects/shop/keys", {"name": "short", "scopes": ["messages:write"]}).body
    key = running.nobody.as_key(made["key"])
    assert key.ask("POST", "projects/shop/messages/send", message).status == 201
    assert running.admin.ask("DELETE", f"projects/shop/keys/{made['id']}").status == 200
    refused = key.ask("POST", "projects/shop/messages/send", message)
    assert (refused.status, "revoked" in refused.body["message"]) == (401, True)
    assert made["id"] not in [listed["id"] for listed in running.admin.ask("GET", "projects/shop/keys").body]
    again = running.admin.ask("DELETE", f"projects/shop/keys/{made['id']}")
    assert (again.status, again.body["message"]) == (200, "API key already revoked")


def test_a_rolled_key_goes_on_beside_its_successor(running: Running) -> None:
    made = running.admin.ask("POST", "projects/shop/keys", {"name": "old", "scopes": ["keys:read"]}).body
    rolled = running.admin.ask("POST", f"projects/shop/keys/{made['id']}/roll").body
    assert rolled["key"] != made["key"]
    assert rolled["scopes"] == ["keys:read"]
    for key in (made["key"], rolled["key"]):
        assert running.nobody.as_key(key).ask("GET", "projects/shop/keys").status == 200
    assert running.admin.ask("POST", f"projects/shop/keys/{made['id']}/roll").status == 404


def test_a_key_grants_no_more_than_it_has(running: Running) -> None:
    key = running.make_key("keys:write", "messages:read")
    asked = {"name": "more", "scopes": ["messages:read", "messages:write"]}
    refused = key.ask("POST", "projects/shop/keys", asked)
    assert (refused.status, "messages:write" in refused.body["message"]) == (403, True)
    assert key.ask("POST", "projects/shop/keys", asked | {"scopes": ["messages:read"]}).status == 201
    more = running.admin.ask("POST", "projects/shop/keys", asked).body
    refused = key.ask("POST", f"projects/shop/keys/{more['id']}/roll")
    assert (refused.status, "messages:write" in refused.body["message"]) == (403, True)
    assert running.nobody.as_key(more["key"]).ask("GET", "auth/whoami").status == 200, "it was not rolled"


def test_a_key_grants_no_more_time_than_it_has(running: Running) -> None:
    keys, scopes = "projects/shop/keys", ["keys:write"]
    made = running.admin.ask("POST", keys, {"name": "short", "scopes": scopes, "expiresInDays": 2}).body
    short = running.nobody.as_key(made["key"])

    def make(**asked: int) -> Reply:
        return short.ask("POST", keys, {"name": "k", "scopes": scopes, **asked})

    refused = make(expiresInDays=2)
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (403, "/expiresInDays")
    assert "use at most 1, or leave it out" in refused.body["errors"][0]["message"]
    assert make(expiresInDays=1).body["expiresAt"] < made["expiresAt"]
    assert make().body["expiresAt"] == made["expiresAt"], "it ends with the key that made it"
    endless = running.admin.ask("POST", keys, {"name": "endless", "scopes": scopes}).body["id"]
    refused = short.ask("POST", f"{keys}/{endless}/roll")
    assert (refused.status, "cannot roll one that works longer" in refused.body["message"]) == (403, True)

    rolled = short.ask("POST", f"{keys}/{made['id']}/roll")
    assert (rolled.status, rolled.body["expiresAt"]) == (200, made["expiresAt"]), "itself it may roll"
    ends_at = rolled.body["oldKeyRevokedAt"]
    assert make().body["expiresAt"] == ends_at, "what is left of a rolled key is 24 hours"
    refused = make(expiresInDays=1)
    assert f"until {ends_at} only: leave it out" in refused.body["errors"][0]["message"]
    assert short.ask("POST", f"{keys}/{rolled.body['id']}/roll").status == 403
    successor = running.nobody.as_key(rolled.body["key"])
    assert successor.ask("POST", keys, {"name": "k", "scopes": scopes, "expiresInDays": 1}).status == 201


def test_invitations_end_with_the_key_that_made_them(running: Running) -> None:
    keys, invites = "projects/shop/keys", "projects/shop/members/invites"
    scopes = [scope for scope in ALL_SCOPES if scope.endswith(":read")] + ["members:write"]

    def issue(**asked: int) -> tuple[str, ApiClient, str | None]:
        made = running.admin.ask("POST", keys, {"name": "k", "scopes": scopes, **asked}).body
        return made["id"], running.nobody.as_key(made["key"]), made["expiresAt"]

    def invite(key: ApiClient, name: str) -> str:
        asked = {"email": f"{name}@short.example.com", "role": "viewer"}
        made = key.ask("POST", "projects/shop/members/invite", asked)
        assert made.status == 201, made
        return str(made.body["expiresAt"])

    def listed(name: str) -> str:
        found = running.admin.ask("GET", invites).body
        return next(str(each["expiresAt"]) for each in found if each["email"] == f"{name}@short.example.com")

    _, short, end = issue(expiresInDays=1)
    assert invite(short, "short") == end
    _, long, end = issue(expiresInDays=30)
    assert invite(long, "long") < str(end)
    key_id, endless, _ = issue()
    week = invite(endless, "before")
    rolled = running.admin.ask("POST", f"{keys}/{key_id}/roll").body["oldKeyRevokedAt"]
    assert (listed("before"), invite(endless, "after")) == (rolled, rolled)
    assert rolled < week
    link = endless.ask("POST", "projects/shop/members/invite", {"email": "in@short.example.com", "role": "viewer"})
    token = link.body["inviteLink"].rpartition("/")[2]
    joined = running.nobody.ask("POST", "auth/accept-invite", {"token": token, "name": "Ina", "password": PASSWORD})
    [added] = running.admin.ask("GET", "projects/shop/audit?action=member.added&limit=1").body["entries"]
    assert added["subject"]["id"] == joined.body["user"]["id"]
    assert added["after"] == {"role": "viewer", "invitedBy": key_id}, "so that it can be found out who came in by it"


def test_texts_of_messages_ask_for_messages_read(running: Running) -> None:
    box = running.add_sandbox("texts")
    hook = {"name": "w", "url": "https://example.com/w", "events": ["message.received"]}
    hook_id = running.key.ask("POST", "projects/shop/webhooks", hook).body["id"]
    path = f"projects/shop/platforms/{box}"
    report = {"chat": {"id": "room"}, "author": {"id": "ann"}}
    report["content"] = {"kind": "message", "id": "m-1", "text": "PLANTED"}
    address = urlsplit(running.key.ask("GET", path).body["webhookUrl"]).path
    assert running.nobody.ask("POST", address, report).status == 200
    deliveries = f"projects/shop/webhooks/{hook_id}/deliveries"
    deadline = time.monotonic() + PATIENCE
    while not running.key.ask("GET", deliveries).body["deliveries"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for scopes, sees in ((["webhooks:read"], False), (["webhooks:read", "messages:read"], True)):
        [shown] = running.make_key(*scopes).ask("GET", deliveries).body["deliveries"]
        assert ("PLANTED" in str(shown)) is sees
        assert shown["payload"].keys() == {"event", "timestamp", "project_id", "data", "id"}
        assert (shown["payload"]["data"] is not None) is sees
    assert running.make_key("platforms:read").ask("GET", f"{path}/inbox").status == 403
    assert running.make_key("platforms:read", "messages:read").ask("GET", f"{path}/inbox").status == 200
    running.key.ask("DELETE", f"projects/shop/webhooks/{hook_id}")


def test_what_platforms_say_of_messages_asks_for_messages_read(running: Running) -> None:
    box = running.add_sandbox("words")
    path = f"projects/shop/platforms/{box}"
    for to, category in (("fail-permanent", "message"), ("auth-failure", "auth")):  # the latter pauses the account
        body = {"targets": [{"platformId": box, "type": "user", "id": to}], "content": {"text": "hi"}}
        assert running.key.ask("POST", "projects/shop/messages/send", body).status == 201
        deadline = time.monotonic() + PATIENCE
        while category not in {line["category"] for line in running.key.ask("GET", f"{path}/logs").body["logs"]}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    readers = [(running.make_key("platforms:read"), False), (running.make_key("platforms:read", "messages:read"), True)]
    for reader, sees in (*readers, (running.admin, True)):
        for where in (f"{path}/logs", "projects/shop/platforms/logs"):
            told = [line for line in reader.ask("GET", where).body["logs"] if line["platformId"] == box]
            assert {line["error"] is not None for line in told if line["category"] in ("message", "auth")} == {sees}
            assert ("recipient" in str(told)) is sees
        listed = [each for each in reader.ask("GET", "projects/shop/platforms").body if each["id"] == box]
        for shown in (*listed, reader.ask("GET", path).body):
            assert (shown["pausedBy"], "recipient" in shown["pausedReason"]) == ("credentials", sees)
    running.key.ask("DELETE", path)


def test_only_who_may_change_a_platform_learns_where_it_posts(running: Running) -> None:
    path = f"projects/shop/platforms/{running.add_sandbox('addresses')}"
    token = running.key.ask("GET", path).body["webhookUrl"].rpartition("/")[2]
    reader, writer = running.make_key("platforms:read"), running.make_key("platforms:read", "platforms:write")
    for client, sees in ((reader, False), (writer, True), (running.admin, True)):
        shown = str([client.ask("GET", where).body for where in (path, "projects/shop/platforms")])
        assert shown.count(token) == (2 if sees else 0)
    assert running.nobody.ask("POST", urlsplit(reader.ask("GET", path).body["webhookUrl"]).path, {}).status == 404


def test_credentials_that_are_sent_twice_are_none(running: Running) -> None:
    for path in ("messages/send", "platforms"):
        for header, first in (("X-API-Key", running.key.headers["X-API-Key"]), ("Authorization", "Bearer x.y.z")):
            connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
            connection.putrequest("POST" if path == "messages/send" else "GET", f"/api/v1/projects/shop/{path}")
            for value in (first, running.key.headers["X-API-Key"]):
                connection.putheader(header, value)
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", "2")
            connection.endheaders(b"{}")
            answer = connection.getresponse()
            assert answer.status == 401
            assert f"several headers {header}" in answer.read().decode()
            connection.close()


def test_sign_up_is_for_the_first_only(running: Running) -> None:
    refused = running.nobody.ask("POST", "auth/signup", {"email": "eve@example.com", "password": PASSWORD})
    assert (refused.status, "closed" in refused.body["message"]) == (409, True)


def test_sign_in_does_not_tell_what_was_wrong(running: Running) -> None:
    wrong = {
        running.nobody.ask("POST", "auth/login", {"email": email, "password": password}).body["message"]
        for email, password in ((EMAIL, "Wrong1234"), ("nobody@example.com", PASSWORD))
    }
    assert len(wrong) == 1
    assert running.nobody.ask("POST", "auth/login", {"email": EMAIL.upper(), "password": PASSWORD}).status == 201


def test_keys_do_not_manage_people(running: Running) -> None:
    refused = running.key.ask("PATCH", "auth/profile", {"name": "Eve"})
    assert (refused.status, "sign in" in refused.body["message"]) == (403, True)


def test_the_request_id_of_the_caller_comes_back(running: Running) -> None:
    assert running.nobody.ask("GET", "health", X_Request_ID="abc-1").headers["x-request-id"] == "abc-1"
    made = running.nobody.ask("GET", "health", X_Request_ID="a b\u00e9").headers["x-request-id"]
    assert len(made) == 36
    missing = running.nobody.ask("GET", "/nowhere", X_Request_ID="abc-2")
    assert (missing.status, missing.body["requestId"]) == (404, "abc-2")


def test_who_guesses_is_told_to_wait(running: Running) -> None:
    guess = {"email": "mallory@example.com", "password": "Wrong1234"}
    found = [running.nobody.ask("POST", "auth/login", guess) for _ in range(11)]
    assert [reply.status for reply in found] == [401] * 10 + [429]
    seconds = found[-1].headers["retry-after"]
    assert 1 <= int(seconds) <= 30
    assert found[-1].body["message"].endswith(f"try again in {seconds} seconds")


def test_signing_out_everywhere_ends_tokens_that_a_new_password_spares(running: Running) -> None:
    login = {"email": EMAIL, "password": PASSWORD}
    first, second = (
        running.nobody.as_user(running.nobody.ask("POST", "auth/login", login).body["accessToken"]) for _ in range(2)
    )
    for old, new in ((PASSWORD, "Passw0rd2"), ("Passw0rd2", PASSWORD)):
        assert first.ask("PATCH", "auth/password", {"currentPassword": old, "newPassword": new}).status == 200
    assert [each.ask("GET", "auth/whoami").status for each in (first, second, running.admin)] == [200, 401, 401]
    assert first.ask("POST", "auth/logout-all").status == 200
    assert first.ask("GET", "auth/whoami").status == 401
    running.admin.headers.update(
        running.nobody.as_user(running.nobody.ask("POST", "auth/login", login).body["accessToken"]).headers
    )


def test_a_refusal_leaves_the_connection_fit_for_the_next_request(running: Running) -> None:
    """Also where the body comes after its head, or never: then it is refused all the same."""
    head = b"POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.gateway.port), PATIENCE) as connection:
        for body in (b"{}", b"x" * 10_000):
            connection.sendall(head % len(body))
            connection.sendall(body)
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            assert (answer.status, bool(answer.read())) == (401, True)
        connection.sendall(head % 5)
        answer = http.client.HTTPResponse(connection, method="POST")
        answer.begin()
        assert answer.status == 401
