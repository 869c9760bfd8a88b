"""Twilio's requests to a running gateway: signed for the address that the platform's page shows."""

from __future__ import annotations

import http.client
from urllib.parse import parse_qsl, urlsplit

from api.conftest import Running
from api.test_receiving import newest, next_events
from msgcore.platforms.twilio_sms.inbound import sign
from servers.facts import samples_of

TOKEN = "0123456789abcdef0123456789abcdef"
CREDENTIALS = {"accountSid": "AC" + TOKEN, "authToken": TOKEN, "from": "+15017122661"}


def post(running: Running, url: str, body: bytes, signature: str) -> tuple[int, str | None, bytes]:
    """What a form is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=30)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signature}
    try:
        connection.request("POST", urlsplit(url).path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        connection.close()


def test_a_message_and_a_receipt_come_in_by_the_address_that_twilio_was_given(running: Running) -> None:
    given = {"platform": "twilio-sms", "name": "sms", "credentials": CREDENTIALS}
    platform_id = running.key.ask("POST", "projects/shop/platforms", given).body["id"]
    url = running.key.ask("GET", f"projects/shop/platforms/{platform_id}").body["webhookUrl"]
    after = newest(running)
    for name in ("text", "undelivered"):
        [body] = [sample.content for sample in samples_of("twilio-sms") if sample.name == name]
        fields = parse_qsl(body.decode(), keep_blank_values=True)
        assert post(running, url, body, sign(TOKEN, "http://another.example/", fields))[0] == 401
        status, content_type, answer = post(running, url, body, sign(TOKEN, url, fields))
        assert (status, (content_type or "").partition(";")[0]) == (200, "text/xml")
        assert answer.endswith(b"<Response/>")
    message, receipt = next_events(running, after, 2)
    assert (message["event"], message["data"]["text"]) == ("message.received", "twilio-go testing!")
    assert (message["data"]["chat_id"], message["data"]["user_id"]) == ("+19253920364", "+19253920364")
    assert receipt["event"] == "message.failed"
    assert "30003" in str(receipt["data"])
    # Before it is taken apart, which is the work that a forger could have us do.
    assert post(running, url, b"a=b&" * 100_000, sign(TOKEN, url, []))[0] == 413
