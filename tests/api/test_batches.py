"""Batches over HTTP: every form of the body, all or nothing, every error, progress, pages, cancelling."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from api.conftest import Running
from servers.api_client import Reply
from servers.patience import PATIENCE

BATCH = "projects/shop/messages/batch"
SETTINGS = {"MSGCORE_MAX_BODY_BYTES": str(4 * 1024 * 1024)}


@pytest.fixture(scope="module")
def platform_id(running: Running) -> str:
    return running.add_sandbox("batches")


def message(platform_id: str, to: str, **rest: Any) -> dict[str, Any]:
    return {"targets": [{"platformId": platform_id, "type": "user", "id": to}], "content": {"text": f"hi {to}"}, **rest}


def later(platform_id: str, *to: str) -> list[dict[str, Any]]:
    """Messages that stay in the queue."""
    return [message(platform_id, target, options={"scheduled": "2035-01-01T00:00:00Z"}) for target in to]


def lines(messages: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in messages)


def send(running: Running, body: Any, **headers: str) -> Reply:
    return running.key.ask("POST", BATCH, body, **headers)


def send_lines(running: Running, body: bytes, **headers: str) -> Reply:
    return send(running, body, Content_Type="application/x-ndjson", **headers)


def progress(running: Running, batch_id: str) -> dict[str, Any]:
    found = running.key.ask("GET", f"projects/shop/messages/batches/{batch_id}")
    assert found.status == 200, found
    return found.body


def wait_until_done(running: Running, batch_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (found := progress(running, batch_id))["status"] != "completed":
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def counts(found: dict[str, Any]) -> dict[str, int]:
    return {state: number for state, number in found["counts"].items() if number}


def stored(running: Running) -> int:
    metrics = running.key.ask("GET", "projects/shop/messages/queue/metrics").body
    return sum(number for name, number in metrics.items() if name != "total")


def pointers(reply: Reply) -> list[str]:
    return [error["pointer"] for error in reply.body["errors"]]


class TestForms:
    @pytest.mark.parametrize("form", ["list", "object", "lines"])
    def test_each_form_of_the_body(self, running: Running, platform_id: str, form: str) -> None:
        messages = [message(platform_id, f"{form}-{number}") for number in range(3)]
        if form == "lines":
            reply = send_lines(running, lines(messages).replace(b"\n", b"\r\n\n").rstrip())
        else:
            reply = send(running, messages if form == "list" else {"messages": messages})
        assert reply.status == 201, reply
        assert (reply.body["messages"], reply.body["deliveries"], reply.body["replayed"]) == (3, 3, False)
        for number, job_id in enumerate(reply.body["jobIds"]):
            job = running.key.ask("GET", f"projects/shop/messages/status/{job_id}").body
            assert job["data"]["message"]["content"] == {"text": f"hi {form}-{number}"}
        assert counts(wait_until_done(running, reply.body["batchId"])) == {"sent": 3}

    def test_lines_that_come_in_pieces(self, running: Running, platform_id: str) -> None:
        """Cut in the middle of lines and of characters, without announcing a length."""
        body = lines(message(platform_id, f"Zoë-{number}") for number in range(50))
        body = body.replace(b"\\u00eb", "ë".encode())
        pieces = [body[start : start + 17] for start in range(0, len(body), 17)]
        connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked", **running.key.headers}
        connection.request("POST", f"/api/v1/{BATCH}", iter(pieces), headers, encode_chunked=True)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        assert (answer.status, found["messages"]) == (201, 50)
        job = running.key.ask("GET", f"projects/shop/messages/status/{found['jobIds'][49]}").body
        assert job["data"]["message"]["content"] == {"text": "hi Zoë-49"}

    def test_ten_thousand_messages(self, running: Running, platform_id: str) -> None:
        messages = [message(platform_id, f"many-{number}") for number in range(10_000)]
        reply = send(running, messages)
        assert reply.status == 201, reply
        assert (reply.body["messages"], reply.body["deliveries"]) == (10_000, 10_000)
        assert reply.body["jobIds"] == sorted(set(reply.body["jobIds"]))
        done = wait_until_done(running, reply.body["batchId"])
        assert (done["progress"], done["open"], counts(done)) == (100, 0, {"sent": 10_000})


class TestRefused:
    """Nothing is stored, and every error is listed."""

    @pytest.fixture(autouse=True)
    def nothing_is_stored(self, running: Running) -> Iterable[None]:
        before = stored(running)
        yield
        assert stored(running) == before

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "not valid JSON"),
            (b"[", "not valid JSON"),
            (b"{}", "must be a JSON list"),
            (b"7", "must be a JSON list"),
            (b'{"messages": {}}', "must be a JSON list"),
            (b'{"messages": [], "more": 1}', "must be a JSON list"),
            (b"[]", "1 to 10000 messages"),
            (b'{"messages": []}', "1 to 10000 messages"),
            (b"\xff", "not valid"),
        ],
    )
    def test_what_is_no_batch(self, running: Running, body: bytes, words: str) -> None:
        reply = send(running, body)
        assert reply.status == 400, reply
        assert words in reply.body["detail"]

    def test_no_lines_at_all(self, running: Running) -> None:
        reply = send_lines(running, b"\n \n")
        assert (reply.status, "1 to 10000 messages" in reply.body["detail"]) == (400, True)

    def test_another_type_of_body(self, running: Running) -> None:
        reply = send(running, b"a,b", Content_Type="text/csv")
        assert reply.status == 400
        assert "application/x-ndjson" in reply.body["detail"]

    def test_every_error_of_every_message(self, running: Running, platform_id: str) -> None:
        good = message(platform_id, "ann")
        unknown = message("0190a000-0000-7000-8000-000000000009", "ann")
        body = [
            good,
            {**good, "content": {}},
            {**good, "surprise": 1, "targets": []},
            "ann",
            {**good, "targets": good["targets"] * 2},
            unknown,
            {**good, "content": {"text": "\0"}},
            {**good, "options": {"scheduled": "soon"}},
            message(platform_id, "x" * 300),
        ]
        reply = send(running, body)
        assert reply.status == 400, reply
        assert sorted(pointers(reply)) == [
            "/messages/1/content",
            "/messages/2/surprise",
            "/messages/2/targets",
            "/messages/3",
            "/messages/4/targets/1",
            "/messages/5/targets/0/platformId",
            "/messages/6/content/text",
            "/messages/7/options/scheduled",
            "/messages/8/targets/0/id",
        ]
        found = {error["pointer"]: error["message"] for error in reply.body["errors"]}
        assert found["/messages/3"].startswith("messages[3]: the message must be an object")
        assert found["/messages/2/surprise"].startswith("messages[2]: surprise is not a field")
        assert "9 errors" in reply.body["detail"]

    def test_a_broken_line(self, running: Running, platform_id: str) -> None:
        good = lines([message(platform_id, "ann")])
        reply = send_lines(running, good + b"\n" + good + b'{"targets": [\n' + good)
        assert (reply.status, pointers(reply)) == (400, ["/messages/2"])
        assert reply.body["message"][0].startswith("messages[2] (line 4): the message is not valid JSON")

    def test_the_first_hundred_errors_and_how_many_more(self, running: Running, platform_id: str) -> None:
        good = message(platform_id, "ann")
        reply = send(running, [{**good, "content": {}}, {**good, "surprise": 1}] * 150)
        assert (reply.status, len(reply.body["errors"])) == (400, 100)
        assert pointers(reply)[0] == "/messages/1/surprise"
        assert "100 errors; 200 more of its messages have errors" in reply.body["detail"]
        for broken in ({**good, "content": {"text": "\0"}}, {**good, "content": 7}):
            reply = send(running, [broken] * 150)
            assert (len(reply.body["errors"]), "; 50 more" in reply.body["detail"]) == (100, True)

    def test_too_many_messages(self, running: Running, platform_id: str) -> None:
        body = [message(platform_id, str(number)) for number in range(10_001)]
        for reply in (send(running, body), send_lines(running, lines(body))):
            assert (reply.status, pointers(reply)) == (400, ["/messages"])
            assert "at most 10000 messages" in reply.body["detail"]

    def test_too_many_targets(self, running: Running, platform_id: str) -> None:
        targets = [{"platformId": platform_id, "type": "user", "id": str(number)} for number in range(5001)]
        reply = send(running, [{"targets": targets, "content": {"text": "hi"}}] * 2)
        assert (reply.status, pointers(reply)) == (400, ["/messages"])
        assert "at most 10000 targets, not 10002" in reply.body["detail"]

    def test_too_many_bytes(self, running: Running, platform_id: str) -> None:
        for media_type in ("application/json", "application/x-ndjson"):
            connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
            with suppress(BrokenPipeError, ConnectionResetError):
                headers = {"Content-Type": media_type, **running.key.headers}
                connection.request("POST", f"/api/v1/{BATCH}", b"[" + b" " * 4 * 1024 * 1024, headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            connection.close()
            assert answer.status == 413
            assert "split a batch, or raise MSGCORE_MAX_BODY_BYTES" in found["message"]

    def test_callers_without_the_right(self, running: Running, platform_id: str) -> None:
        body = [message(platform_id, "ann")]
        assert running.nobody.ask("POST", BATCH, body).status == 401
        assert running.make_key("messages:read").ask("POST", BATCH, body).status == 403
        assert running.key.ask("POST", "projects/other/messages/batch", body).status == 404
        other = running.make_key("messages:write", project="other")
        assert other.ask("POST", "projects/other/messages/batch", body).status == 400, "another project's platform"


class TestIdempotency:
    def test_the_first_answer_comes_again(self, running: Running, platform_id: str) -> None:
        body = [message(platform_id, "again-1"), message(platform_id, "again-2")]
        first = send(running, body, Idempotency_Key="batch-1")
        again = send_lines(running, lines(body), Idempotency_Key="batch-1")
        assert (first.status, again.status, again.body["replayed"]) == (201, 201, True)
        for name in ("batchId", "jobIds", "timestamp", "messages", "deliveries"):
            assert first.body[name] == again.body[name]
        assert send(running, body[:1], Idempotency_Key="batch-1").status == 422
        single = running.key.ask("POST", "projects/shop/messages/send", body[0], Idempotency_Key="batch-1")
        assert single.status == 422
        other_key = running.make_key("messages:write").ask("POST", BATCH, body, Idempotency_Key="batch-1")
        assert (other_key.status, other_key.body["replayed"]) == (201, False)

    def test_many_at_once_are_one(self, running: Running, platform_id: str) -> None:
        body = [message(platform_id, f"once-{number}") for number in range(20)]
        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: send(running, body, Idempotency_Key="once"), range(12)))
        assert [reply.status for reply in replies] == [201] * 12
        assert len({reply.body["batchId"] for reply in replies}) == 1
        assert len({tuple(reply.body["jobIds"]) for reply in replies}) == 1
        assert sorted(reply.body["replayed"] for reply in replies) == [False] + [True] * 11

    def test_nothing_is_accepted_of_a_client_that_left(self, running: Running) -> None:
        # A platform that renders: all these texts take much longer than it takes to see that nobody is there.
        credentials = {"token": "123456789:AAFabcdefghijklmnopqrstuvwxyz0123456"}
        made = {"platform": "telegram", "name": "left", "credentials": credentials}
        platform_id = running.key.ask("POST", "projects/shop/platforms", made).body["id"]
        body = [{**one, "content": {"markdown": "_a_ " * 3000}} for one in later(platform_id, *map(str, range(1, 17)))]
        connection = http.client.HTTPConnection("127.0.0.1", running.gateway.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", "Idempotency-Key": "left", **running.key.headers}
        connection.request("POST", f"/api/v1/{BATCH}", json.dumps(body).encode(), headers)
        connection.close()
        again = send(running, body, Idempotency_Key="left")
        assert (again.status, again.body["replayed"]) == (201, False)

    def test_also_when_it_would_be_refused_by_now(self, running: Running) -> None:
        platform_id = running.add_sandbox("switched off")
        body = [message(platform_id, "ann")]
        first = send(running, body, Idempotency_Key="off")
        wait_until_done(running, first.body["batchId"])
        off = running.key.ask("PATCH", f"projects/shop/platforms/{platform_id}", {"isActive": False})
        assert off.status == 200
        assert send(running, body).status == 400
        again = send(running, body, Idempotency_Key="off")
        assert (again.status, again.body["jobIds"], again.body["replayed"]) == (201, first.body["jobIds"], True)
        assert send(running, body, Idempotency_Key="other").status == 400

    def test_a_key_that_is_none(self, running: Running, platform_id: str) -> None:
        reply = send(running, [message(platform_id, "ann")], Idempotency_Key="x" * 300)
        assert (reply.status, pointers(reply)) == (400, ["/headers/Idempotency-Key"])


class TestAfterwards:
    def test_pages_of_messages_with_what_became_of_them(self, running: Running, platform_id: str) -> None:
        body = [
            message(platform_id, "ann", metadata={"trackingId": "t-1"}),
            message(platform_id, "fail-permanent"),
            *later(platform_id, "bob"),
        ]
        reply = send(running, body)
        batch_id = reply.body["batchId"]
        deadline = time.monotonic() + PATIENCE
        while counts(progress(running, batch_id)) != {"sent": 1, "failed": 1, "scheduled": 1}:
            assert time.monotonic() < deadline, progress(running, batch_id)
            time.sleep(0.02)
        found = progress(running, batch_id)
        assert (found["status"], found["progress"], found["open"], found["messages"]) == ("active", 66, 1, 3)
        path = f"projects/shop/messages/batches/{batch_id}/messages"
        first = running.key.ask("GET", f"{path}?limit=2").body
        rest = running.key.ask("GET", f"{path}?limit=2&after={first['next']}").body
        assert rest["next"] is None
        listed = [*first["messages"], *rest["messages"]]
        assert [one["jobId"] for one in listed] == reply.body["jobIds"]
        assert [one["trackingId"] for one in listed] == ["t-1", None, None]
        assert [
            (one["summary"]["successful"], one["summary"]["failed"], one["summary"]["pending"]) for one in listed
        ] == [
            (1, 0, 0),
            (0, 1, 0),
            (0, 0, 1),
        ]

    def test_cancelling_what_waits(self, running: Running, platform_id: str) -> None:
        reply = send(running, [message(platform_id, "ann"), *later(platform_id, *"abc")])
        batch_id = reply.body["batchId"]
        deadline = time.monotonic() + PATIENCE
        while counts(progress(running, batch_id)) != {"sent": 1, "scheduled": 3}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        cancelled = running.key.ask("POST", f"projects/shop/messages/batches/{batch_id}/cancel")
        assert cancelled.status == 200, cancelled
        assert (cancelled.body["cancelled"], cancelled.body["tooLate"], cancelled.body["sending"]) == (3, 1, 0)
        assert counts(progress(running, batch_id)) == {"sent": 1, "cancelled": 3}
        again = running.key.ask("POST", f"projects/shop/messages/batches/{batch_id}/cancel")
        assert (again.status, again.body["cancelled"]) == (200, 0)

    def test_cancelling_while_it_is_being_sent(self, running: Running, platform_id: str) -> None:
        """Each delivery is cancelled or sent, and what the answer said is what happened."""
        reply = send(running, [message(platform_id, f"slow-20ms:{number}") for number in range(1500)])
        batch_id = reply.body["batchId"]
        deadline = time.monotonic() + PATIENCE
        while not counts(progress(running, batch_id)).get("sent"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        cancelled = running.key.ask("POST", f"projects/shop/messages/batches/{batch_id}/cancel").body
        done = counts(wait_until_done(running, batch_id))
        assert cancelled["cancelled"] > 0
        assert done == {"sent": cancelled["tooLate"], "cancelled": cancelled["cancelled"]}
        assert sum(done.values()) == 1500

    def test_batches_that_are_none(self, running: Running, platform_id: str) -> None:
        batch_id = send(running, later(platform_id, "ann")).body["batchId"]
        other = running.make_key("messages:read", "messages:write", project="other")
        for client, project, unknown in (
            (running.key, "shop", "123"),
            (running.key, "shop", "0190a000-0000-7000-8000-000000000009"),
            (other, "other", batch_id),
        ):
            path = f"projects/{project}/messages/batches/{unknown}"
            for method, suffix in (("GET", ""), ("GET", "/messages"), ("POST", "/cancel")):
                reply = client.ask(method, path + suffix)
                assert (reply.status, "batchId" in reply.body["message"]) == (404, True), reply
        assert counts(progress(running, batch_id)) == {"scheduled": 1}
