"""Pausing and resuming platforms and projects: what waits, what goes on, and what is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from api.conftest import ALL_SCOPES, Running
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE


@pytest.fixture
def project(running: Running) -> str:
    """A project of its own, so that counts start at zero."""
    project_id = f"p{time.monotonic_ns()}"
    made = running.admin.ask("POST", "projects", {"id": project_id, "name": "P"})
    assert (made.status, made.body["paused"]) == (201, False)
    return project_id


def ask(running: Running, project: str, method: str, path: str, body: Any = None) -> Any:
    reply = running.admin.ask(method, f"projects/{project}{path}", body)
    assert reply.status in {200, 201}, reply
    return reply.body


def add_sandbox(running: Running, project: str) -> str:
    made = ask(running, project, "POST", "/platforms", {"platform": "sandbox", "name": "b", "credentials": {}})
    return str(made["id"])


def send(running: Running, project: str, platform_id: str, *to: str) -> str:
    targets = [{"platformId": platform_id, "type": "user", "id": target} for target in to]
    body = {"targets": targets, "content": {"text": "hi"}}
    return str(ask(running, project, "POST", "/messages/send", body)["jobId"])


def counts(running: Running, project: str) -> dict[str, int]:
    return {word: n for word, n in ask(running, project, "GET", "/messages/queue/metrics").items() if n}


def wait_until(is_so: Callable[[], bool], show: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, show()
        time.sleep(0.02)


def wait_for(running: Running, project: str, **expected: int) -> None:
    wait_until(lambda: counts(running, project) == expected, lambda: counts(running, project))


def pause_of(running: Running, project: str, platform_id: str) -> tuple[Any, ...]:
    shown = ask(running, project, "GET", f"/platforms/{platform_id}")
    assert (shown["pausedAt"] is not None) == shown["paused"]
    return shown["paused"], shown["pausedBy"], shown["pausedReason"]


def messages_logged(running: Running, project: str, platform_id: str) -> list[str]:
    logged = ask(running, project, "GET", f"/platforms/{platform_id}/logs")["logs"]
    return [entry["message"] for entry in reversed(logged)]


def test_a_paused_platform_takes_messages_and_sends_them_when_resumed(running: Running, project: str) -> None:
    platform_id, other = add_sandbox(running, project), add_sandbox(running, project)
    paused = ask(running, project, "POST", f"/platforms/{platform_id}/pause", {"reason": "moving house"})
    assert (paused["paused"], paused["pausedBy"], paused["pausedReason"]) == (True, "user", "moving house")
    send(running, project, platform_id, "ann", "bob")
    send(running, project, other, "ann")
    wait_for(running, project, completed=1, paused=2, total=2)
    again = ask(running, project, "POST", f"/platforms/{platform_id}/pause")
    assert again["pausedReason"] == "moving house", "a repeated request changes nothing"

    resumed = ask(running, project, "POST", f"/platforms/{platform_id}/resume")
    assert (resumed["paused"], resumed["pausedAt"], resumed["pausedBy"]) == (False, None, None)
    wait_for(running, project, completed=3)
    assert ask(running, project, "POST", f"/platforms/{platform_id}/resume")["paused"] is False
    assert messages_logged(running, project, platform_id) == ["Paused on request: moving house", "Resumed"]


def test_a_paused_project_holds_all_its_platforms_and_later_ones(running: Running, project: str) -> None:
    first = add_sandbox(running, project)
    paused = ask(running, project, "POST", "/pause", {"reason": "holidays"})
    assert (paused["paused"], paused["pausedReason"], bool(paused["pausedAt"])) == (True, "holidays", True)
    second = add_sandbox(running, project)
    for platform_id in (first, second):
        assert pause_of(running, project, platform_id) == (True, "project", "holidays")
        send(running, project, platform_id, "ann")
    outside = running.add_sandbox("outside")
    send(running, "shop", outside, "ann")
    wait_until(
        lambda: len(running.key.ask("GET", f"projects/shop/platforms/{outside}/inbox").body["messages"]) == 1,
        lambda: "another project waits too",
    )
    assert counts(running, project) == {"paused": 2, "total": 2}

    ask(running, project, "POST", f"/platforms/{second}/pause", {"reason": "mine"})
    resumed = ask(running, project, "POST", "/resume")
    assert (resumed["paused"], resumed["pausedReason"]) == (False, None)
    wait_for(running, project, completed=1, paused=1, total=1)
    assert pause_of(running, project, second) == (True, "user", "mine")
    ask(running, project, "POST", f"/platforms/{second}/resume")
    wait_for(running, project, completed=2)
    assert messages_logged(running, project, first) == ["Paused with its project: holidays", "Resumed with its project"]


def test_correct_credentials_end_only_the_pause_that_refused_ones_began(running: Running, project: str) -> None:
    platform_id = add_sandbox(running, project)
    url = f"/platforms/{platform_id}"
    send(running, project, platform_id, "auth-failure")
    wait_until(
        lambda: pause_of(running, project, platform_id)[:2] == (True, "credentials"),
        lambda: pause_of(running, project, platform_id),
    )
    ask(running, project, "POST", f"{url}/pause", {"reason": "wait for the new token"})
    ask(running, project, "PATCH", url, {"credentials": {}, "isActive": True})
    assert pause_of(running, project, platform_id) == (True, "user", "wait for the new token")

    ask(running, project, "POST", f"{url}/resume")  # the recipient refuses the credentials again
    wait_until(
        lambda: pause_of(running, project, platform_id)[1] == "credentials",
        lambda: pause_of(running, project, platform_id),
    )
    ask(running, project, "PATCH", url, {"name": "new"})
    assert pause_of(running, project, platform_id)[1] == "credentials"
    ask(running, project, "PATCH", url, {"credentials": {}})
    wait_until(
        lambda: len(messages_logged(running, project, platform_id)) == 6,
        lambda: messages_logged(running, project, platform_id),
    )
    told = [message.partition(":")[0] for message in messages_logged(running, project, platform_id)]
    refused = "Paused"
    assert told == [refused, "Paused on request", "Resumed", refused, "Resumed", refused]


@pytest.mark.parametrize(
    ("path", "scope"),
    [("platforms/{id}/pause", "platforms:write"), ("platforms/{id}/resume", "platforms:write"),
     ("pause", "projects:write"), ("resume", "projects:write")],
)  # fmt: skip
def test_only_those_who_may_change_it_may_pause_it(running: Running, path: str, scope: str) -> None:
    platform_id = running.add_sandbox()
    url = f"projects/shop/{path.format(id=platform_id)}"

    def status(client: ApiClient, where: str = url) -> int:
        return client.ask("POST", where).status

    assert status(running.nobody) == 401
    without = running.make_key(*(other for other in ALL_SCOPES if other != scope))
    refused = without.ask("POST", url)
    assert (refused.status, scope in refused.body["message"]) == (403, True)
    theirs = running.make_key(*ALL_SCOPES, project="other")
    assert status(theirs) == 404
    if "{id}" in path:
        foreign = theirs.ask("POST", f"projects/other/{path.format(id=platform_id)}")
        missing_id = "0" * 35 + "1"
        missing = theirs.ask("POST", f"projects/other/{path.format(id=missing_id)}")
        assert (foreign.status, missing.status) == (404, 404)
        assert foreign.body["message"].replace(platform_id, missing_id) == missing.body["message"]
    assert not running.key.ask("GET", f"projects/shop/platforms/{platform_id}").body["paused"]
    assert status(running.make_key(scope), url) == 200
    assert status(running.admin, url.replace("pause", "resume")) == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reason": ""}, "/reason"),
        ({"reason": "x" * 501}, "/reason"),
        ({"why": "x"}, "/why"),
        ({"reason": 1}, "/reason"),
    ],
)
def test_a_bad_reason_is_refused_and_pauses_nothing(running: Running, body: Any, pointer: str) -> None:
    platform_id = running.add_sandbox()
    for url in (f"projects/shop/platforms/{platform_id}/pause", "projects/shop/pause"):
        refused: Reply = running.key.ask("POST", url, body)
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)
    assert not running.key.ask("GET", f"projects/shop/platforms/{platform_id}").body["paused"]


def test_a_pause_outlives_a_restart(running: Running, project: str) -> None:
    held, project_held = add_sandbox(running, project), f"{project}-2"
    running.admin.ask("POST", "projects", {"id": project_held, "name": "P"})
    of_project = add_sandbox(running, project_held)
    ask(running, project, "POST", f"/platforms/{held}/pause")
    ask(running, project_held, "POST", "/pause")
    running.gateway.kill()
    running.gateway.start()
    free = add_sandbox(running, project)
    for where, platform_id in ((project, held), (project_held, of_project), (project, free)):
        send(running, where, platform_id, "ann")
    wait_for(running, project, completed=1, paused=1, total=1)
    assert counts(running, project_held) == {"paused": 1, "total": 1}
    ask(running, project_held, "POST", "/resume")
    wait_for(running, project_held, completed=1)
