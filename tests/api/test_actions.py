"""What a project does to messages and chats, and setting up a platform's webhook: from a request to the platform."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest

from api.conftest import Running
from api.inbound import HOOK_SECRET, UNKNOWN, newest, next_events, path_of, report, send, stored
from msgcore.store.tables import deliveries
from servers.api_client import Reply

SEND = "projects/shop/messages/send"
REACT, UNREACT = "projects/shop/messages/react", "projects/shop/messages/unreact"
EDIT, DELETE = "projects/shop/messages/edit", "projects/shop/messages/delete"
TYPING, READ = "projects/shop/messages/typing", "projects/shop/messages/read"
KEY = "k" * 32
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


def test_the_inbox_goes_on_before_an_entry_and_nothing_else(running: Running) -> None:
    box = running.add_sandbox()
    for text in ("first", "second"):
        send(running, "shop", box, "ann", text)
    path = f"projects/shop/platforms/{box}/inbox?before="
    found = running.key.ask("GET", path + inbox(running, box)[-1]["id"]).body["messages"]
    assert [each["content"]["text"] for each in found] == ["first"]
    for nonsense in ("0", "x" * 36):
        refused = running.key.ask("GET", path + nonsense)
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, "/query/before")


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


# --- edit, delete, typing, read


def sent(running: Running, platform_id: str, target: dict[str, str], text: str) -> str:
    """The platform's id of a message that was just sent."""
    after = newest(running)
    asked = {"targets": [{"platformId": platform_id, **target}], "content": {"text": text}}
    assert running.key.ask("POST", SEND, asked).status == 201
    [event] = next_events(running, after, 1)
    assert event["event"] == "message.sent"
    return str(event["data"]["provider_message_id"])


def test_what_was_sent_is_edited_and_then_deleted(running: Running) -> None:
    box, target = running.add_sandbox(), {"type": "channel", "id": "throttle-100ms:lane"}
    message_id = sent(running, box, target, "frist")
    after, about = newest(running), {"platformId": box, "messageId": message_id}
    answers = [
        running.key.ask("POST", EDIT, {**about, "content": {"markdown": "**first**"}}),
        running.key.ask("POST", DELETE, about),
    ]
    for answer in answers:
        told = {name: answer.body[name] for name in ("success", "platformId", "messageId", "status")}
        assert (answer.status, told) == (201, {"success": True, "status": "queued", **about})
    events = next_events(running, after, 2)
    assert [(event["event"], event["data"]["action"], event["data"]["text"]) for event in events] == [
        ("action.sent", "edit", "**first**"),
        ("action.sent", "delete", None),
    ]
    assert [event["data"]["job_id"] for event in events] == [answer.body["jobId"] for answer in answers]
    _, edited, deleted = inbox(running, box)
    assert edited["content"] == {"action": "edit", "messageId": message_id, "content": {"markdown": "**first**"}}
    assert deleted["content"] == {"action": "delete", "messageId": message_id}
    assert (deleted["target"], deleted["replyTo"]) == (target, message_id)
    job = running.key.ask("GET", f"projects/shop/messages/status/{answers[0].body['jobId']}").body
    [delivery] = job["delivery"]["results"]
    assert (job["status"], delivery["action"], delivery["state"]) == ("completed", "edit", "sent")
    listed = running.key.ask("GET", "projects/shop/messages/sent?limit=3").body["messages"]
    assert [(message["platformId"], message["action"]) for message in listed] == [
        *((box, "delete"), (box, "edit"), (box, None)),
    ]


