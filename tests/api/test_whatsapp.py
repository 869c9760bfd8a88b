"""WhatsApp through the API: the handshake of its webhook, a signed message, and the QR code that links a device."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from api.conftest import Running
from api.test_receiving import newest, next_events, path_of
from platforms.whatsapp_cloud.facts import FACTS
from servers.facts import samples_of

SECRET, WORD = "0123456789abcdef0123456789abcdef", "a-word-of-mine"
PICTURE = "data:image/png;base64,iVBORw0KGgo="


def add(running: Running, platform: str, **credentials: Any) -> str:
    body = {"platform": platform, "name": "wa", "credentials": credentials}
    made = running.key.ask("POST", "projects/shop/platforms", body)
    assert made.status == 201, made
    return str(made.body["id"])


@pytest.fixture(scope="module")
def evolution() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server that answers each GET with what is put into the dictionary."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers).encode()
            self.send_response(200 if self.headers["apikey"] == "k" * 32 else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()


def test_meta_enters_the_webhook_and_posts_to_it(running: Running) -> None:
    number = "106540352242922"
    platform_id = add(
        running, "whatsapp-cloud", accessToken="EAAJB", phoneNumberId=number, appSecret=SECRET, verifyToken=WORD
    )
    path, after = path_of(running, platform_id), newest(running)
    question = "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    answer = running.nobody.ask("GET", path + question + WORD)
    assert (answer.status, answer.body) == (200, 1158201444)
    assert answer.headers["content-type"].startswith("text/plain")
    assert running.nobody.ask("GET", path + question + "another").status == 401
    body = next(sample.content for sample in samples_of("whatsapp-cloud") if sample.name == "text")
    signature = f"sha256={hmac.new(SECRET.encode(), body, sha256).hexdigest()}"
    assert running.nobody.ask("POST", path, body, X_Hub_Signature_256=signature).status == 200
    assert running.nobody.ask("POST", path, body, X_Hub_Signature_256="sha256=00").status == 401
    [event] = next_events(running, after, 1)
    assert (event["event"], event["data"]["text"]) == ("message.received", "Does it come in another color?")
    assert FACTS.sign is not None


def test_the_qr_code_links_a_device(running: Running, evolution: tuple[str, dict[str, Any]]) -> None:
    url, answers = evolution
    platform_id = add(running, "whatsapp-evo", evolutionApiUrl=url, evolutionApiKey="k" * 32)
    path = f"projects/shop/platforms/{platform_id}"
    for told, status, code in (
        ({"base64": PICTURE, "count": 1}, "ready", PICTURE),
        ({"count": 0}, "pending", None),
        ({"instance": {"state": "open"}}, "linked", None),
    ):
        answers.clear()
        answers.update(told)
        answer = running.key.ask("GET", f"{path}/qr-code")
        assert answer.status == 200, answer
        assert (answer.body["status"], answer.body["qrCode"]) == (status, code)
        assert answer.body["message"]
        assert answer.headers["cache-control"] == "no-store"
    assert running.make_key("platforms:read").ask("GET", f"{path}/qr-code").status == 403
    assert running.key.ask("PATCH", path, {"isActive": False}).status == 200
    assert running.key.ask("GET", f"{path}/qr-code").status == 400


def test_no_qr_code_without_a_device_a_server_or_the_platform(running: Running) -> None:
    sandbox = running.add_sandbox("no device")
    answer = running.key.ask("GET", f"projects/shop/platforms/{sandbox}/qr-code")
    assert (answer.status, "not supported by sandbox" in str(answer.body)) == (400, True)
    away = add(running, "whatsapp-evo", evolutionApiUrl="http://127.0.0.1:2", evolutionApiKey="k" * 32)
    answer = running.key.ask("GET", f"projects/shop/platforms/{away}/qr-code")
    assert (answer.status, "Failed to get the QR code" in str(answer.body)) == (400, True)
    assert "k" * 32 not in str(answer.body)
    assert running.key.ask("GET", f"projects/other/platforms/{away}/qr-code").status in (403, 404)
