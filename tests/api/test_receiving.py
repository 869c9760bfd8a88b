"""From a platform's request to what a subscriber gets: webhooks of platforms, and the events that come of them."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY
from urllib.parse import urlsplit
from uuid import uuid4

import jsonschema_rs
import pytest

from api.conftest import Running
from api.inbound import EVENTS, HOOK_SECRET, newest, next_events, path_of, report, signed
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE


@pytest.fixture
def box(running: Running) -> str:
    """The path of a sandbox's webhook."""
    return path_of(running, running.add_sandbox())


@pytest.fixture
def hook(running: Running) -> str:
    """The path of the webhook of a custom platform."""
    credentials = {"url": "https://example.com/hook", "secret": HOOK_SECRET}
    made = running.key.ask(
        "POST", "projects/shop/platforms", {"platform": "webhook", "name": "hook", "credentials": credentials}
    )
    return path_of(running, made.body["id"])


class TestMessages:
    def test_a_message_becomes_an_event_and_is_stored(self, running: Running, box: str) -> None:
        after = newest(running)
        sent = report(text="Hello \u00e9\U0001f600", attachments=[{"type": "image", "url": "https://x.example/a.png"}])
        assert running.nobody.ask("POST", box, sent) == Reply(200, ANY, {"success": True})
        [event] = next_events(running, after, 1)
        assert event["event"] == "message.received"
        assert (event["id"], event["project_id"]) == (after + 1, "shop")
        data = event["data"]
        assert (data["chat_id"], data["user_id"], data["user_display"], data["text"]) == (
            "room",
            "ann",
            "Ann",
            "Hello \u00e9\U0001f600",
        )
        stored = running.key.ask("GET", f"projects/shop/messages/{data['message_id']}")
        assert stored.body["messageText"] == "Hello \u00e9\U0001f600"
        [told], [shown] = data["attachments"], stored.body["attachments"]
        assert (told["id"], told["state"], told["type"]) == (shown["id"], "pending", "image")
        [chat] = running.key.ask("GET", f"projects/shop/chats?platformId={data['platform_id']}").body["chats"]
        assert (chat["providerChatId"], chat["name"]) == ("room", "The room")

    def test_what_comes_twice_is_taken_once(self, running: Running, box: str) -> None:
        after = newest(running)
        sent = report(text="once")
        assert {running.nobody.ask("POST", box, sent).status for _ in range(3)} == {200}
        assert running.nobody.ask("POST", box, report(text="last")).status == 200
        assert [event["data"]["text"] for event in next_events(running, after, 2)] == ["once", "last"]

    def test_order_in_a_chat_is_kept(self, running: Running, box: str) -> None:
        after = newest(running)
        for number in range(50):
            assert running.nobody.ask("POST", box, report(text=str(number))).status == 200
        assert [event["data"]["text"] for event in next_events(running, after, 50)] == [str(n) for n in range(50)]

    def test_everything_else_that_happens(self, running: Running, box: str) -> None:
        after = newest(running)
        happened = [
            report(id="m1", text="first", replyTo="m0"),
            report("edit", id="m1", text="second"),
            report("reaction", messageId="m1", emoji="\U0001f44d"),
            report("reaction", messageId="m1", emoji="\U0001f44d", removed=True),
            report("click", value="yes", messageId="m1", label="Yes"),
            report("command", id="m2", name="help", arguments="me"),
            report("membership", joined=True),
            report("membership", joined=False, member={"id": "bob", "name": "Bob"}),
            report("receipt", messageId="out-1", status="read"),
            report("typing"),
            report("delete", id="m1"),
        ]
        for each in happened:
            answer = running.nobody.ask("POST", box, each)
            assert answer.status == 200, answer
        found = next_events(running, after, len(happened))
        assert [event["event"] for event in found] == [
            *("message.received", "message.edited", "reaction.added", "reaction.removed", "button.clicked"),
            *("command.received", "member.joined", "member.left", "message.read", "typing.started", "message.deleted"),
        ]
        first = found[0]["data"]
        assert first["reply_to"] == "m0"
        assert {found[index]["data"]["message_id"] for index in (1, 2, 3, 4, 10)} == {first["message_id"]}
        assert (found[4]["data"]["button_value"], found[5]["data"]["text"]) == ("yes", "/help me")
        assert (found[6]["data"]["member_id"], found[7]["data"]["member_display"]) == ("ann", "Bob")
        stored = running.key.ask("GET", f"projects/shop/messages/{first['message_id']}").body
        assert stored["messageText"] == "second"

    def test_what_the_platform_tells_of_a_sent_message(self, running: Running) -> None:
        platform_id = running.add_sandbox()
        after = newest(running)
        target = {"platformId": platform_id, "type": "user", "id": "bob"}
        body = {"targets": [target], "content": {"text": "hi"}}
        job = running.key.ask("POST", "projects/shop/messages/send", body).body["jobId"]
        [sent] = next_events(running, after, 1)
        provider_id = sent["data"]["provider_message_id"]
        for status in ("delivered", "read"):
            said = report("receipt", chat="bob", messageId=provider_id, status=status)
            assert running.nobody.ask("POST", path_of(running, platform_id), said).status == 200
        events = next_events(running, after, 3)
        assert [event["event"] for event in events] == ["message.sent", "message.delivered", "message.read"]
        assert {event["data"]["job_id"] for event in events} == {job}
        status = running.key.ask("GET", f"projects/shop/messages/status/{job}").body
        listed = running.key.ask("GET", "projects/shop/messages/sent?status=read").body["messages"][0]
        for shown in (status["delivery"]["results"][0], listed):
            assert (shown["id"], shown["status"], shown["state"]) == (events[1]["data"]["message_id"], "sent", "read")
            assert shown["sentAt"] <= shown["deliveredAt"] <= shown["readAt"]
        assert (status["status"], status["delivery"]["overallStatus"]) == ("completed", "completed")

    def test_a_recipient_who_replies_is_an_event(self, running: Running) -> None:
        platform_id = running.add_sandbox()
        after = newest(running)
        target = {"platformId": platform_id, "type": "user", "id": "reply:bob"}
        running.key.ask("POST", "projects/shop/messages/send", {"targets": [target], "content": {"text": "hi"}})
        events = {event["event"]: event["data"] for event in next_events(running, after, 2)}
        assert events.keys() == {"message.sent", "message.received"}
        answer = events["message.received"]
        assert (answer["user_id"], answer["text"]) == ("reply:bob", "You wrote: hi")
        sent = events["message.sent"]
        assert (sent["chat_id"], sent["text"], sent["provider_message_id"]) == ("reply:bob", "hi", answer["reply_to"])


