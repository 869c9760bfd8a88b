"""E-mails posted to the running gateway: as events, answered in their thread, and bounces of what was sent."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.controller import Controller

from api.conftest import Running
from api.inbound import newest, next_events, path_of
from e2e.test_first_message import Postbox
from servers.api_client import Reply
from servers.patience import PATIENCE

SECRET = "a secret of forty characters or so, made up"
RAW = "message/rfc822"


@pytest.fixture(scope="module")
def postbox() -> Iterator[Postbox]:
    box = Postbox()
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    yield box
    controller.stop()


def add_email(running: Running, postbox: Postbox, **more: Any) -> str:
    credentials = {"smtpHost": "127.0.0.1", "smtpPort": postbox.port, "fromEmail": "shop@example.com", **more}
    made = running.key.ask(
        "POST", "projects/shop/platforms", {"platform": "email", "name": "mail", "credentials": credentials}
    )
    assert made.status == 201, made
    return str(made.body["id"])


@pytest.fixture
def platform_id(running: Running, postbox: Postbox) -> str:
    return add_email(running, postbox, inboundSecret=SECRET)


def login(password: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"mail:{password}".encode()).decode()


def post(running: Running, platform_id: str, body: bytes, content_type: str = RAW, password: str = SECRET) -> Reply:
    headers = {"Content-Type": content_type, "Authorization": login(password)}
    return running.nobody.ask("POST", path_of(running, platform_id), body, **headers)


def mail(text: str, message_id: str, *lines: str) -> bytes:
    head = ["From: =?utf-8?Q?Ann_=C3=89?= <Ann@Example.org>", "To: shop@example.com", "Subject: A question"]
    return "\r\n".join((*head, f"Message-ID: <{message_id}>", *lines, "", text)).encode()


def test_a_conversation_by_mail(running: Running, postbox: Postbox, platform_id: str) -> None:
    after = newest(running)
    asked = f"{uuid4()}@example.org"
    assert post(running, platform_id, mail("Is it blue?", asked)).status == 200
    [event] = next_events(running, after, 1)
    data = event["data"]
    assert (event["event"], data["platform_id"]) == ("message.received", platform_id)
    assert (data["chat_id"], data["chat_type"], data["user_id"], data["user_display"]) == (
        *("ann@example.org", "user"),
        *("ann@example.org", "Ann \u00c9"),
    )
    assert (data["text"], data["provider_message_id"], data["thread_id"]) == ("Is it blue?", asked, asked)
    stored = running.key.ask("GET", f"projects/shop/messages/{data['message_id']}?raw=true").body
    assert (stored["messageText"], stored["rawData"]["subject"]) == ("Is it blue?", "A question")

    sent = running.key.ask(
        "POST",
        "projects/shop/messages/send",
        {
            "targets": [{"platformId": platform_id, "type": "user", "id": data["chat_id"]}],
            "content": {"subject": "Re: A question", "text": "It is."},
            "options": {"replyTo": data["provider_message_id"]},
        },
    )
    job = finished(running, sent.body["jobId"])
    our_id = job["delivery"]["results"][0]["providerMessageId"]
    [answer] = [each for each in postbox.messages if each["Message-ID"] == our_id]
    assert (answer["To"], answer["In-Reply-To"], answer["References"]) == (
        *("ann@example.org", f"<{asked}>", f"<{asked}>"),
    )

    answered = mail("Thanks", f"{uuid4()}@example.org", f"In-Reply-To: {our_id}", f"References: <{asked}> {our_id}")
    assert post(running, platform_id, answered).status == 200
    data = next_events(running, after, 2, types="message.received")[1]["data"]
    assert (data["text"], data["thread_id"], f"<{data['reply_to']}>") == ("Thanks", asked, our_id)


def test_a_bounce_tells_of_the_message_that_was_sent(running: Running, postbox: Postbox, platform_id: str) -> None:
    sent = running.key.ask(
        "POST",
        "projects/shop/messages/send",
        {
            "targets": [{"platformId": platform_id, "type": "user", "id": "bob@example.org"}],
            "content": {"subject": "Hi", "text": "Hello"},
        },
    )
    our_id = finished(running, sent.body["jobId"])["delivery"]["results"][0]["providerMessageId"]
    after = newest(running)
    status = "Final-Recipient: rfc822; Bob@example.org\nAction: failed\nDiagnostic-Code: smtp; 550 no such user\n"
    parts = (
        *(
            "Content-Type: text/plain\n\nSorry",
            f"Content-Type: message/delivery-status\n\nReporting-MTA: x\n\n{status}",
        ),
        f"Content-Type: text/rfc822-headers\n\nMessage-ID: {our_id}\n",
    )
    body = "".join(f"--b\n{part}\n" for part in parts) + "--b--\n"
    kind = "Content-Type: multipart/report; report-type=delivery-status; boundary=b"
    assert post(running, platform_id, mail(body, f"{uuid4()}@mx.example.net", kind)).status == 200
    [event] = next_events(running, after, 1, types="message.failed")
    data = event["data"]
    assert (data["provider_message_id"], data["chat_id"], data["error"]) == (
        our_id,
        "bob@example.org",
        "550 no such user",
    )


def test_what_a_mail_service_posts_as_a_form(running: Running, platform_id: str) -> None:
    after = newest(running)
    raw = mail("As a form", f"{uuid4()}@example.org", "Content-Type: text/plain; charset=utf-8") + b" \xc3\xa9"
    body = b'--X\r\nContent-Disposition: form-data; name="email"\r\n\r\n' + raw + b"\r\n--X--\r\n"
    kind = "multipart/form-data; boundary=X"
    assert [post(running, platform_id, body, kind).status for _ in range(2)] == [200, 200]
    assert post(running, platform_id, mail("Last", f"{uuid4()}@example.org")).status == 200
    texts = [event["data"]["text"] for event in next_events(running, after, 2)]
    assert texts == ["As a form \u00e9", "Last"]


def test_who_may_not_post(running: Running, postbox: Postbox, platform_id: str) -> None:
    body = mail("Let me in", f"{uuid4()}@example.org")
    assert post(running, platform_id, body, password="wrong").status == 401
    assert running.nobody.ask("POST", path_of(running, platform_id), body).status == 401
    without = add_email(running, postbox)
    for password in ("", SECRET):
        assert post(running, without, body, password=password).status == 401
    log = running.gateway.log.read_text()
    assert "set credentials.inboundSecret" in log
    assert SECRET not in log
    shown = running.key.ask("GET", f"projects/shop/platforms/{platform_id}")
    assert SECRET not in str(shown.body)


def finished(running: Running, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found: dict[str, Any] = running.key.ask("GET", f"projects/shop/messages/status/{job_id}").body
        if found["status"] in {"completed", "failed"}:
            return found
        time.sleep(0.02)
    raise AssertionError("the message was not sent")
