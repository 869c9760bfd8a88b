"""Webhooks for events: made, shown, changed, given new secrets and deleted; what is refused; who may."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.conftest import ALL_SCOPES, Running
from msgcore.core.events import EventType
from servers.api_client import ApiClient, Reply

NOBODYS_ID = "0" * 35 + "1"
WEBHOOKS = "projects/shop/webhooks"
HOOK: dict[str, Any] = {"name": "hook", "url": "https://example.com/hook?x=1", "events": ["message.sent"]}
GIVEN = "whsec_" + base64.b64encode(b"planted-secret-of-a-customer").decode()
MASKED = "*****"

ORIGINAL = {
    "id": str, "projectId": str, "name": str, "url": str, "events": list, "secret": str, "isActive": bool,
    "createdAt": str, "updatedAt": str,
}  # fmt: skip
"""Fields that clients of the original know, in every answer that shows a webhook."""

STATS = {"total": 0, "successful": 0, "failed": 0, "pending": 0, "successRate": "0.00%"}


@pytest.fixture(autouse=True)
def none_left(running: Running) -> Iterator[None]:
    """A project has room for so many only."""
    yield
    for webhook in running.key.ask("GET", WEBHOOKS).body:
        assert running.key.ask("DELETE", f"{WEBHOOKS}/{webhook['id']}").status == 200


def create(running: Running, **more: Any) -> dict[str, Any]:
    made = running.key.ask("POST", WEBHOOKS, HOOK | more)
    assert made.status == 201, made
    body: dict[str, Any] = made.body
    return body


def shown(running: Running, webhook_id: str) -> dict[str, Any]:
    found = running.key.ask("GET", f"{WEBHOOKS}/{webhook_id}")
    assert found.status == 200, found
    body: dict[str, Any] = found.body
    return body


def change(running: Running, webhook_id: str, **changes: Any) -> Reply:
    return running.key.ask("PATCH", f"{WEBHOOKS}/{webhook_id}", changes)


def pointers(reply: Reply) -> list[str]:
    assert reply.status == 400, reply
    assert all(error["message"] for error in reply.body["errors"])
    return [error["pointer"] for error in reply.body["errors"]]


def of_original(answer: dict[str, Any]) -> dict[str, type]:
    return {name: type(answer[name]) for name in ORIGINAL}


def test_a_webhook_from_beginning_to_end_in_the_original_shapes(running: Running) -> None:
    made = create(running)
    assert of_original(made) == ORIGINAL
    assert isinstance(made["message"], str)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made["secret"])
    expected = HOOK | {"id": made["id"], "projectId": "shop", "isActive": True, "isOrdered": False}
    expected |= {"failingSince": None, "disabledReason": None, "previousSecretUntil": None}
    assert {name: made[name] for name in expected} == expected

    listed = running.key.ask("GET", WEBHOOKS)
    assert listed.status == 200
    assert listed.body[0] == {name: value for name, value in made.items() if name != "message"} | {"secret": MASKED}
    assert shown(running, made["id"]) == listed.body[0] | {"stats": STATS}

    wanted = {"name": "new", "url": "http://example.org/", "events": ["*"], "isActive": False, "isOrdered": True}
    changed = change(running, made["id"], **wanted)
    assert (changed.status, of_original(changed.body)) == (200, ORIGINAL)
    assert {name: changed.body[name] for name in wanted} == wanted
    assert changed.body["secret"] == MASKED
    assert changed.body["updatedAt"] > made["updatedAt"]
    assert change(running, made["id"], name="newer").body == changed.body | {
        "name": "newer",
        "updatedAt": shown(running, made["id"])["updatedAt"],
    }

    gone = running.key.ask("DELETE", f"{WEBHOOKS}/{made['id'].upper()}")
    assert (gone.status, gone.body) == (200, {"message": "Webhook deleted successfully", "id": made["id"]})
    assert running.key.ask("DELETE", f"{WEBHOOKS}/{made['id']}").status == 404
    assert made["id"] not in [webhook["id"] for webhook in running.key.ask("GET", WEBHOOKS).body]


def test_the_newest_is_listed_first(running: Running) -> None:
    made = [create(running, name=name)["id"] for name in ("a", "b", "c")]
    assert [webhook["id"] for webhook in running.key.ask("GET", WEBHOOKS).body[:3]] == made[::-1]


def test_every_known_event_can_be_subscribed_to(running: Running) -> None:
    assert create(running, events=list(EventType))["events"] == [*EventType]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://example.com:8443/a/b?token=x%20y",
        "https://my_service.internal/",
        "https://bücher.example/hook",
        "http://127.0.0.1:7000/hook",  # which the operator of this gateway allows
        "http://localhost:7000/hook",
        "http://93.184.216.34/hook",
        "http://[2606:2800:220:1::1]:8080/",
        "https://example.com/" + "x" * 2028,
    ],
)
def test_addresses_that_are_taken(running: Running, url: str) -> None:
    assert create(running, url=url)["url"] == url


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("", "1 to 2048 characters"),
        ("https://example.com/" + "x" * 2029, "1 to 2048 characters"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("example.com/hook", "https://"),
        ("https:///hook", "host"),
        ("https://ann:pw@example.com/", "user name or password"),
        ("https://ann@example.com/", "user name or password"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://exa mple.com/", "spaces"),
        ("https://example.com/\n", "spaces"),
        ("https://example.com\\@evil.example/", "backslashes"),
        ("https://example.com:99999/", "malformed"),
        ("https://example.com:25/", "port 25"),
        ("https://exam%70le.com/", "malformed host"),
        ("https://a..example/", "host"),
        ("https://-a.example/", "malformed host"),
        (f"https://{'a' * 64}.example/", "host"),
        (f"https://{'a.' * 130}example/", "malformed host"),
        ("http://10.0.0.1/", "MSGCORE_EGRESS_ALLOW"),
        ("http://169.254.169.254/latest/meta-data", "MSGCORE_EGRESS_ALLOW"),
        ("http://192.168.1.1./", "MSGCORE_EGRESS_ALLOW"),
        ("http://１０.0.0.1/", "MSGCORE_EGRESS_ALLOW"),
        ("http://[::1]/", "MSGCORE_EGRESS_ALLOW"),
        ("http://[fe80::1%25eth0]/", "MSGCORE_EGRESS_ALLOW"),
        ("http://[::ffff:10.0.0.1]/", "MSGCORE_EGRESS_ALLOW"),
        ("http://2130706433/", "four decimal numbers"),
        ("http://0x7f.1/", "four decimal numbers"),
        ("http://10.0.1/", "four decimal numbers"),
        ("http://010.0.0.1/", "four decimal numbers"),
        ("http://[::1/", "malformed"),
    ],
)
def test_addresses_that_are_refused(running: Running, url: str, remedy: str) -> None:
    refused = running.key.ask("POST", WEBHOOKS, HOOK | {"url": url})
    assert pointers(refused) == ["/url"]
    assert remedy in refused.body["message"][0]
    made = create(running)
    assert pointers(change(running, made["id"], url=url)) == ["/url"]
    assert shown(running, made["id"])["url"] == HOOK["url"]


def test_every_mistake_is_named_at_once(running: Running) -> None:
    wrong = {"name": "", "url": 5, "events": [], "secret": "short", "colour": "red"}
    refused = running.key.ask("POST", WEBHOOKS, wrong)
    assert sorted(pointers(refused)) == ["/colour", "/events", "/name", "/secret", "/url"]
    refused = running.key.ask("POST", WEBHOOKS, {})
    assert sorted(pointers(refused)) == ["/events", "/name", "/url"]
    refused = running.key.ask(
        "POST", WEBHOOKS, HOOK | {"url": "ftp://x/", "events": ["x"], "secret": "whsec_" + "x" * 20}
    )
    assert pointers(refused) == ["/url", "/events/0", "/secret"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x" * 101}, "/name"),
        ({"name": None}, "/name"),
        ({"name": "a\0b"}, "/name"),
        ({"events": "message.sent"}, "/events"),
        ({"events": ["message.sent"] * 101}, "/events"),
        ({"events": ["message.sent", "message.lost"]}, "/events/1"),
        ({"events": ["MESSAGE.SENT"]}, "/events/0"),
        ({"events": ["message.sent", "button.clicked", "message.sent"]}, "/events/2"),
        ({"events": ["message.sent", "*"]}, "/events/1"),
        ({"events": [5]}, "/events/0"),
        ({"isOrdered": 1}, "/isOrdered"),
    ],
)
def test_wrong_fields_are_refused_and_change_nothing(running: Running, body: dict[str, Any], pointer: str) -> None:
    assert pointers(running.key.ask("POST", WEBHOOKS, HOOK | body)) == [pointer]
    made = create(running)
    assert pointers(change(running, made["id"], **body)) == [pointer]
    assert shown(running, made["id"])["updatedAt"] == made["updatedAt"]


@pytest.mark.parametrize("field", ["secret", "failingSince", "disabledReason", "id", "projectId"])
def test_what_cannot_be_changed_is_refused(running: Running, field: str) -> None:
    made = create(running)
    assert pointers(change(running, made["id"], **{field: GIVEN})) == [f"/{field}"]


@pytest.mark.parametrize("secret", [GIVEN, GIVEN.rstrip("="), "sixteen letters!", "grüße" * 10, "s3" * 64])
def test_secrets_of_ones_own(running: Running, secret: str) -> None:
    made = create(running, secret=secret)
    assert made["secret"] == secret
    changed = change(running, made["id"], name="n", isActive=False)
    assert secret not in str(changed.body) + str(shown(running, made["id"])) + str(
        running.key.ask("GET", WEBHOOKS).body
    )


@pytest.mark.parametrize(
    "secret",
    [
        "fifteen letters",
        "x" * 129,
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_this is no base64, is it",
        5,
    ],
)
def test_secrets_that_are_refused_are_not_repeated(running: Running, secret: Any) -> None:
    made = create(running)
    rotate = f"{WEBHOOKS}/{made['id']}/rotate-secret"
    for refused in (
        running.key.ask("POST", WEBHOOKS, HOOK | {"secret": secret}),
        running.key.ask("POST", rotate, {"secret": secret}),
    ):
        assert pointers(refused) == ["/secret"]
        assert isinstance(secret, int) or secret not in str(refused.body)


def overlap_of(answer: dict[str, Any]) -> float | None:
    """Hours between the change and the end of the old secret."""
    if answer["previousSecretUntil"] is None:
        return None
    changed, until = (
        time.mktime(time.strptime(answer[name][:19], "%Y-%m-%dT%H:%M:%S"))
        for name in ("updatedAt", "previousSecretUntil")
    )
    return (until - changed) / 3600


@pytest.mark.parametrize(
    ("body", "hours"),
    [(None, 24), ({}, 24), ({"overlapHours": 0}, None), ({"overlapHours": 1}, 1), ({"overlapHours": 168}, 168)],
)
def test_a_new_secret_is_shown_once_and_the_old_one_stays_for_a_while(
    running: Running, body: dict[str, Any] | None, hours: float | None
) -> None:
    made = create(running)
    rotated = running.key.ask("POST", f"{WEBHOOKS}/{made['id']}/rotate-secret", body)
    assert (rotated.status, overlap_of(rotated.body)) == (200, hours)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", rotated.body["secret"])
    assert rotated.body["secret"] != made["secret"]
    later = shown(running, made["id"])
    assert (later["secret"], later["previousSecretUntil"]) == (MASKED, rotated.body["previousSecretUntil"])
    for secret in (made["secret"], rotated.body["secret"]):
        assert secret not in str(later) + str(running.key.ask("GET", WEBHOOKS).body)


def test_rotating_to_a_given_secret(running: Running) -> None:
    made = create(running)
    rotate = f"{WEBHOOKS}/{made['id']}/rotate-secret"
    rotated = running.key.ask("POST", rotate, {"secret": GIVEN})
    assert (rotated.status, rotated.body["secret"]) == (200, GIVEN)
    again = running.key.ask(
        "POST", rotate, {"secret": GIVEN}
    )  # it would push out the one that receivers may still have
    assert pointers(again) == ["/secret"]
    assert GIVEN not in str(again.body)
    assert shown(running, made["id"])["previousSecretUntil"] == rotated.body["previousSecretUntil"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"overlapHours": -1}, "/overlapHours"), ({"overlapHours": 169}, "/overlapHours"),
     ({"overlapHours": 1.5}, "/overlapHours"), ({"overlapHours": None}, "/overlapHours"), ({"hours": 1}, "/hours")],
)  # fmt: skip
def test_a_wrong_overlap_changes_nothing(running: Running, body: dict[str, Any], pointer: str) -> None:
    made = create(running)
    assert pointers(running.key.ask("POST", f"{WEBHOOKS}/{made['id']}/rotate-secret", body)) == [pointer]
    assert shown(running, made["id"])["updatedAt"] == made["updatedAt"]


def test_a_project_has_at_most_a_hundred_also_when_asked_at_once(running: Running) -> None:
    project = f"p{time.monotonic_ns()}"
    assert running.admin.ask("POST", "projects", {"id": project, "name": "P"}).status == 201
    url = f"projects/{project}/webhooks"
    for _ in range(98):
        assert running.admin.ask("POST", url, HOOK).status == 201
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: running.admin.ask("POST", url, HOOK), range(6)))
    assert sorted(reply.status for reply in replies) == [201, 201, 400, 400, 400, 400]
    refused = next(reply for reply in replies if reply.status == 400)
    assert "at most 100 webhooks" in str(refused.body["message"])
    listed = running.admin.ask("GET", url).body
    assert len(listed) == 100
    assert running.admin.ask("DELETE", f"{url}/{listed[0]['id']}").status == 200
    assert running.admin.ask("POST", url, HOOK).status == 201


CALLS: list[tuple[str, str, Any, str]] = [
    ("GET", "", None, "webhooks:read"),
    ("GET", "/{id}", None, "webhooks:read"),
    ("POST", "", HOOK, "webhooks:write"),
    ("PATCH", "/{id}", {"name": "mine"}, "webhooks:write"),
    ("POST", "/{id}/rotate-secret", {}, "webhooks:write"),
    ("DELETE", "/{id}", None, "webhooks:write"),
]


@pytest.mark.parametrize(("method", "path", "body", "scope"), CALLS)
def test_only_those_who_may(running: Running, method: str, path: str, body: Any, scope: str) -> None:
    made = create(running)
    url = WEBHOOKS + path.format(id=made["id"])
    assert running.nobody.ask(method, url, body).status == 401
    refused = running.make_key(*(other for other in ALL_SCOPES if other != scope)).ask(method, url, body)
    assert (refused.status, scope in refused.body["message"]) == (403, True)
    assert shown(running, made["id"])["updatedAt"] == made["updatedAt"]
    assert running.make_key(scope).ask(method, url, body).status == (201 if (method, path) == ("POST", "") else 200)


@pytest.mark.parametrize(("method", "path", "body"), [call[:3] for call in CALLS if "{id}" in call[1]])
def test_another_projects_webhook_looks_like_none(running: Running, method: str, path: str, body: Any) -> None:
    made = create(running)
    theirs: ApiClient = running.make_key(*ALL_SCOPES, project="other")

    def ask(project: str, webhook_id: str) -> Reply:
        return theirs.ask(method, f"projects/{project}/webhooks{path.format(id=webhook_id)}", body)

    foreign, missing, malformed = ask("other", made["id"]), ask("other", NOBODYS_ID), ask("other", "x")
    assert (foreign.status, missing.status, malformed.status) == (404, 404, 404)
    assert foreign.body["message"].replace(made["id"], NOBODYS_ID) == missing.body["message"]
    assert ask("shop", made["id"]).status == 404
    assert theirs.ask("GET", "projects/other/webhooks").body == []
    assert shown(running, made["id"])["updatedAt"] == made["updatedAt"]