def test_the_envelope_has_a_schema(running: Running, box: str) -> None:
    document = running.nobody.ask("GET", "schemas/envelope").body
    kinds = document["$defs"]["Envelope"]["properties"]["content"]["discriminator"]["mapping"]
    assert set(kinds) == {
        *("message", "edit", "delete", "reaction", "click", "command", "membership", "receipt", "typing"),
    }
    assert jsonschema_rs.meta.is_valid(document)
    envelope = jsonschema_rs.Draft202012Validator(document)
    assert envelope.is_valid({"eventId": "e", **report(text="hello")})
    assert not envelope.is_valid({"eventId": "e", **report("dance")})


class TestRefusals:
    def test_an_unknown_address_tells_nothing(self, running: Running, box: str) -> None:
        token = box.rpartition("/")[2]
        wrong = [
            f"/api/v1/webhooks/sandbox/{uuid4()}",
            f"/api/v1/webhooks/sandbox/{token.upper()}",
            f"/api/v1/webhooks/sandbox/{token}x",
            f"/api/v1/webhooks/webhook/{token}",
            f"/api/v1/webhooks/nothing/{token}",
        ]
        answers = [running.nobody.ask("POST", path, report(text="x")) for path in wrong]
        assert {answer.status for answer in answers} == {404}
        assert len({answer.body["message"] for answer in answers}) == 1

    @pytest.mark.parametrize("length", ["Content-Length: 15000000", "Transfer-Encoding: chunked"])
    def test_nothing_is_read_for_an_unknown_address(self, running: Running, length: str) -> None:
        for platform in ("telegram", "nothing"):
            connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
            connection.putrequest("POST", f"/api/v1/webhooks/{platform}/{uuid4()}")
            connection.putheader(*length.split(": "))
            connection.endheaders()  # and no body comes: there is an answer all the same
            with closing(connection), connection.getresponse() as answer:
                assert (answer.status, answer.getheader("connection")) == (404, "close")

    def test_large_bodies_for_one_address_are_few_at_a_time(self, running: Running) -> None:
        platform_id = running.add_sandbox("large")
        path = path_of(running, platform_id)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n".encode()
        refused = f"projects/shop/platforms/{platform_id}/logs?category=webhook&level=warn"
        with ExitStack() as clients:
            for _ in range(4):
                client = clients.enter_context(
                    socket.create_connection(("127.0.0.1", running.gateway.port), timeout=PATIENCE)
                )
                with suppress(ConnectionError):
                    client.sendall(head + b" " * 15_900_000)
            deadline = time.monotonic() + PATIENCE
            while not (lines := running.key.ask("GET", refused).body["logs"]):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert {line["metadata"]["status"] for line in lines} == {503}
            assert running.nobody.ask("POST", path, report(text="small")).status == 200
        large = report(text="large") | {"raw": "x" * 9_000_000}
        while (answer := running.nobody.ask("POST", path, large)).status == 503:  # until it saw that they are gone
            assert answer.headers["retry-after"] == "5"
            assert time.monotonic() < deadline
        assert answer.status == 200, answer

    def test_a_switched_off_platform_receives_nothing(self, running: Running) -> None:
        platform_id = running.add_sandbox()
        path = path_of(running, platform_id)
        running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"isActive": False})
        assert running.nobody.ask("POST", path, report(text="x")).status == 404
        running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"isActive": True})
        assert running.nobody.ask("POST", path, report(text="x")).status == 200
        running.key.ask("DELETE", f"projects/shop/platforms/{platform_id}")
        assert running.nobody.ask("POST", path, report(text="x")).status == 404

    def test_only_what_is_signed_just_now_is_taken(self, running: Running, hook: str) -> None:
        after = newest(running)
        body = json.dumps(report(text="signed")).encode()
        old = datetime.now(UTC) - timedelta(minutes=6)
        refused = [
            {},
            signed(body, secret="whsec_" + "A" * 32),
            signed(body + b" "),
            signed(body, at=old),
            {**signed(body), "webhook-timestamp": "soon"},
            {**signed(body), "webhook-signature": "v1,\u00ff\u00ff"},
        ]
        for headers in refused:
            answer = running.nobody.ask("POST", hook, body, **headers)
            assert answer.status == 401, headers
            assert HOOK_SECRET not in json.dumps(answer.body)
        good = signed(body, id_="msg_1")
        assert [running.nobody.ask("POST", hook, body, **good).status for _ in range(2)] == [200, 200]
        assert [event["data"]["text"] for event in next_events(running, after, 1)] == ["signed"]
        assert HOOK_SECRET not in running.gateway.log.read_text()

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b'{"chat":{"id":"c"}}',
            b"[" * 100_000,
            b"\xff\xfe",
            json.dumps(report(text=5)).encode(),
            json.dumps(report("dance")).encode(),
            json.dumps(report(id="x" * 256, text="x")).encode(),
            json.dumps({**report(text="x"), "chat": {"id": ""}}).encode(),
        ],
        ids=["empty", "cut", "incomplete", "deep", "no text", "wrong type", "unknown kind", "long id", "no id"],
    )
    def test_what_cannot_be_read_is_refused_at_once(self, running: Running, box: str, body: bytes) -> None:
        answer = running.nobody.ask("POST", box, body)
        assert answer.status == 400, answer
        assert answer.body["message"].startswith("the body is no report: ")

    def test_a_cut_body_with_the_right_signature(self, running: Running, hook: str) -> None:
        body = b'{"chat":'
        assert running.nobody.ask("POST", hook, body, **signed(body)).status == 400

    def test_what_is_found_unreadable_later_is_set_aside_and_holds_nothing_back(
        self, running: Running, hook: str
    ) -> None:
        after = newest(running)
        body = json.dumps(report(text="too long an id")).encode()
        assert running.nobody.ask("POST", hook, body, **signed(body, id_="x" * 256)).status == 200
        body = json.dumps(report(text="after it")).encode()
        assert running.nobody.ask("POST", hook, body, **signed(body)).status == 200
        assert [event["data"]["text"] for event in next_events(running, after, 1)] == ["after it"]
        logs = running.key.ask("GET", "projects/shop/platforms/logs?category=webhook&level=error").body["logs"]
        assert "longer than 255" in logs[0]["error"]

    def test_other_methods(self, running: Running, box: str) -> None:
        for method in ("GET", "PUT", "DELETE"):
            refused = running.nobody.ask(method, box)
            assert (refused.status, refused.headers["allow"]) == (405, "POST")
            assert "only POST" in refused.body["message"]


