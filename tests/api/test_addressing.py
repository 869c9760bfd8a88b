"""Sending to an identity, and to a chat by our id."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api.conftest import Running
from api.inbound import message as received
from api.inbound import receive
from api.test_email_inbound import finished
from api.test_fast_send import both
from api.test_opt_outs import outcomes, say
from api.test_receiving import newest, next_events
from msgcore.core.ids import new_id
from servers.api_client import Reply

SEND = "projects/shop/messages/send"


def identity(running: Running, *accounts: tuple[str, str], **fields: Any) -> str:
    """An identity with these accounts (platform, user), the newest last."""
    aliases = [{"platformId": box, "providerUserId": user} for box, user in accounts]
    made = running.key.ask("POST", "projects/shop/identities", {"aliases": aliases, **fields})
    assert made.status == 201, made
    return str(made.body["id"])


def body(*targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"targets": list(targets), "content": {"text": "hi"}, **more}


def to(identity_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "identity", "id": identity_id, **more}


def reached(running: Running, sent: Reply) -> list[tuple[str, str, str]]:
    """The platform, the type and the id of each target of an accepted message."""
    assert sent.status == 201, sent
    results = finished(running, sent.body["jobId"])["delivery"]["results"]
    return [(each["platformId"], each["targetType"], each["targetChatId"]) for each in results]


def send(running: Running, *targets: dict[str, Any]) -> Reply:
    """On the short way and on the long one, which must not differ."""
    return both(running.key, body(*targets))


@pytest.fixture
def boxes(running: Running) -> list[str]:
    return [running.add_sandbox(f"box {number}") for number in range(3)]


@pytest.fixture
def user() -> str:
    return f"ann-{time.monotonic_ns()}"


def test_the_preferred_platform_else_the_last_used_else_the_newest(
    running: Running, boxes: list[str], user: str
) -> None:
    ann = identity(running, *((box, user) for box in boxes))
    path = f"projects/shop/identities/{ann}"
    assert reached(running, send(running, to(ann.upper()))) == [(boxes[2], "user", user)]
    receive(running, received("shop", boxes[1], "hi", provider_user_id=user))
    receive(running, received("shop", boxes[0], "hi", provider_user_id="somebody else"))
    assert reached(running, send(running, to(ann))) == [(boxes[1], "user", user)]
    changed = running.key.ask("PATCH", path, {"preferredPlatformId": boxes[0].upper()})
    assert changed.body["preferredPlatformId"] == boxes[0]
    assert reached(running, send(running, to(ann))) == [(boxes[0], "user", user)]
    assert reached(running, send(running, to(ann, platformId=boxes[2]))) == [(boxes[2], "user", user)]
    twice = send(running, to(ann), {"platformId": boxes[0], "type": "user", "id": user})
    assert (twice.status, twice.body["errors"][0]["pointer"]) == (400, "/targets/1")

    # What is preferred and cannot be reached is passed over.
    for box, expected in ((boxes[0], boxes[1]), (boxes[1], boxes[2])):
        opted = running.key.ask("POST", "projects/shop/opt-outs", {"platformId": box, "providerUserId": user})
        assert opted.status == 201
        assert reached(running, send(running, to(ann))) == [(expected, "user", user)]
    switched = running.key.ask("PATCH", f"projects/shop/platforms/{boxes[2]}", {"isActive": False})
    assert switched.status == 200
    refused = send(running, to(ann))
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, "/targets/0/id")
    assert "of its accounts (3) 2 opted out and 1 are on a platform that is switched off" in refused.body["detail"]
    assert running.key.ask("PATCH", path, {"preferredPlatformId": None}).body["preferredPlatformId"] is None


def test_who_cannot_be_reached(running: Running, boxes: list[str]) -> None:
    other = running.admin.ask("POST", "projects/other/identities", {"displayName": "Eve"}).body["id"]
    nobody = identity(running)
    refused = send(running, to(other), to(nobody), to("ann"), to(new_id()), {"type": "user", "id": "ann"})
    assert refused.status == 400
    errors = {error["pointer"]: error["message"] for error in refused.body["errors"]}
    assert list(errors) == [
        *("/targets/0/id", "/targets/1/id", "/targets/2/id", "/targets/3/id", "/targets/4/platformId"),
    ]
    assert all("is not an identity of this project" in errors[f"/targets/{number}/id"] for number in (0, 2, 3))
    assert "has no account on a platform" in errors["/targets/1/id"]
    assert "is required" in errors["/targets/4/platformId"]
    theirs = running.make_key("identities:write", project="other")
    refused = theirs.ask("PATCH", f"projects/other/identities/{other}", {"preferredPlatformId": boxes[0]})
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, "/preferredPlatformId")


def test_a_batch_and_a_repeated_request(running: Running, boxes: list[str], user: str) -> None:
    people = [identity(running, (boxes[0], f"{user}-{number}")) for number in range(3)]
    messages = [body(to(each)) for each in people]
    batch = running.key.ask("POST", "projects/shop/messages/batch", messages)
    assert batch.status == 201, batch
    jobs = [finished(running, job)["delivery"]["results"][0]["targetChatId"] for job in batch.body["jobIds"]]
    assert jobs == [f"{user}-{number}" for number in range(3)]
    wrong = running.key.ask("POST", "projects/shop/messages/batch", [*messages, body(to(new_id()))])
    assert wrong.body["errors"][0]["pointer"] == "/messages/3/targets/0/id"

    first = running.key.ask("POST", SEND, messages[0], Idempotency_Key=user)
    assert running.key.ask("DELETE", f"projects/shop/identities/{people[0]}").status == 200
    again = running.key.ask("POST", SEND, messages[0], Idempotency_Key=user)
    assert (again.body["jobId"], again.body["replayed"]) == (first.body["jobId"], True)
    assert again.body["targets"] == [to(people[0])]


def test_a_chat_by_our_id(running: Running, boxes: list[str], user: str) -> None:
    after = newest(running)
    say(running, boxes[0], user, "hi", chat={"id": f"room-{user}", "type": "group"})
    say(running, boxes[0], user, "hi")
    next_events(running, after, 2, types="message.received")
    chats = running.key.ask("GET", f"projects/shop/chats?platformId={boxes[0]}").body["chats"]
    ours = {chat["chatType"]: chat["id"] for chat in chats}
    targets = [{"type": "chat", "id": ours["group"]}, {"type": "chat", "id": ours["user"], "platformId": boxes[0]}]
    assert reached(running, send(running, *targets)) == [
        (boxes[0], "group", f"room-{user}"),
        (boxes[0], "chat", f"dm-{user}"),
    ]
    elsewhere = {"type": "chat", "id": ours["group"], "platformId": boxes[1]}  # the platform's own id, then
    assert reached(running, send(running, elsewhere)) == [(boxes[1], "chat", ours["group"])]
    unknown = send(running, {"type": "chat", "id": new_id()})
    assert (unknown.status, unknown.body["errors"][0]["pointer"]) == (400, "/targets/0/platformId")
    say(running, boxes[0], user, "stop")
    next_events(running, after, 1, types="contact.opted_out")
    assert outcomes(running, running.key.ask("POST", SEND, body(targets[1]))) == [("failed", "recipient_opted_out")]
