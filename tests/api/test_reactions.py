"""Reactions of the project's own, and setting up a platform's webhook: from a request to the platform."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api.conftest import Running
from api.inbound import HOOK_SECRET, newest, next_events, path_of, report
from servers.api_client import Reply

REACT, UNREACT = "projects/shop/messages/react", "projects/shop/messages/unreact"
THUMB = "\U0001f44d"


def receive(running: Running, platform_id: str, *, chat: str = "room") -> str:
    """The platform's id of a message that somebody wrote."""
    after, message_id = newest(running), f"m-{uuid4().hex}"
    said = report(chat=chat, id=message_id, text="Hello")
    assert running.nobody.ask("POST", path_of(running, platform_id), said).status == 200
    next_events(running, after, 1, types="message.received")
    return message_id


def inbox(running: Running, platform_id: str) -> list[dict[str, Any]]:
    """What arrived at a sandbox, oldest first."""
    found = running.key.ask("GET", f"projects/shop/platforms/{platform_id}/inbox").body["messages"]
    return [*reversed(found)]


def body(platform_id: str, message_id: str, emoji: str = THUMB) -> dict[str, Any]:
    return {"platformId": platform_id, "messageId": message_id, "emoji": emoji}


def test_a_reaction_to_what_was_received_goes_out_and_is_taken_back(running: Running) -> None:
    box = running.add_sandbox()
    message_id = receive(running, box)
    after = newest(running)
    asked = body(box, message_id)
    answers = [running.key.ask("POST", path, asked) for path in (REACT, UNREACT)]
    assert [answer.status for answer in answers] == [201, 201]
    for answer in answers:
        told = {name: answer.body[name] for name in ("success", "platformId", "messageId", "emoji", "status")}
        assert told == {"success": True, "status": "queued", **asked}
        assert answer.body["timestamp"].endswith("Z")
    events = next_events(running, after, 2)
    assert [(event["event"], event["data"]["action"]) for event in events] == [
        ("action.sent", "react"),
        ("action.sent", "unreact"),
    ]
    assert [event["data"]["job_id"] for event in events] == [answer.body["jobId"] for answer in answers]
    assert {(event["data"]["chat_id"], event["data"]["target"]["type"]) for event in events} == {("room", "group")}
    about = {"messageId": message_id, "emoji": THUMB, "fromMe": False}
    assert [entry["content"] for entry in inbox(running, box)] == [
        {"action": "react", **about},
        {"action": "unreact", **about},
    ]
    status = running.key.ask("GET", f"projects/shop/messages/status/{answers[0].body['jobId']}").body
    [delivery] = status["delivery"]["results"]
    assert (status["status"], delivery["action"], delivery["state"]) == ("completed", "react", "sent")
    [chat] = running.key.ask("GET", f"projects/shop/chats?platformId={box}").body["chats"]
    history = running.key.ask("GET", f"projects/shop/chats/{chat['id']}/messages").body["messages"]
    assert [entry["messageText"] for entry in history] == ["Hello"]


def test_a_reaction_waits_for_the_messages_before_it(running: Running) -> None:
    box, after = running.add_sandbox(), newest(running)
    target = {"platformId": box, "type": "channel", "id": "throttle-300ms:lane"}
    message = {"targets": [target], "content": {"text": "first"}}
    running.key.ask("POST", "projects/shop/messages/send", message)
    [sent] = next_events(running, after, 1)
    mine = sent["data"]["provider_message_id"]
    running.key.ask("POST", "projects/shop/messages/send", message | {"content": {"text": "second"}})
    assert running.key.ask("POST", REACT, body(box, mine)).status == 201
    assert [event["event"] for event in next_events(running, after, 3)] == [
        *("message.sent", "message.sent", "action.sent"),
    ]
    *_, second, reaction = inbox(running, box)
    assert (second["content"]["text"], reaction["content"]["fromMe"]) == ("second", True)
    assert reaction["target"] == {"type": "channel", "id": "throttle-300ms:lane"}


def test_one_that_fails_is_told_and_is_a_dead_letter(running: Running) -> None:
    box = running.add_sandbox()
    message_id, after = receive(running, box, chat="fail-permanent:r"), newest(running)
    job = running.key.ask("POST", REACT, body(box, message_id)).body["jobId"]
    [event] = next_events(running, after, 1)
    assert (event["event"], event["data"]["job_id"], event["data"]["error_code"]) == (
        *("action.failed", job),
        "sandbox_refused",
    )
    letters = running.key.ask("GET", f"projects/shop/dead-letters?jobId={job}").body["deadLetters"]
    assert len(letters) == 1


def test_who_may_not_and_what_cannot_be(running: Running) -> None:
    box = running.add_sandbox()
    message_id = receive(running, box)
    mail = {"smtpHost": "smtp.example.com", "smtpPort": 587, "fromEmail": "a@example.com"}
    made = running.key.ask("POST", "projects/shop/platforms", {"platform": "email", "name": "m", "credentials": mail})
    assert made.status == 201, made
    theirs = running.make_key("messages:write", project="other")
    reader = running.make_key("messages:read")

    def answer(reply: Reply) -> tuple[int, str]:
        return reply.status, str(reply.body["message"])

    for status, part, reply in (
        (400, "reactions", running.key.ask("POST", REACT, body(made.body["id"], message_id))),
        (400, "emoji", running.key.ask("POST", REACT, body(box, message_id, ""))),
        (400, "emoji", running.key.ask("POST", REACT, body(box, message_id, "x" * 101))),
        (404, "providerMessageId", running.key.ask("POST", UNREACT, body(box, "no-such-message"))),
        (404, "Platform", running.key.ask("POST", REACT, body(str(uuid4()), message_id))),
        (404, "Platform", theirs.ask("POST", "projects/other/messages/react", body(box, message_id))),
        (403, "messages:write", reader.ask("POST", REACT, body(box, message_id))),
    ):
        found = answer(reply)
        assert (found[0], part in found[1]) == (status, True), found
    running.key.ask("PATCH", f"projects/shop/platforms/{box}", {"isActive": False})
    assert answer(running.key.ask("POST", REACT, body(box, message_id)))[0] == 400
    assert inbox(running, box) == []


@pytest.mark.parametrize("platform", ["sandbox", "webhook"])
def test_registering_a_webhook(running: Running, platform: str) -> None:
    credentials = {"url": "https://example.com/hook", "secret": HOOK_SECRET} if platform == "webhook" else {}
    asked = {"platform": platform, "name": "p", "credentials": credentials}
    made = running.key.ask("POST", "projects/shop/platforms", asked).body
    path = f"projects/shop/platforms/{made['id']}/register-webhook"
    reply = running.key.ask("POST", path)
    if platform == "webhook":
        assert (reply.status, reply.body["message"]) == (400, "Registering a webhook is not supported by webhook")
        return
    assert (reply.status, reply.body["webhookUrl"]) == (201, made["webhookUrl"])
    assert "/api/v1/webhooks/sandbox/" in reply.body["webhookUrl"]
    running.key.ask("PATCH", f"projects/shop/platforms/{made['id']}", {"isActive": False})
    assert running.key.ask("POST", path).status == 400
    assert running.key.ask("POST", path.replace(made["id"], str(uuid4()))).status == 404
