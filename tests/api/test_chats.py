"""Chats: listing, reading what was said in them, naming them, and syncing, which no platform can yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.conftest import ALL_SCOPES, Running
from api.inbound import UNKNOWN, add_sandbox, ask, attach, make_project, message, receive, send, store, stored
from msgcore.core.ids import new_id
from msgcore.store.tables import audit_logs, chats

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def project(running: Running) -> str:
    return make_project(running)


def make_chat(running: Running, project: str, platform_id: str, chat_id: str, **other: Any) -> str:
    """Store a chat; its id."""
    row = {
        "id": new_id(),
        "project_id": project,
        "platform_id": platform_id,
        "platform": "sandbox",
        "provider_chat_id": chat_id,
        "chat_type": "user",
        "name": None,
        "last_message_at": NOW,
        "created_at": NOW,
        "updated_at": NOW,
    }
    store(running, chats, row | other)
    return str(row["id"])


def ids(answer: Any) -> list[str]:
    return [found["providerChatId"] for found in answer["chats"]]


def said(answer: Any) -> list[tuple[str, str]]:
    return [(found["direction"], found["messageText"]) for found in answer["messages"]]


def test_chats_are_listed_by_their_newest_activity(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    for chat_id, minutes in (("b", 2), ("quiet-1", None), ("a", 1), ("c", 3), ("quiet-2", None)):
        at = None if minutes is None else NOW - timedelta(minutes=minutes)
        make_chat(running, project, platform_id, chat_id, last_message_at=at)
    whole = ["a", "b", "c", "quiet-2", "quiet-1"]
    assert ids(ask(running, project, "GET", "/chats")) == whole
    for limit in (1, 2, 3, 4):
        pages = [ask(running, project, "GET", f"/chats?limit={limit}&offset={at}") for at in range(0, 5, limit)]
        assert [chat_id for page in pages for chat_id in ids(page)] == whole
        more = [page["pagination"]["hasMore"] for page in pages]
        assert more == [True] * (len(pages) - 1) + [False]
        assert {page["pagination"]["total"] for page in pages} == {5}
    assert ids(ask(running, project, "GET", "/chats?offset=5")) == []


def test_chats_are_filtered(running: Running, project: str) -> None:
    first, second = add_sandbox(running, project), add_sandbox(running, project)
    make_chat(running, project, first, "1", name="Sales 100%", chat_type="group")
    make_chat(running, project, second, "2", name="sales team", last_message_at=None)
    make_chat(running, project, second, "3", name="News", chat_type="channel")
    narrowed = {
        f"platformId={first}": {"1"},
        "chatType=channel": {"3"},
        "search=SALES": {"1", "2"},
        "search=100%25": {"1"},
        "search=%25": {"1"},
        "search=3": {"3"},
        "search=": {"1", "2", "3"},
        f"search=sales&platformId={second}": {"2"},
        f"platformId={UNKNOWN}": set(),
    }
    for query, expected in narrowed.items():
        answer = ask(running, project, "GET", f"/chats?{query}")
        assert (set(ids(answer)), answer["pagination"]["total"]) == (expected, len(expected)), query


def test_a_chat_is_shown_and_changed(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    chat_id = make_chat(running, project, platform_id, "bob", name="Bob")
    url = f"/chats/{chat_id}"
    shown = ask(running, project, "GET", url)
    at = NOW.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert shown == {
        "id": chat_id,
        "projectId": project,
        "platformId": platform_id,
        "platform": "sandbox",
        "providerChatId": "bob",
        "chatType": "user",
        "name": "Bob",
        "avatarUrl": None,
        "metadata": None,
        "lastMessageAt": at,
        "createdAt": at,
        "updatedAt": at,
    }
    assert ask(running, project, "PATCH", url, {}) == shown
    picture = "https://example.com/bob.png"
    changed = ask(running, project, "PATCH", url, {"metadata": {"vip": True}, "avatarUrl": picture})
    assert changed == shown | {"metadata": {"vip": True}, "avatarUrl": picture, "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > shown["updatedAt"]
    renamed = ask(running, project, "PATCH", url, {"name": "Robert", "avatarUrl": None})
    assert (renamed["name"], renamed["avatarUrl"], renamed["metadata"]) == ("Robert", None, {"vip": True})
    assert ask(running, project, "GET", url) == renamed
    recorded = stored(running, audit_logs, audit_logs.c.subject_id == chat_id)
    assert [row.after for row in recorded][-1] == {"fields": ["avatarUrl", "name"]}


def test_a_chats_history_has_what_was_sent_and_received(running: Running, project: str) -> None:
    platform_id, other = add_sandbox(running, project), add_sandbox(running, project)
    person = "reply:ann"
    chat_id = make_chat(running, project, platform_id, person)
    for text in ("one", "two"):
        send(running, project, platform_id, person, text)
    last = message(project, platform_id, "bye", provider_chat_id=person)
    receive(running, last, message(project, other, "elsewhere", provider_chat_id=person))
    attach(running, last, "a.png")
    job = send(running, project, platform_id, person, "three")
    send(running, project, platform_id, "reply:bob", "not here")
    send(running, project, other, person, "not here")
    whole = [
        ("received", "You wrote: three"),
        ("sent", "three"),
        ("received", "bye"),
        ("received", "You wrote: two"),
        ("sent", "two"),
        ("received", "You wrote: one"),
        ("sent", "one"),
    ]
    answer = ask(running, project, "GET", f"/chats/{chat_id}/messages")
    assert (said(answer), answer["next"]) == (whole, None)
    assert len({found["id"] for found in answer["messages"]}) == len(whole)
    sent, received = answer["messages"][1], answer["messages"][2]
    expected = {"jobId": job, "status": "sent", "state": "sent", "providerChatId": person, "platformId": platform_id}
    assert {name: sent[name] for name in expected} == expected
    assert (sent["messageContent"], sent["timestamp"]) == ({"text": "three"}, sent["sentAt"])
    assert [found["filename"] for found in received["attachments"]] == ["a.png"]
    for limit in (1, 2, 3, 7):
        pages: list[tuple[str, str]] = []
        before: str | None = ""
        while before is not None:
            answer = ask(running, project, "GET", f"/chats/{chat_id}/messages?limit={limit}{before}")
            assert len(answer["messages"]) <= limit
            pages += said(answer)
            before = answer["next"] and f"&before={answer['next']}"
        assert pages == whole


def test_what_failed_is_in_the_history_with_its_reason(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    chat_id = make_chat(running, project, platform_id, "fail-permanent")
    send(running, project, platform_id, "fail-permanent")
    [found] = ask(running, project, "GET", f"/chats/{chat_id}/messages")["messages"]
    assert (found["status"], found["sentAt"], found["timestamp"]) == ("failed", None, found["createdAt"])
    assert found["errorMessage"]


def test_syncing_says_that_nothing_was_synced(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    chat_id = make_chat(running, project, platform_id, "bob")
    for path in ("/chats/sync-all", f"/chats/{chat_id}/sync"):
        for body in (None, {}, {"platformId": platform_id, "startDate": "2030-01-01T00:00:00Z", "limit": 10}):
            answer = ask(running, project, "POST", path, body)
            assert (answer["syncedChats"], answer["syncedMessages"]) == (0, 0)
            assert "Nothing was synced" in answer["message"]
        missing = running.admin.ask("POST", f"projects/{project}{path}", {"platformId": UNKNOWN})
        assert missing.status == 404
        for name, value in (("startDate", "soon"), ("endDate", 1), ("limit", 0), ("platformId", "x"), ("why", 1)):
            refused = running.admin.ask("POST", f"projects/{project}{path}", {name: value})
            assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, f"/{name}")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": 1}, "/name"),
        ({"name": "x" * 1025}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"avatarUrl": "javascript:x"}, "/avatarUrl"),
        ({"chatType": "group"}, "/chatType"),
        ({"metadata": ["x" * 16_384]}, "/metadata"),
    ],
)
def test_a_wrong_change_is_refused(running: Running, project: str, body: Any, pointer: str) -> None:
    chat_id = make_chat(running, project, add_sandbox(running, project), "bob", name="Bob")
    refused = running.admin.ask("PATCH", f"projects/{project}/chats/{chat_id}", body)
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)
    assert ask(running, project, "GET", f"/chats/{chat_id}")["name"] == "Bob"


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("?limit=101", "/query/limit"),
        ("?offset=-1", "/query/offset"),
        ("?chatType=planet", "/query/chatType"),
        ("?platformId=x", "/query/platformId"),
        ("?search=" + "x" * 256, "/query/search"),
        (f"/{UNKNOWN}/messages?limit=0", "/query/limit"),
        (f"/{UNKNOWN}/messages?before=x", "/query/before"),
    ],
)
def test_a_wrong_parameter_is_named(running: Running, path: str, pointer: str) -> None:
    refused = running.key.ask("GET", f"projects/shop/chats{path}")
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)


def test_other_tenants_chats_look_like_none(running: Running, project: str) -> None:
    chat_id = make_chat(running, project, add_sandbox(running, project), "bob", name="Bob")
    theirs = running.make_key(*ALL_SCOPES, project="other")
    assert chat_id not in [found["id"] for found in theirs.ask("GET", "projects/other/chats").body["chats"]]
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/messages", None),
        ("PATCH", "", {"name": "x"}),
        ("POST", "/sync", {}),
    ):
        hidden = theirs.ask(method, f"projects/other/chats/{chat_id}{path}", body)
        missing = theirs.ask(method, f"projects/other/chats/{UNKNOWN}{path}", body)
        nonsense = theirs.ask(method, f"projects/other/chats/nonsense{path}", body)
        assert (hidden.status, missing.status, nonsense.status) == (404, 404, 404)
        assert hidden.body["message"].replace(chat_id, UNKNOWN) == missing.body["message"]
        assert theirs.ask(method, f"projects/{project}/chats/{chat_id}{path}", body).status == 404
    assert ask(running, project, "GET", f"/chats/{chat_id}")["name"] == "Bob"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "", "messages:read"),
        ("GET", "/{id}", "messages:read"),
        ("GET", "/{id}/messages", "messages:read"),
        ("PATCH", "/{id}", "messages:write"),
        ("POST", "/sync-all", "messages:write"),
        ("POST", "/{id}/sync", "messages:write"),
    ],
)
def test_each_needs_its_scope(running: Running, method: str, path: str, scope: str) -> None:
    chat_id = make_chat(running, "shop", running.add_sandbox(), "bob")
    url, body = f"projects/shop/chats{path.format(id=chat_id)}", None if method == "GET" else {}
    assert running.nobody.ask(method, url, body).status == 401
    lacking = running.make_key(*(other for other in ALL_SCOPES if other != scope)).ask(method, url, body)
    assert (lacking.status, scope in lacking.body["message"]) == (403, True)
    assert running.make_key(scope).ask(method, url, body).status == 200
