"""What was received: listing, filtering and paging, one message, counts, and deleting what is old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import update

from api.conftest import ALL_SCOPES, PASSWORD, Running
from api.inbound import (
    UNKNOWN,
    add_sandbox,
    ask,
    attach,
    in_database,
    make_project,
    message,
    react,
    receive,
    send,
    store,
    stored,
)
from msgcore.core.ids import new_id
from msgcore.services import received as service
from msgcore.store.tables import (
    audit_logs,
    identities,
    identity_aliases,
    message_attachments,
    project_members,
    received_messages,
    received_reactions,
    users,
)
from servers.api_client import ApiClient


@pytest.fixture
def project(running: Running) -> str:
    return make_project(running)


def listed(running: Running, project: str, query: str = "") -> Any:
    return ask(running, project, "GET", f"/messages{query}")


def texts(answer: Any) -> list[str]:
    return [found["messageText"] for found in answer["messages"]]


def iso(ago: timedelta) -> str:
    return quote((datetime.now(UTC) - ago).isoformat())


def know(running: Running, project: str, platform_id: str, user_id: str) -> dict[str, Any]:
    """Make an identity with one alias; how answers show it."""
    now, identity_id = datetime.now(UTC), new_id()
    shown = {"id": identity_id, "displayName": "Ann A.", "email": "ann@example.com"}
    row = {"id": identity_id, "project_id": project, "display_name": "Ann A.", "email": "ann@example.com"}
    store(running, identities, row | {"created_at": now, "updated_at": now})
    alias = {"id": new_id(), "identity_id": identity_id, "project_id": project, "platform_id": platform_id}
    alias |= {"platform": "sandbox", "provider_user_id": user_id, "link_method": "manual", "linked_at": now}
    store(running, identity_aliases, alias)
    return shown


def test_an_answer_of_a_person_is_listed_and_can_be_looked_at(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    send(running, project, platform_id, "reply:ann", "How are you?")
    answer = listed(running, project)
    [found] = answer["messages"]
    assert answer["pagination"] == {"total": 1, "limit": 50, "offset": 0, "hasMore": False}
    assert answer["next"] is None
    assert "rawData" not in found
    assert "reactions" not in found
    assert found["receivedAt"] == found["timestamp"]
    expected = {
        "platformId": platform_id,
        "projectId": project,
        "platform": "sandbox",
        "providerChatId": "reply:ann",
        "providerUserId": "reply:ann",
        "userDisplay": "reply:ann",
        "messageText": "You wrote: How are you?",
        "messageType": "text",
        "direction": "received",
        "attachments": [],
        "identity": None,
    }
    assert {name: found[name] for name in expected} == expected
    detail = ask(running, project, "GET", f"/messages/{found['id']}")
    assert {name: detail[name] for name in found} == found
    assert detail["rawData"]["content"]["text"] == "You wrote: How are you?"
    assert detail["reactions"] == {}
    assert detail["platformConfig"] == {
        "id": platform_id,
        "platform": "sandbox",
        "isActive": True,
        "testMode": False,
    }


def test_filters_narrow_together(running: Running, project: str) -> None:
    first, second = add_sandbox(running, project), add_sandbox(running, project)
    day, week = timedelta(days=1), timedelta(days=7)
    receive(
        running,
        message(project, first, "old", ago=week),
        message(project, first, "bob's", ago=day, provider_user_id="bob"),
        message(project, first, "elsewhere", provider_chat_id="chat-2"),
        message(project, second, "other account"),
        message(project, second, "by mail", platform="email"),
    )
    narrowed = {
        f"?platformId={first}": {"old", "bob's", "elsewhere"},
        "?platform=email": {"by mail"},
        "?chatId=chat-2": {"elsewhere"},
        "?userId=bob": {"bob's"},
        f"?platformId={second}&userId=ann&platform=sandbox": {"other account"},
        f"?startDate={iso(timedelta(days=2))}&endDate={iso(timedelta(hours=1))}": {"bob's"},
        f"?endDate={iso(timedelta(days=2))}": {"old"},
        "?startDate=9999-12-31T23:59:59Z": set(),
        "?endDate=0001-01-01": set(),
        "?startDate=0001-01-01&endDate=9999-12-31T23:59:59Z&chatId=chat-2": {"elsewhere"},
        f"?platformId={UNKNOWN}": set(),
        "?direction=received&userId=bob": {"bob's"},
    }
    for query, expected in narrowed.items():
        answer = listed(running, project, query)
        assert set(texts(answer)) == expected, query
        assert answer["pagination"]["total"] == len(expected), query


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_pages_by_the_last_id_and_by_offset_are_the_same(running: Running, project: str, order: str) -> None:
    platform_id = add_sandbox(running, project)
    receive(running, *(message(project, platform_id, str(n), ago=timedelta(minutes=9 - n)) for n in range(7)))
    expected = [str(n) for n in range(7)]
    if order == "desc":
        expected.reverse()
    by_id: list[str] = []
    by_offset: list[str] = []
    before = ""
    for page in range(3):
        answer = listed(running, project, f"?limit=3&order={order}{before}")
        by_id += texts(answer)
        assert (answer["next"] is not None) == answer["pagination"]["hasMore"] == (page < 2)
        before = f"&before={answer['next']}"
        at_offset = listed(running, project, f"?limit=3&order={order}&offset={3 * page}")
        by_offset += texts(at_offset)
        assert at_offset["pagination"] == {"total": 7, "limit": 3, "offset": 3 * page, "hasMore": page < 2}
    assert by_id == by_offset == expected


def test_attachments_identities_raw_data_and_reactions_come_with_their_messages(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    plain, rich = message(project, platform_id, "plain", provider_user_id="bob"), message(project, platform_id, "rich")
    receive(running, plain, rich)
    attach(running, rich, "a.png")
    attach(running, rich, "b.png")
    shown = know(running, project, platform_id, "ann")
    for who, emoji, kind in (
        ("ann", "👍", "added"), ("bob", "👍", "added"), ("cyd", "👍", "added"), ("cyd", "👍", "removed"),
        ("bob", "🎉", "added"), ("bob", "🎉", "removed"), ("bob", "🎉", "added"),
        ("dan", "👍", "added"), ("dan", "🎉", "added"), ("dan", "", "removed"), ("eve", "", "removed"),
    ):  # fmt: skip
        react(running, rich, who, emoji, kind)

    newest, oldest = listed(running, project, "?raw=true&reactions=true")["messages"]
    assert [found["filename"] for found in newest["attachments"]] == ["a.png", "b.png"]
    assert newest["attachments"][0]["messageId"] == rich["id"]
    assert (newest["attachments"][0]["size"], newest["attachments"][0]["mimeType"]) == (7, "image/png")
    assert (newest["rawData"], oldest["rawData"]) == ({"said": "rich"}, {"said": "plain"})
    assert (newest["identity"], oldest["identity"]) == (shown, None)
    ann, bob = ({"id": "ann", "name": "Ann", "identity": shown}, {"id": "bob", "name": "Bob", "identity": None})
    assert newest["reactions"] == {"👍": [ann, bob], "🎉": [bob]}
    assert (oldest["reactions"], oldest["attachments"]) == ({}, [])
    detail = ask(running, project, "GET", f"/messages/{rich['id']}")
    # Addresses of files are signed for a time, which is another one in the next second.
    for file in (*newest["attachments"], *detail["attachments"]):
        file["url"] = file["url"].partition("?")[0]
    assert {name: detail[name] for name in newest} == newest


def test_a_reaction_on_another_platforms_message_of_the_same_id_is_not_shown(running: Running, project: str) -> None:
    ours, theirs = (
        message(project, add_sandbox(running, project), text, provider_message_id="17") for text in ("a", "b")
    )
    receive(running, ours, theirs)
    react(running, theirs, "ann", "👍")
    found = listed(running, project, "?reactions=true")["messages"]
    assert {entry["messageText"]: list(entry["reactions"]) for entry in found} == {"a": [], "b": ["👍"]}


def test_what_was_received_and_sent_is_counted(running: Running, project: str) -> None:
    assert ask(running, project, "GET", "/messages/stats") == {
        "received": {
            "totalMessages": 0,
            "recentMessages": 0,
            "uniqueUsers": 0,
            "uniqueChats": 0,
            "byPlatform": [],
            "limited": False,
        },
        "sent": {"totalMessages": 0, "byPlatformAndStatus": []},
    }
    platform_id = add_sandbox(running, project)
    for target in ("bob", "cyd", "fail-permanent"):
        send(running, project, platform_id, target)
    receive(
        running,
        message(project, platform_id, "old", ago=timedelta(days=2)),
        message(project, platform_id, "new", provider_chat_id="chat-2"),
        message(project, platform_id, "bob's", provider_user_id="bob", platform="email"),
    )
    assert ask(running, project, "GET", "/messages/stats") == {
        "received": {
            "totalMessages": 3,
            "recentMessages": 2,
            "uniqueUsers": 2,
            "uniqueChats": 2,
            "byPlatform": [{"platform": "email", "count": 1}, {"platform": "sandbox", "count": 2}],
            "limited": False,
        },
        "sent": {
            "totalMessages": 3,
            "byPlatformAndStatus": [
                {"platform": "sandbox", "status": "failed", "count": 1},
                {"platform": "sandbox", "status": "sent", "count": 2},
            ],
        },
    }


def test_old_messages_are_deleted_with_all_that_hangs_on_them(running: Running, project: str) -> None:
    platform_id, other_project = add_sandbox(running, project), f"{project}-2"
    running.admin.ask("POST", "projects", {"id": other_project, "name": "P"})
    month, young = timedelta(days=31), timedelta(days=29)
    old, kept = message(project, platform_id, "old", ago=month), message(project, platform_id, "kept", ago=young)
    foreign = message(other_project, add_sandbox(running, other_project), "foreign", ago=month)
    # An id may be older than the moment of receiving, which is what counts.
    late = message(project, platform_id, "late", ago=month) | {"received_at": datetime.now(UTC)}
    receive(running, old, kept, foreign, late)
    many = (message(project, platform_id, "x", ago=month + timedelta(days=1)) for _ in range(2 * service.BATCH))
    receive(running, *many)
    for to in (old, kept):
        attach(running, to, "a.png")
        react(running, to, "ann", "👍")
    days = {"daysBefore": 30}
    done = ask(running, project, "DELETE", "/messages/cleanup", days)
    number = 2 * service.BATCH + 1
    assert done == {
        "message": f"Deleted {number} messages older than 30 days",
        "deletedCount": number,
        "remaining": False,
    }
    assert set(texts(listed(running, project))) == {"kept", "late"}
    assert texts(listed(running, other_project)) == ["foreign"]
    hangs_on = [row.message_id for row in stored(running, message_attachments)]
    assert kept["id"] in hangs_on
    assert old["id"] not in hangs_on
    reacted = [row.provider_message_id for row in stored(running, received_reactions)]
    assert kept["provider_message_id"] in reacted
    assert old["provider_message_id"] not in reacted
    recorded = stored(running, audit_logs, audit_logs.c.project_id == project)
    counts = [row.before["count"] for row in recorded if row.action == "received_messages.deleted"]
    assert sorted(counts) == [1, service.BATCH, service.BATCH]
    assert ask(running, project, "DELETE", "/messages/cleanup?daysBefore=30")["deletedCount"] == 0
    assert ask(running, project, "DELETE", "/messages/cleanup?daysBefore=0")["deletedCount"] == 2
    assert stored(running, received_messages, received_messages.c.project_id == project) == []


@pytest.mark.parametrize(
    ("query", "body", "pointer"),
    [
        ("", None, "/daysBefore"),
        ("", {}, "/daysBefore"),
        ("", {"daysBefore": -1}, "/daysBefore"),
        ("", {"daysBefore": "30"}, "/daysBefore"),
        ("", {"daysBefore": 10**9}, "/daysBefore"),
        ("", {"daysBefore": 30, "days": 1}, "/days"),
        ("?daysBefore=-1", None, "/query/daysBefore"),
        ("?daysBefore=soon", None, "/query/daysBefore"),
    ],
)
def test_a_cleanup_needs_a_number_of_days(running: Running, query: str, body: Any, pointer: str) -> None:
    refused = running.key.ask("DELETE", f"projects/shop/messages/cleanup{query}", body)
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)


def sign_in_as(running: Running, project: str, role: str) -> ApiClient:
    """Somebody with this role in a project."""
    [admin] = stored(running, users, users.c.email == "ann@example.com")
    stamps = {"created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
    email, user_id = f"{role}-{project}@example.com", new_id()
    row = {name: getattr(admin, name) for name in users.c.keys()} | {"id": user_id, "email": email} | stamps  # noqa: SIM118
    store(running, users, row)
    in_database(running, lambda it: it.execute(update(users).where(users.c.id == user_id).values(is_admin=False)))
    store(running, project_members, {"id": new_id(), "project_id": project, "user_id": user_id, "role": role} | stamps)
    token = running.nobody.ask("POST", "auth/login", {"email": email, "password": PASSWORD}).body["accessToken"]
    return running.nobody.as_user(token)


@pytest.mark.parametrize(
    ("role", "status"), [("viewer", 403), ("member", 403), ("admin", 200), ("owner", 200)]
)  # fmt: skip
def test_members_may_read_but_not_clean_up(running: Running, project: str, role: str, status: int) -> None:
    somebody = sign_in_as(running, project, role)
    assert somebody.ask("GET", f"projects/{project}/messages").status == 200
    assert somebody.ask("DELETE", f"projects/{project}/messages/cleanup?daysBefore=30").status == status


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/query/limit"),
        ("limit=101", "/query/limit"),
        ("offset=-1", "/query/offset"),
        ("order=up", "/query/order"),
        ("platformId=nonsense", "/query/platformId"),
        ("before=nonsense", "/query/before"),
        ("startDate=yesterday", "/query/startDate"),
        ("endDate=1", "/query/endDate"),
        ("raw=perhaps", "/query/raw"),
        ("chatId=", "/query/chatId"),
        ("userId=" + "x" * 256, "/query/userId"),
        ("direction=sent", "/query/direction"),
    ],
)
def test_a_wrong_parameter_is_named(running: Running, query: str, pointer: str) -> None:
    refused = running.key.ask("GET", f"projects/shop/messages?{query}")
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)


def test_what_a_parameter_must_be_is_told(running: Running) -> None:
    told = {
        "messages?order=up": "order must be one of asc, desc, not 'up' (`desc` is newest first)",
        "messages?before=zzz": "before must be a UUID, not 'zzz' (`next` of the page before)",
        "messages?limit=1000": "limit must be a whole number of at most 100, not '1000'",
        "messages?startDate=soon": "startDate must be an ISO 8601 time such as 2030-01-31T12:00:00Z, not 'soon'",
        f"messages?chatId={'x' * 256}": "chatId must have at most 255 characters",
        "usage?interval=week": "interval must be one of day, hour, not 'week' (What an entry is about, in UTC)",
        "audit?actorId=zzz": "actorId must be a UUID, not 'zzz' (Only by this user or key)",
        f"audit/export?format={'x' * 99}": f"format must be one of csv, ndjson, not '{'x' * 64}...' (An entry a line,",
        "platforms/x/logs?level=loud": "level must be one of debug, error, info, warn, not 'loud' (Only of this level)",
    }
    answers = {path: running.key.ask("GET", f"projects/shop/{path}") for path in told}
    for path, start in told.items():
        assert answers[path].body["detail"].startswith(start), answers[path]


def test_other_tenants_messages_look_like_none(running: Running) -> None:
    platform_id = running.add_sandbox()
    ours = message("shop", platform_id, "secret", ago=timedelta(days=99))
    receive(running, ours)
    theirs = running.make_key(*ALL_SCOPES, project="other")
    hidden = theirs.ask("GET", f"projects/other/messages/{ours['id']}")
    missing = theirs.ask("GET", f"projects/other/messages/{UNKNOWN}")
    nonsense = theirs.ask("GET", "projects/other/messages/nonsense")
    assert (hidden.status, missing.status, nonsense.status) == (404, 404, 404)
    assert hidden.body["message"].replace(ours["id"], UNKNOWN) == missing.body["message"]
    for query in ("", f"?platformId={platform_id}", "?chatId=chat-1", "?userId=ann"):
        assert theirs.ask("GET", f"projects/other/messages{query}").body["messages"] == []
    assert theirs.ask("DELETE", "projects/other/messages/cleanup?daysBefore=0").body["deletedCount"] == 0
    for method, path in (
        ("GET", ""),
        ("GET", f"/{ours['id']}"),
        ("GET", "/stats"),
        ("DELETE", "/cleanup?daysBefore=0"),
    ):
        assert theirs.ask(method, f"projects/shop/messages{path}").status == 404
    assert running.key.ask("GET", f"projects/shop/messages/{ours['id']}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "", "messages:read"),
        ("GET", "/stats", "messages:read"),
        ("GET", f"/{UNKNOWN}", "messages:read"),
        ("DELETE", "/cleanup?daysBefore=36500", "messages:write"),
    ],
)
def test_each_needs_its_scope(running: Running, method: str, path: str, scope: str) -> None:
    url = f"projects/shop/messages{path}"
    assert running.nobody.ask(method, url).status == 401
    lacking = running.make_key(*(other for other in ALL_SCOPES if other != scope)).ask(method, url)
    assert (lacking.status, scope in lacking.body["message"]) == (403, True)
    assert running.make_key(scope).ask(method, url).status == (404 if UNKNOWN in path else 200)


def test_the_other_paths_below_messages_are_still_there(running: Running, project: str) -> None:
    job = send(running, project, add_sandbox(running, project), "bob")
    assert ask(running, project, "GET", "/messages/sent")["pagination"]["total"] == 1
    assert ask(running, project, "GET", f"/messages/status/{job}")["id"] == job
    assert ask(running, project, "GET", "/messages/queue/metrics")["completed"] == 1
    assert running.admin.ask("POST", f"projects/{project}/messages/{job}/cancel").status in {200, 409}
    assert running.admin.ask("GET", f"projects/{project}/messages/batches/{UNKNOWN}").status == 404
