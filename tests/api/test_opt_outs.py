"""Opting out: by a stop word, by hand, and what becomes of messages to who did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller

from api.conftest import Running
from api.test_email_inbound import SECRET, add_email, finished, mail, post
from api.test_receiving import newest, next_events, path_of
from e2e.test_first_message import Postbox
from servers.api_client import Reply
from servers.metrics import scrape

PATH = "projects/shop/opt-outs"
SEND = "projects/shop/messages/send"
MX = "mx.shop.example"
TOKEN = "t" * 32
SETTINGS = {"MSGCORE_METRICS_TOKEN": TOKEN}
HEARD, OUT, IN = "message.received", "contact.opted_out", "contact.opted_in"


def send(running: Running, platform_id: str, *to: str, kind: str = "user", **options: Any) -> Reply:
    targets = [{"platformId": platform_id, "type": kind, "id": user} for user in to]
    content = {"text": "hi", "subject": "Hi"}
    return running.key.ask("POST", SEND, {"targets": targets, "content": content, "options": options})


def outcomes(running: Running, sent: Reply) -> list[tuple[str, str | None]]:
    assert sent.status == 201, sent
    results = finished(running, sent.body["jobId"])["delivery"]["results"]
    return [(each["state"], each["errorCode"]) for each in results]


def say(running: Running, box: str, user: str, text: str, *, chat: dict[str, Any] | None = None, **author: Any) -> None:
    report = {
        "chat": chat or {"id": f"dm-{user}"},
        "author": {"id": user, "name": user.title(), **author},
        "content": {"kind": "message", "id": f"m-{uuid4().hex}", "text": text},
    }
    assert running.nobody.ask("POST", path_of(running, box), report).status == 200


def inbox(running: Running, box: str) -> list[str]:
    found = running.key.ask("GET", f"projects/shop/platforms/{box}/inbox").body
    entries = found["messages"] if isinstance(found, dict) else found
    return [entry["target"]["id"] for entry in entries]


GONE = [("failed", "recipient_opted_out")]
SENT = [("sent", None)]


def test_stop_and_start_by_a_message(running: Running) -> None:
    box, after = running.add_sandbox(), newest(running)
    say(running, box, "ann", "Stop!")
    said, event = next_events(running, after, 2)
    assert (said["event"], event["event"]) == (HEARD, OUT)
    assert event["data"]["opted_out_at"]
    assert (event["data"]["user_id"], event["data"]["word"], event["data"]["platform_id"]) == ("ann", "stop", box)
    assert outcomes(running, send(running, box, "ann", "bob")) == [*GONE, *SENT]
    assert outcomes(running, send(running, box, "dm-ann", kind="chat")) == GONE
    assert inbox(running, box) == ["bob"]
    job = finished(running, send(running, box, "ann").body["jobId"])
    message = job["delivery"]["results"][0]["errorMessage"]
    [listed] = running.key.ask("GET", f"{PATH}?platformId={box}").body["optOuts"]
    assert (listed["providerUserId"], listed["word"], listed["platform"]) == ("ann", "stop", "sandbox")
    assert ("'ann'" in message, "'stop'" in message, listed["id"] in message) == (True, True, True)

    say(running, box, "ann", "STOP")  # again: no event
    say(running, box, "ann", "start")
    events = next_events(running, after, 5, types=f"{HEARD},{OUT},{IN}")[2:]
    assert [event["event"] for event in events] == [HEARD, HEARD, IN]
    assert events[-1]["data"]["word"] == "start"
    assert outcomes(running, send(running, box, "ann")) == SENT
    assert scrape(running.gateway.url, TOKEN).value("msgcore_wishes_total", platform="sandbox", wish="out") >= 1


def test_only_in_a_direct_chat_and_only_as_a_whole(running: Running) -> None:
    box, after = running.add_sandbox(), newest(running)
    say(running, box, "ann", "STOP", chat={"id": "room", "type": "group"})
    say(running, box, "ann", "please stop the machine")
    say(running, box, "robot", "STOP", isBot=True)
    assert {event["event"] for event in next_events(running, after, 3)} == {HEARD}
    assert running.key.ask("GET", f"{PATH}?platformId={box}").body == {"optOuts": [], "next": None}


def test_who_opts_out_after_a_message_was_accepted(running: Running) -> None:
    box, after = running.add_sandbox(), newest(running)
    assert outcomes(running, send(running, box, "ann")) == SENT  # nobody opted out here, as is remembered now
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    waiting = send(running, box, "ann", scheduled=later)
    say(running, box, "ann", "unsubscribe")
    next_events(running, after, 1, types=OUT)
    now = {"scheduled": datetime.now(UTC).isoformat()}
    moved = running.key.ask("POST", f"projects/shop/messages/{waiting.body['jobId']}/reschedule", now)
    assert moved.status in {200, 201}, moved
    assert outcomes(running, waiting) == GONE
    assert inbox(running, box) == ["ann"]


def test_what_must_be_sent_in_any_case(running: Running) -> None:
    box = running.add_sandbox()
    assert running.key.ask("POST", PATH, {"platformId": box, "providerUserId": "ann"}).status == 201
    assert outcomes(running, send(running, box, "ann", ignoreOptOut=True)) == SENT
    body = {
        "targets": [{"platformId": box, "type": "user", "id": "ann"}],
        "content": {"text": "hi"},
        "options": {"ignoreOptOut": True},
    }
    sender = running.make_key("messages:write")
    refused = [sender.ask("POST", SEND, body), sender.ask("POST", "projects/shop/messages/batch", [body])]
    assert [reply.status for reply in refused] == [403, 403]
    assert "identities:write" in refused[0].body["message"]


def test_a_message_can_still_be_taken_away_and_marked_as_read_but_not_changed(running: Running) -> None:
    box, after = running.add_sandbox(), newest(running)
    assert outcomes(running, send(running, box, "ann")) == SENT
    say(running, box, "ann", "STOP")
    told = {event["event"]: event["data"] for event in next_events(running, after, 3)}
    mine, theirs = told["message.sent"]["provider_message_id"], told[HEARD]["provider_message_id"]

    def do(what: str, message_id: str, **more: Any) -> Reply:
        body = {"platformId": box, "messageId": message_id, **more}
        return running.key.ask("POST", f"projects/shop/messages/{what}", body)

    assert outcomes(running, do("edit", mine, content={"text": "but"})) == GONE
    assert outcomes(running, do("delete", mine)) == SENT
    assert outcomes(running, do("read", theirs)) == SENT


def test_entered_and_lifted_by_hand(running: Running) -> None:
    box, after = running.add_sandbox(), newest(running)
    made = [
        running.key.ask("POST", PATH, {"platformId": box, "providerUserId": user}) for user in ("ann", "bob", "ann")
    ]
    assert [reply.status for reply in made] == [201, 201, 201]
    assert made[0].body == made[2].body
    assert (made[0].body["word"], made[0].body["projectId"]) == (None, "shop")
    first = running.key.ask("GET", f"{PATH}?platformId={box}&limit=1").body
    second = running.key.ask("GET", f"{PATH}?platformId={box}&limit=1&before={first['next']}").body
    assert [page["optOuts"][0]["providerUserId"] for page in (first, second)] == ["bob", "ann"]
    assert second["next"] is None
    assert outcomes(running, send(running, box, "ann")) == GONE

    path = f"{PATH}/{made[0].body['id']}"
    reader = running.make_key("identities:read")
    stranger = running.make_key("identities:read", "identities:write", project="other")
    assert reader.ask("DELETE", path).status == 403
    assert stranger.ask("DELETE", path).status == 404
    assert stranger.ask("DELETE", path.replace("shop", "other")).status == 404
    refused = stranger.ask("POST", "projects/other/opt-outs", {"platformId": box, "providerUserId": "eve"})
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, "/platformId")
    assert stranger.ask("GET", "projects/other/opt-outs").body["optOuts"] == []
    assert running.key.ask("DELETE", path).body["success"] is True
    assert running.key.ask("DELETE", path).status == 404
    assert outcomes(running, send(running, box, "ann")) == SENT
    events = next_events(running, after, 3, types=f"{OUT},{IN}")
    assert [(event["event"], event["data"]["user_id"]) for event in events] == [
        *((OUT, "ann"), (OUT, "bob"), (IN, "ann")),
    ]


# --- e-mail


@pytest.fixture(scope="module")
def postbox() -> Iterator[Postbox]:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


@pytest.fixture
def mailbox(running: Running, postbox: Postbox) -> str:
    return add_email(running, postbox, inboundSecret=SECRET, authenticationServer=MX)


def proven(text: str, *lines: str) -> bytes:
    result = f"Authentication-Results: {MX}; dmarc=pass header.from=example.org"
    return mail(text, f"{uuid4()}@example.org", result, *lines)


def test_a_mail_opts_out_and_a_forged_one_does_not_opt_in(running: Running, postbox: Postbox, mailbox: str) -> None:
    after = newest(running)
    quoted = "\r\nUnsubscribe.\r\n\r\nOn Monday you wrote:\r\n> Buy more"
    assert post(running, mailbox, mail(quoted, f"{uuid4()}@example.org")).status == 200
    [event] = next_events(running, after, 1, types=OUT)
    assert (event["data"]["user_id"], event["data"]["word"]) == ("ann@example.org", "unsubscribe")
    before = len(postbox.messages)
    assert outcomes(running, send(running, mailbox, "Ann@Example.ORG")) == GONE
    assert len(postbox.messages) == before

    assert post(running, mailbox, mail("START", f"{uuid4()}@example.org")).status == 200
    assert post(running, mailbox, mail("Cancel", f"{uuid4()}@example.org")).status == 200
    next_events(running, event["id"], 2, types=HEARD)
    assert outcomes(running, send(running, mailbox, "ann@example.org")) == GONE
    assert post(running, mailbox, proven("Start")).status == 200
    next_events(running, event["id"], 1, types=IN)
    assert outcomes(running, send(running, mailbox, "ann@example.org")) == SENT


def test_the_subject_of_a_mail_that_a_mail_program_wrote(running: Running, mailbox: str) -> None:
    after = newest(running)
    head = ("From: ann@example.org", "To: shop@example.com", "Subject: unsubscribe", f"Message-ID: <{uuid4()}@x>")
    assert post(running, mailbox, "\r\n".join((*head, "", "")).encode()).status == 200
    [event] = next_events(running, after, 1, types=OUT)
    assert event["data"]["user_id"] == "ann@example.org"


# --- linking by e-mail


def make_identity(running: Running, **fields: Any) -> str:
    made = running.key.ask("POST", "projects/shop/identities", fields)
    assert made.status == 201, made
    return str(made.body["id"])


def test_an_author_is_linked_by_an_address_that_is_vouched_for(running: Running, mailbox: str) -> None:
    box, after = running.add_sandbox(), newest(running)
    email = f"ann-{time.monotonic_ns()}@example.org"
    identity = make_identity(running, email=email)
    twice = f"twin-{time.monotonic_ns()}@example.org"
    for name in ("One", "Two"):
        make_identity(running, displayName=name, email=twice)
    say(running, box, "twin", "hello", email=twice)
    say(running, box, "nobody", "hello", email="nobody@example.org")
    say(running, box, "ann", "hello", email=email.upper())
    say(running, box, "ann", "again")
    *messages, linked = sorted(next_events(running, after, 5), key=lambda event: event["event"] == "identity.linked")
    assert [message["data"]["identity_id"] for message in messages] == [None, None, identity, identity]
    assert linked["id"] < messages[2]["id"]
    names = ("identity_id", "user_id", "platform_id", "link_method")
    assert [linked["data"][name] for name in names] == [identity, "ann", box, "email"]
    [alias] = running.key.ask("GET", f"projects/shop/identities/{identity}").body["aliases"]
    assert (alias["id"], alias["linkMethod"], alias["providerUserDisplay"]) == (
        *(linked["data"]["alias_id"], "email", "Ann"),
    )
    say(running, box, "ann", "stop")
    next_events(running, linked["id"], 1, types=OUT)
    [alias] = running.key.ask("GET", f"projects/shop/identities/{identity}").body["aliases"]
    assert alias["optedOutAt"] is not None


def test_a_forged_mail_is_not_linked(running: Running, mailbox: str) -> None:
    after = newest(running)
    address = f"eve-{time.monotonic_ns()}@example.org"
    identity = make_identity(running, email=address)
    heard: list[dict[str, Any]] = []
    for body in (mail("It is me", f"{uuid4()}@x"), proven("It is really me")):
        assert post(running, mailbox, body.replace(b"Ann@Example.org", address.encode())).status == 200
        heard += next_events(running, after, 1 + len(heard), types=HEARD)[len(heard) :]
    assert [event["data"]["identity_id"] for event in heard] == [None, identity]
    [linked] = next_events(running, after, 1, types="identity.linked")
    assert linked["data"]["user_id"] == address


def test_a_phone_number_is_one_however_it_is_written(running: Running) -> None:
    credentials = {"accessToken": "EAAJB" + "x" * 40, "phoneNumberId": "106540352242922"}
    added = running.key.ask(
        "POST", "projects/shop/platforms", {"platform": "whatsapp-cloud", "name": "wa", "credentials": credentials}
    )
    assert added.status == 201, added
    box = added.body["id"]
    entered = running.key.ask("POST", PATH, {"platformId": box, "providerUserId": "+4915112345678"})
    assert entered.body["providerUserId"] == "4915112345678"
    assert outcomes(running, send(running, box, "+4915112345678", "4915112345678")) == [*GONE, *GONE]