def test_typing_and_read_marks_stand_in_no_lane_and_expire(running: Running) -> None:
    box = running.add_sandbox()
    message_id, after = receive(running, box), newest(running)
    [chat] = running.key.ask("GET", f"projects/shop/chats?platformId={box}").body["chats"]
    place = {"type": "group", "id": "room"}
    asked = {"platformId": box, "target": place}
    answer = running.key.ask("POST", TYPING, asked)
    told = {name: answer.body[name] for name in ("success", "platformId", "target", "status")}
    assert (answer.status, told) == (201, {"success": True, "status": "queued", **asked})
    by_chat = running.key.ask("POST", TYPING, {"platformId": box, "target": {"type": "chat", "id": chat["id"]}})
    nobody = running.key.ask("POST", TYPING, {"platformId": box, "target": {"type": "user", "id": "stranger"}})
    read = running.key.ask("POST", READ, {"platformId": box, "messageId": message_id})
    jobs = [reply.body["jobId"] for reply in (answer, by_chat, nobody, read)]
    events = next_events(running, after, 4)
    assert {event["event"] for event in events} == {"action.sent"}
    assert {event["data"]["job_id"]: event["data"]["action"] for event in events} == dict(
        zip(jobs, ("typing", "typing", "typing", "read"), strict=True)
    )
    entries = {entry["messageId"]: entry for entry in inbox(running, box)}
    newest_known = {"action": "typing", "messageId": message_id}
    contents = [newest_known, newest_known, {"action": "typing"}, {"action": "read", "messageId": message_id}]
    assert [entries[job]["content"] for job in jobs] == contents
    assert [entries[job]["target"] for job in jobs[:2]] == [place, place]
    rows = {row.message_id: row for row in stored(running, deliveries, deliveries.c.message_id.in_(jobs))}
    assert [rows[job].lane for job in jobs] == [None] * 4
    lives = [rows[job].expires_at - rows[job].created_at for job in jobs]
    assert lives == [timedelta(seconds=10)] * 3 + [timedelta(hours=1)]


@pytest.fixture(scope="module")
def evolution() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """An Evolution API server, and what it was asked: the method, the operation, and the body."""
    asked: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.command, "/".join(self.path.split("/")[1:3]), given))
            key = {"remoteJid": "4915112345678@s.whatsapp.net", "fromMe": True, "id": f"3EB0{len(asked)}"}
            body = json.dumps({"key": key}).encode()
            self.send_response(201)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            self.do_POST()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_a_message_in_parts_is_deleted_whole_and_its_first_part_edited(
    running: Running, evolution: tuple[str, list[tuple[str, str, Any]]]
) -> None:
    url, asked = evolution
    asked.clear()
    credentials = {"evolutionApiUrl": url, "evolutionApiKey": KEY}
    account = {"platform": "whatsapp-evo", "name": "wa", "credentials": credentials}
    phone = running.key.ask("POST", "projects/shop/platforms", account).body["id"]
    message_id = sent(running, phone, {"type": "user", "id": "+4915112345678"}, "word " * 1200)
    parts = ["3EB01", "3EB02"]
    assert message_id.rpartition(":")[2] == parts[0]
    about = {"platformId": phone, "messageId": message_id}
    for content, pointer in (
        ({"text": "word " * 1200}, "/content"),
        ({"text": "a", "attachments": [{"url": "https://example.com/a.png"}]}, "/content/attachments"),
        ({"text": "a", "platformOptions": {"whatsapp-evo": {"delay": "x"}}}, "/content/platformOptions"),
        ({}, "/content"),
    ):
        reply = running.key.ask("POST", EDIT, {**about, "content": content})
        assert (reply.status, reply.body["errors"][0]["pointer"][: len(pointer)]) == (400, pointer), reply
    after = newest(running)
    running.key.ask("POST", EDIT, {**about, "content": {"markdown": "**short**"}})
    job = running.key.ask("POST", DELETE, about).body["jobId"]
    assert [event["data"]["action"] for event in next_events(running, after, 2)] == ["edit", "delete"]
    assert [(method, operation) for method, operation, _ in asked[2:]] == [
        ("POST", "chat/updateMessage"),
        *[("DELETE", "chat/deleteMessageForEveryone")] * 2,
    ]
    assert (asked[2][2]["key"]["id"], asked[2][2]["text"]) == (parts[0], "*short*")
    assert [body["id"] for _, _, body in asked[3:]] == parts
    [row] = stored(running, deliveries, deliveries.c.message_id == job)
    assert (row.state, row.attempts, row.provider_message_id) == ("sent", 1, None)


