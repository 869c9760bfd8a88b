"""Every field of `send` wrong in turn: a 4xx that names the field and the remedy, never a 5xx."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest

from servers.gateway import GatewayProcess
from servers.patience import PATIENCE

OTHER_ID = "01920000-0000-7000-8000-0000000000ff"


class Sender:
    """Posts raw bodies to `send` of a running gateway."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.key = gateway.set_up()
        self.platform_id = gateway.add_platform(self.key, "sandbox", {})
        self.email_id = gateway.add_platform(
            self.key, "email", {"smtpHost": "127.0.0.1", "smtpPort": 2525, "fromEmail": "shop@example.com"}
        )

    def good(self) -> dict[str, Any]:
        return {
            "targets": [{"platformId": self.platform_id, "type": "user", "id": "ann"}],
            "content": {"text": "hello"},
            "options": {"silent": True},
            "metadata": {"priority": "high", "tags": ["a"], "trackingId": "t"},
        }

    def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=PATIENCE)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused by its length, before it is sent whole
                connection.request(
                    "POST",
                    "/api/v1/projects/bench/messages/send",
                    body,
                    {"content-type": "application/json", "x-api-key": self.key, **headers},
                )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    with GatewayProcess(data_dir=tmp_path_factory.mktemp("gateway")) as gateway:
        yield Sender(gateway)