class TestEvents:
    def test_who_may_follow(self, running: Running) -> None:
        assert running.nobody.ask("GET", EVENTS).status == 401
        assert running.make_key("messages:write").ask("GET", EVENTS).status == 403
        assert running.make_key("messages:read", project="other").ask("GET", EVENTS).status == 404
        other = running.make_key("messages:read", project="other").ask("GET", "projects/other/events?after=0")
        assert other.body["events"] == []

    def test_a_page_waits_until_something_comes(self, running: Running, box: str) -> None:
        after = newest(running)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(running.key.ask, "GET", f"{EVENTS}?after={after}&wait=60")
            time.sleep(0.3)
            running.nobody.ask("POST", box, report(text="at last"))
            page = waiting.result(PATIENCE)
        assert [event["data"]["text"] for event in page.body["events"]] == ["at last"]

    def test_pages_by_type_platform_and_chat(self, running: Running, box: str) -> None:
        after = newest(running)
        other = running.add_sandbox()
        for path, kind, chat in (
            (box, "typing", "a"),
            (path_of(running, other), "message", "b"),
            (box, "message", "a"),
        ):
            running.nobody.ask("POST", path, report(kind, chat))
        every = next_events(running, after, 3)
        last = every[-1]["id"]
        assert len(running.key.ask("GET", f"{EVENTS}?after={after}&limit=2").body["events"]) == 2
        for query, number in (("types=message.received", 2), (f"platformId={other}", 1), ("chatId=a", 2)):
            page = running.key.ask("GET", f"{EVENTS}?after={after}&{query}").body
            assert (len(page["events"]), page["next"]) == (number, last), query

    @pytest.mark.parametrize(
        "query", ["after=-1", "after=x", "after=999999999", "wait=61", "limit=0", "limit=201", "types=" + "x" * 1025]
    )
    def test_wrong_parameters_are_named(self, running: Running, query: str) -> None:
        answer = running.key.ask("GET", f"{EVENTS}?{query}")
        assert answer.status == 400
        assert answer.body["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"

    def test_a_stream_goes_on_and_resumes(self, running: Running, box: str) -> None:
        after = newest(running)
        with stream(running.key) as lines:
            for number in range(3):
                running.nobody.ask("POST", box, report(text=str(number)))
            seen = [next(lines) for _ in range(3)]
        assert [(id_, event) for id_, event, _ in seen] == [(after + n, "message.received") for n in (1, 2, 3)]
        assert [data["data"]["text"] for _, _, data in seen] == ["0", "1", "2"]
        with stream(running.key, last_event_id=after + 1) as lines:
            assert [next(lines)[0] for _ in range(2)] == [after + 2, after + 3]

    def test_a_stream_ends_with_the_right_to_read(self, running: Running, box: str) -> None:
        made = running.admin.ask("POST", "projects/shop/keys", {"name": "k", "scopes": ["messages:read"]})
        with stream(running.nobody.as_key(made.body["key"])) as lines:
            running.nobody.ask("POST", box, report(text="before"))
            assert next(lines)[2]["data"]["text"] == "before"
            assert running.admin.ask("DELETE", f"projects/shop/keys/{made.body['id']}").status == 200
            with pytest.raises(AssertionError, match="the stream ended"):
                next(lines)

    def test_a_stream_from_a_place_that_is_none(self, running: Running) -> None:
        answer = running.key.ask("GET", EVENTS, Accept="text/event-stream", Last_Event_ID="abc")
        assert answer.status == 400
        assert answer.body["errors"][0]["pointer"] == "/headers/Last-Event-ID"


@contextmanager
def stream(client: ApiClient, last_event_id: int | None = None) -> Iterator[Iterator[tuple[int, str, Any]]]:
    """The events of a stream as they come: id, type and document."""
    url = urlsplit(client.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE)
    headers = client.headers | {"Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = str(last_event_id)
    connection.request("GET", f"/api/v1/{EVENTS}", headers=headers)
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.readline() == b"retry: 2000\n"
    assert answer.readline() == b"\n"

    def blocks() -> Iterator[tuple[int, str, Any]]:
        while True:
            fields: dict[str, str] = {}
            while (line := answer.readline()) != b"\n":
                assert line, "the stream ended"
                name, _, value = line.decode().rstrip("\n").partition(": ")
                fields[name] = value
            if "id" in fields:
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])

    yield blocks()
    connection.close()