def test_what_cannot_be_done_to_a_message_is_refused(running: Running) -> None:
    box = running.add_sandbox()
    theirs, mine = receive(running, box), sent(running, box, {"type": "user", "id": "ann"}, "hi")
    mail = {"smtpHost": "smtp.example.com", "smtpPort": 587, "fromEmail": "a@example.com"}
    made = running.key.ask("POST", "projects/shop/platforms", {"platform": "email", "name": "m", "credentials": mail})
    other = running.make_key("messages:write", project="other")
    reader = running.make_key("messages:read")
    new, before = {"content": {"text": "new"}}, len(inbox(running, box))

    def about(message_id: str, platform_id: str = box, **more: Any) -> dict[str, Any]:
        return {"platformId": platform_id, "messageId": message_id, **more}

    def typing(platform_id: str = box, kind: str = "user", id_: str = "ann") -> dict[str, Any]:
        return {"platformId": platform_id, "target": {"type": kind, "id": id_}}

    for path, capability in ((EDIT, "edit-message"), (DELETE, "delete-message"), (READ, "mark-read")):
        asked = about(mine, **(new if path == EDIT else {}))
        for status, part, reply in (
            (400, capability, running.key.ask("POST", path, {**asked, "platformId": made.body["id"]})),
            (404, "providerMessageId", running.key.ask("POST", path, {**asked, "messageId": "no-such-message"})),
            (404, "Platform", running.key.ask("POST", path, {**asked, "platformId": UNKNOWN})),
            (404, "Platform", other.ask("POST", path.replace("shop", "other"), asked)),
            (403, "messages:write", reader.ask("POST", path, asked)),
            (400, "surprise", running.key.ask("POST", path, {**asked, "surprise": 1})),
        ):
            assert (reply.status, part in str(reply.body["message"])) == (status, True), reply
    for pointer, reply in (
        ("/messageId", running.key.ask("POST", EDIT, about(theirs, **new))),
        ("/messageId", running.key.ask("POST", DELETE, about(theirs))),
        ("/messageId", running.key.ask("POST", READ, about(mine))),
        ("/content", running.key.ask("POST", EDIT, about(mine, content={}))),
        ("/content", running.key.ask("POST", EDIT, about(mine))),
        ("/platformId", running.key.ask("POST", TYPING, typing(made.body["id"]))),
        ("/target/id", running.key.ask("POST", TYPING, typing(id_="x" * 256))),
        ("/target/id", running.key.ask("POST", TYPING, typing(kind="identity", id_=UNKNOWN))),
        ("/target/type", running.key.ask("POST", TYPING, typing(kind="planet"))),
    ):
        assert (reply.status, [error["pointer"] for error in reply.body["errors"]]) == (400, [pointer]), reply
    for status, reply in (
        (404, other.ask("POST", TYPING.replace("shop", "other"), typing())),
        (404, running.key.ask("POST", TYPING, typing(UNKNOWN))),
        (403, reader.ask("POST", TYPING, typing())),
    ):
        assert reply.status == status, reply
    assert len(inbox(running, box)) == before


@pytest.mark.parametrize("platform", ["sandbox", "webhook"])
def test_registering_a_webhook(running: Running, platform: str) -> None:
    credentials = {"url": "https://example.com/hook", "secret": HOOK_SECRET} if platform == "webhook" else {}
    asked = {"platform": platform, "name": "p", "credentials": credentials}
    made = running.key.ask("POST", "projects/shop/platforms", asked).body
    path = f"projects/shop/platforms/{made['id']}/register-webhook"
    reply = running.key.ask("POST", path)
    if platform == "webhook":
        said = "Registering a webhook is not supported by webhook: enter its webhookUrl there"
        assert (reply.status, reply.body["message"]) == (400, said)
        return
    assert (reply.status, reply.body["webhookUrl"]) == (201, made["webhookUrl"])
    assert "/api/v1/webhooks/sandbox/" in reply.body["webhookUrl"]
    running.key.ask("PATCH", f"projects/shop/platforms/{made['id']}", {"isActive": False})
    assert running.key.ask("POST", path).status == 400
    assert running.key.ask("POST", path.replace(made["id"], str(uuid4()))).status == 404
