"""The short way of `send` answers like the API itself, and leaves it all that is not plain.

A request with an `Origin` header takes the long way; everything else about it is the same.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from api.conftest import Running
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE

LONG_WAY = {"Origin": "https://app.example.com"}
SEND = "projects/shop/messages/send"


@pytest.fixture(scope="module")
def platform_id(running: Running) -> str:
    return running.add_sandbox("fast")


def message(platform_id: str, **rest: Any) -> dict[str, Any]:
    return {"targets": [{"platformId": platform_id, "type": "user", "id": "ann"}], "content": {"text": "hi"}, **rest}


def steady(reply: Reply) -> tuple[int, dict[str, Any], dict[str, str]]:
    """A reply without what differs from request to request."""
    body = {name: value for name, value in reply.body.items() if name not in {"jobId", "timestamp", "requestId"}}
    headers = {name: reply.headers[name] for name in ("content-type",)}
    assert reply.headers["x-request-id"]
    return reply.status, body, headers


def both(client: ApiClient, body: Any, path: str = SEND, **headers: str) -> Reply:
    """Ask on both ways; the answers must not differ. Returns that of the short way."""
    short = client.ask("POST", path, body, **headers)
    long = client.ask("POST", path, body, **headers, **LONG_WAY)
    assert steady(short) == steady(long)
    return short


def test_a_plain_send(running: Running, platform_id: str) -> None:
    running.key.ask("GET", "auth/whoami")  # the key is known from here on
    reply = both(running.key, message(platform_id, metadata={"priority": "high"}))
    assert reply.status == 201
    job = running.key.ask("GET", f"projects/shop/messages/status/{reply.body['jobId']}")
    assert job.body["data"]["message"]["metadata"] == {"priority": "high"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"targets": []}', 400),
        (b'{"targets": [], "content": {"text": "\\u0000"}}', 400),
        (b'{"surprise": 1}', 400),
    ],
)
def test_errors_are_those_of_the_api(running: Running, body: bytes, status: int) -> None:
    assert both(running.key, body).status == status


def test_rules_beyond_the_shape(running: Running, platform_id: str) -> None:
    assert both(running.key, message(platform_id, options={"scheduled": "soon"})).status == 400
    assert both(running.key, message(platform_id), Idempotency_Key="x" * 300).status == 400
    assert both(running.key, message(platform_id), Content_Type="text/plain").status == 400


def test_callers_without_the_right(running: Running, platform_id: str) -> None:
    assert both(running.nobody, message(platform_id)).status == 401
    assert both(running.make_key("messages:read"), message(platform_id)).status == 403
    assert both(running.make_key("messages:write", project="other"), message(platform_id)).status == 404
    assert both(running.key, message(platform_id), "projects/other/messages/send").status == 404
    assert both(running.admin, message(platform_id)).status == 201


def test_the_ways_share_idempotency_keys(running: Running, platform_id: str) -> None:
    short = running.key.ask("POST", SEND, message(platform_id), Idempotency_Key="order-1")
    long = running.key.ask("POST", SEND, message(platform_id), Idempotency_Key="order-1", **LONG_WAY)
    assert short.body["jobId"] == long.body["jobId"]
    assert (short.body["replayed"], long.body["replayed"]) == (False, True)
    other = both(running.key, message(platform_id, content={"text": "other"}), Idempotency_Key="order-1")
    assert other.status == 422


def test_a_body_that_comes_in_pieces(running: Running, platform_id: str) -> None:
    """Of announced length, and chunked."""
    data = json.dumps(message(platform_id)).encode()
    for headers in ({"Content-Length": str(len(data))}, {"Transfer-Encoding": "chunked"}):
        connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
        connection.request(
            "POST",
            f"/api/v1/{SEND}",
            iter([data[:20], data[20:]]),
            {"Content-Type": "application/json", **running.key.headers, **headers},
            encode_chunked="Transfer-Encoding" in headers,
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["success"]) == (201, True)
        connection.close()


def test_other_methods_and_paths_are_not_its_business(running: Running) -> None:
    refused = running.key.ask("GET", SEND)
    assert (refused.status, refused.headers["allow"]) == (405, "OPTIONS, POST")
    assert running.key.ask("POST", "projects/shop/x/messages/send", {}).status == 404


def test_a_job_id_that_is_none(running: Running) -> None:
    for method, path in (
        ("GET", "status/123"),
        ("POST", "retry/123"),
        ("GET", f"status/{'0' * 8}-0000-7000-8000-000000000000"),
    ):
        reply = running.key.ask(method, f"projects/shop/messages/{path}")
        assert (reply.status, "jobId" in reply.body["message"]) == (404, True)