def put(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The body with one place changed; `...` deletes it."""
    changed: Any = deepcopy(body)
    place = changed
    *parents, last = path.split("/")
    for step in parents:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[int(step)]
    if value is ...:
        del place[last]
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return changed


CASES: list[tuple[str, Any, str]] = [
    ("targets", ..., "targets"),
    ("targets", None, "targets"),
    ("targets", "ann", "targets"),
    ("targets", [], "targets"),
    ("targets/0", 7, "targets"),
    ("targets/0/platformId", ..., "platformId"),
    ("targets/0/platformId", 7, "platformId"),
    ("targets/0/platformId", "", "platformId"),
    ("targets/0/platformId", "nonsense", "platformId"),
    ("targets/0/platformId", OTHER_ID, "platformId"),
    ("targets/0/platformId", "x" * 5000, "platformId"),
    ("targets/0/type", ..., "type"),
    ("targets/0/type", "planet", "type"),
    ("targets/0/type", 1, "type"),
    ("targets/0/id", ..., "id"),
    ("targets/0/id", "", "id"),
    ("targets/0/id", ["ann"], "id"),
    ("targets/0/id", "x" * 2000, "id"),
    ("targets/0/extra", 1, "extra"),
    ("content", ..., "content"),
    ("content", None, "content"),
    ("content", {}, "content"),
    ("content", [], "content"),
    ("content/text", 5, "text"),
    ("content/text", "x" * 1_000_001, "text"),
    ("content/subject", "x" * 999, "subject"),
    ("content/markdown", {}, "markdown"),
    ("content/html", 1.5, "html"),
    ("content/attachments", {}, "attachments"),
    ("content/attachments", [{}], "attachments"),
    ("content/attachments", [{"url": "ftp://x/y"}], "url"),
    ("content/attachments", [{"data": "!!!"}], "data"),
    ("content/attachments", [{"data": "aGk=", "url": "https://example.com/a"}], "attachments"),
    ("content/attachments", [{"data": "aGk=", "mimeType": "nonsense"}], "mimeType"),
    ("content/attachments", [{"data": "aGk=", "filename": ""}], "filename"),
    ("content/buttons", [{}], "buttons"),
    ("content/buttons", [{"text": "ok", "url": "javascript:x"}], "url"),
    ("content/buttons", [{"text": "ok", "value": "1", "style": "huge"}], "style"),
    ("content/embeds", [{"fields": [{"name": "x"}]}], "value"),
    ("content/embeds", [{"imageUrl": "x"}], "imageUrl"),
    ("content/platformOptions", [], "platformOptions"),
    ("content/platformOptions", {"Telegram": {}}, "did you mean telegram"),
    ("content/platformOptions", {"e-mail": {"cc": ["ann@example.com"]}}, "did you mean email"),
    ("content/unknown", 1, "unknown"),
    ("options", [], "options"),
    ("options/scheduled", "tomorrow", "scheduled"),
    ("options/scheduled", "2030-01-01T00:00:00", "scheduled"),
    ("options/scheduled", "9999-12-31T23:59:59+00:00", "scheduled"),
    ("options/scheduled", 5, "scheduled"),
    ("options/expiresAt", "2020-01-01T00:00:00Z", "expiresAt"),
    ("options/ordering", "sometimes", "ordering"),
    ("options/onUncertain", "panic", "onUncertain"),
    ("options/silent", "yes", "silent"),
    ("options/replyTo", "", "replyTo"),
    ("metadata", "x", "metadata"),
    ("metadata/priority", "urgent", "priority"),
    ("metadata/priority", {}, "priority"),
    ("options/ordering", [], "ordering"),
    ("metadata/tags", "a", "tags"),
    ("metadata/tags", [1], "tags"),
    ("metadata/trackingId", "x" * 300, "trackingId"),
]


@pytest.mark.parametrize(("path", "value", "word"), CASES, ids=[f"{c[0]}={str(c[1])[:30]}" for c in CASES])
def test_a_wrong_field_is_named(sender: Sender, path: str, value: Any, word: str) -> None:
    status, answer = sender.post(json.dumps(put(sender.good(), path, value)).encode())
    assert status == 400, answer
    text = json.dumps(answer)
    assert word in text
    assert answer["statusCode"] == 400
    assert answer["error"] == "Bad Request"
    assert answer["errors"], "no field is named"
    assert all(set(error) >= {"pointer", "message"} for error in answer["errors"])


def test_the_good_body_is_good(sender: Sender) -> None:
    status, answer = sender.post(json.dumps(sender.good()).encode())
    assert status == 201, answer


def test_10_000_targets_are_taken_and_10_001_refused(sender: Sender) -> None:
    for number, expected in ((10_000, 201), (10_001, 400)):
        targets = [{"platformId": sender.platform_id, "type": "user", "id": f"u{n}"} for n in range(number)]
        status, answer = sender.post(json.dumps({**sender.good(), "targets": targets}).encode())
        assert status == expected, str(answer)[:500]
    assert "targets" in json.dumps(answer)


def test_every_wrong_target_is_listed(sender: Sender) -> None:
    targets = [{"platformId": OTHER_ID, "type": "user", "id": str(n)} for n in range(5)]
    status, answer = sender.post(json.dumps({**sender.good(), "targets": targets}).encode())
    assert status == 400
    assert [error["pointer"] for error in answer["errors"]] == [f"/targets/{n}/platformId" for n in range(5)]
    assert len(answer["message"]) == 5


def test_rules_of_the_platform_are_checked_before_accepting(sender: Sender) -> None:
    body = sender.good()
    body["targets"] = [{"platformId": sender.email_id, "type": "user", "id": "not an address"}]
    status, answer = sender.post(json.dumps(body).encode())
    assert status == 400
    assert "/targets/0/id" in [error["pointer"] for error in answer["errors"]]


RAW_BODIES: dict[str, tuple[bytes, set[int]]] = {
    "nothing": (b"", {400}),
    "not JSON": (b"hello", {400}),
    "cut off": (b'{"targets": [', {400}),
    "null": (b"null", {400}),
    "a number": (b"5", {400}),
    "a list": (b"[]", {400}),
    "invalid UTF-8": (b'{"targets": "\xff\xfe"}', {400}),
    "a lone surrogate": (b'{"targets": [], "content": {"text": "\\ud800"}}', {400}),
    "deep nesting": (b'{"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {400}),
    "deep platformOptions": (
        b'{"targets":[],"content":{"platformOptions":{"a":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}}}",
        {400},
    ),
    "a huge number": (b'{"targets": ' + b"9" * 5000 + b"}", {400}),
    "20 MB": (b'{"x": "' + b"a" * 20_000_000 + b'"}', {413}),
}


@pytest.mark.parametrize("name", RAW_BODIES)
def test_broken_bodies(sender: Sender, name: str) -> None:
    body, expected = RAW_BODIES[name]
    status, answer = sender.post(body)
    assert status in expected, answer
    assert answer["message"]
    assert len(json.dumps(answer)) < 5000, "the answer repeats the body"


@pytest.mark.parametrize("key", ["", "x" * 256, "zażółć".encode().decode("latin-1")])
def test_a_bad_idempotency_key(sender: Sender, key: str) -> None:
    status, answer = sender.post(json.dumps(sender.good()).encode(), **{"Idempotency-Key": key})
    assert status == 400
    assert "Idempotency-Key" in json.dumps(answer)


def test_nothing_of_a_refused_request_is_kept(sender: Sender) -> None:
    body = sender.good()
    body["targets"].append({"platformId": OTHER_ID, "type": "user", "id": "bob"})
    assert sender.post(json.dumps(body).encode())[0] == 400
    found = sender.gateway.call("GET", "/api/v1/projects/bench/messages/sent?limit=100", x_api_key=sender.key)
    assert all(message["targetChatId"] != "bob" for message in found["messages"])
