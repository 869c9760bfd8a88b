"""From an event to a customer's endpoint: in order, signed, at least once, for its own project alone."""

from __future__ import annotations

import base64
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from standardwebhooks import WebhookVerificationError

from api.conftest import ALL_SCOPES, Running
from api.inbound import add_sandbox, ask, in_database, make_project, send, stored
from msgcore.core.events import EVENT_WEBHOOK, realm_of
from msgcore.store.events import NewEvent, append
from msgcore.store.tables import deliveries, messages, webhook_deliveries, webhooks
from servers.api_client import Reply
from servers.gateway import free_port
from servers.patience import PATIENCE
from servers.webhook_sink import Posted, WebhookSink

NOBODYS_ID = "0" * 35 + "1"
PLANTED = "whsec_" + base64.b64encode(b"planted-secret-of-a-receiver!").decode()
SETTINGS = {"MSGCORE_LOG_LEVEL": "debug"}


@pytest.fixture
def sink() -> Iterator[WebhookSink]:
    with WebhookSink() as server:
        yield server


@pytest.fixture
def project(running: Running) -> str:
    return make_project(running)


def subscribe(running: Running, project: str, url: str, *events: str, **more: Any) -> dict[str, Any]:
    body = {"name": "hook", "url": url, "events": list(events) or ["*"]} | more
    made: dict[str, Any] = ask(running, project, "POST", "/webhooks", body)
    return made


class Source:
    """A sandbox whose users write: each message is an event."""

    def __init__(self, running: Running, project: str) -> None:
        self._running, self._project = running, project
        found = ask(running, project, "GET", f"/platforms/{add_sandbox(running, project)}")
        self._path = found["webhookUrl"].partition("/api/v1/")[2]

    def say(self, *texts: str) -> None:
        for text in texts:
            report = {
                "chat": {"id": "room", "type": "group"},
                "author": {"id": "ann"},
                "content": {"kind": "message", "id": f"m-{uuid4().hex}", "text": text},
            }
            reply = self._running.nobody.ask("POST", self._path, report)
            assert reply.status in {200, 202, 204}, reply

    def settled(self, number: int) -> None:
        """Wait until the log has so many events."""
        wait_until(lambda: self.newest() >= number, self.newest)

    def newest(self) -> int:
        return int(ask(self._running, self._project, "GET", "/events")["next"])


def wait_until(is_so: Callable[[], bool], show: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, show()
        time.sleep(0.02)


def texts(posted: Any) -> list[str]:
    return [each.body["data"]["message"]["text"] if "message" in each.body["data"] else each.body["data"]["text"]
            for each in posted]  # fmt: skip


def listed(running: Running, project: str, webhook_id: str, query: str = "") -> list[dict[str, Any]]:
    page = ask(running, project, "GET", f"/webhooks/{webhook_id}/deliveries{query}")
    found: list[dict[str, Any]] = page["deliveries"]
    return found


def wait_listed(running: Running, project: str, webhook_id: str, **statuses: int) -> list[dict[str, Any]]:
    def counted() -> dict[str, int]:
        found = [each["status"] for each in listed(running, project, webhook_id)]
        return {status: found.count(status) for status in set(found)}

    wait_until(lambda: counted() == statuses, counted)
    return listed(running, project, webhook_id)


def fail_since(running: Running, webhook_id: str, ago: timedelta) -> None:
    """Let it have failed since some time ago."""
    since = datetime.now(UTC) - ago
    change = update(webhooks).where(webhooks.c.id == webhook_id).values(failing_since=since)
    in_database(running, lambda connection: connection.execute(change))


class TestPosting:
    def test_an_event_is_posted_signed_as_subscribers_of_the_log_get_it(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        hook = subscribe(running, project, sink.url(), "message.received")
        Source(running, project).say("h\u00e9llo")
        (posted,) = sink.wait(1)
        body = posted.verify(hook["secret"])
        assert body == ask(running, project, "GET", "/events?after=0")["events"][0]
        assert (body["event"], body["project_id"]) == ("message.received", project)
        assert posted.headers["X-MsgCore-Event"] == "message.received"
        assert posted.headers["X-MsgCore-Timestamp"] == body["timestamp"]
        assert posted.headers["Content-Type"] == "application/json"
        (shown,) = wait_listed(running, project, hook["id"], success=1)
        assert shown["eventId"] == posted.headers["webhook-id"]
        expected = {"event": "message.received", "responseCode": 200, "responseBody": "ok", "error": None}
        expected |= {"attempts": 1, "payload": body, "nextAttemptAt": None}
        assert {name: shown[name] for name in expected} == expected
        made = ask(running, project, "POST", "/keys", {"name": "r", "scopes": ["webhooks:read"]})
        reader = running.nobody.as_key(made["key"])
        (hidden,) = reader.ask("GET", f"projects/{project}/webhooks/{hook['id']}/deliveries").body["deliveries"]
        assert (hidden["responseBody"], hidden["payload"]["data"]) == (None, None), "it may repeat the payload"
        assert shown["deliveredAt"] >= shown["createdAt"]
        assert shown["durationMs"] >= 0
        stats = ask(running, project, "GET", f"/webhooks/{hook['id']}")["stats"]
        assert stats == {"total": 1, "successful": 1, "failed": 0, "pending": 0, "successRate": "100.00%"}

    def test_each_webhook_gets_what_it_subscribed_to_from_when_it_was_made(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        source = Source(running, project)
        source.say("before")
        source.settled(1)
        subscribe(running, project, sink.url("/messages"), "message.received")
        subscribe(running, project, sink.url("/all"))
        ask(running, project, "POST", "/pause", {"reason": "x"})
        source.say("a", "b")
        assert [posted.body["event"] for posted in sink.wait(3, "/all")].count("project.paused") == 1
        assert sorted(texts(sink.wait(2, "/messages"))) == ["a", "b"]
        assert {posted.body["event"] for posted in sink.at("/messages")} == {"message.received"}
        ids = {posted.body["id"]: posted.headers["webhook-id"] for posted in sink.at("/all")}
        assert all(ids[posted.body["id"]] == posted.headers["webhook-id"] for posted in sink.at("/messages"))

    def test_a_secret_of_the_callers_own_signs_with_its_bytes(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        subscribe(running, project, sink.url(), secret="a text of mine, long enough")
        Source(running, project).say("x")
        (posted,) = sink.wait(1)
        posted.verify(b"a text of mine, long enough")
        posted.verify_compatible("a text of mine, long enough")

    def test_both_secrets_sign_while_they_overlap(self, running: Running, project: str, sink: WebhookSink) -> None:
        hook = subscribe(running, project, sink.url())
        rotated = ask(running, project, "POST", f"/webhooks/{hook['id']}/rotate-secret", {"overlapHours": 1})
        source = Source(running, project)
        source.say("x")
        (posted,) = sink.wait(1)
        posted.verify(rotated["secret"])
        with pytest.raises(AssertionError):
            posted.verify_compatible(hook["secret"])
        posted.verify(base64.b64decode(hook["secret"].removeprefix("whsec_")))
        last = ask(running, project, "POST", f"/webhooks/{hook['id']}/rotate-secret", {"overlapHours": 0})
        source.say("y")
        posted = sink.wait(2)[1]
        posted.verify(last["secret"])
        with pytest.raises(WebhookVerificationError):
            posted.verify(rotated["secret"])

    def test_what_is_switched_off_gets_nothing_and_goes_on_with_what_comes_then(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        hook = subscribe(running, project, sink.url())
        witness = subscribe(running, project, sink.url("/witness"))
        source = Source(running, project)
        ask(running, project, "PATCH", f"/webhooks/{hook['id']}", {"isActive": False})
        source.say("while off")
        sink.wait(1, "/witness")
        assert listed(running, project, hook["id"]) == []
        ask(running, project, "PATCH", f"/webhooks/{hook['id']}", {"isActive": True})
        source.say("on again")
        assert texts(sink.wait(1)) == ["on again"]
        wait_listed(running, project, witness["id"], success=2)

    def test_what_waits_for_one_that_is_switched_off_goes_out_when_it_is_on_again(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        hook = subscribe(running, project, sink.url())
        sink.answer = lambda _: 500
        Source(running, project).say("x")
        wait_until(lambda: bool(sink.refused), lambda: "nothing came")
        ask(running, project, "PATCH", f"/webhooks/{hook['id']}", {"isActive": False})
        sink.answer = lambda _: 200
        ask(running, project, "PATCH", f"/webhooks/{hook['id']}", {"isActive": True})
        assert texts(sink.wait(1)) == ["x"]

    def test_nobody_else_gets_them(self, running: Running, project: str, sink: WebhookSink) -> None:
        other = make_project(running)
        mine = subscribe(running, project, sink.url("/mine"))
        theirs = subscribe(running, other, sink.url("/theirs"))
        Source(running, other).say("theirs")
        Source(running, project).say("mine")
        assert texts(sink.wait(1, "/mine")) == ["mine"]
        assert texts(sink.wait(1, "/theirs")) == ["theirs"]
        assert sink.at("/mine")[0].verify(mine["secret"])["project_id"] == project
        assert sink.at("/theirs")[0].verify(theirs["secret"])["project_id"] == other
        wait_listed(running, project, mine["id"], success=1)
        wait_listed(running, other, theirs["id"], success=1)


class TestFailures:
    def test_an_ordered_webhook_keeps_the_order_when_some_fail(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        hook = subscribe(running, project, sink.url(), isOrdered=True)
        failing = {"2", "5"}

        def answer(posted: Posted) -> int:
            (text,) = texts([posted])
            if text in failing:
                failing.discard(text)
                return 400
            return 200

        sink.answer = answer
        said = [str(number) for number in range(8)]
        Source(running, project).say(*said)
        assert texts(sink.wait(8)) == said
        assert sorted(texts(sink.refused)) == ["2", "5"]
        assert [posted.body["id"] for posted in sink.taken] == list(range(1, 9))
        again = {posted.headers["webhook-id"] for posted in sink.refused}
        assert again < {posted.headers["webhook-id"] for posted in sink.taken}
        shown = wait_listed(running, project, hook["id"], success=8)
        assert [each["attempts"] for each in reversed(shown)] == [1, 1, 2, 1, 1, 2, 1, 1]

    def test_a_receiver_that_was_down_gets_everything(self, running: Running, project: str) -> None:
        sink = WebhookSink()
        hook = subscribe(running, project, sink.url())
        said = [str(number) for number in range(30)]
        Source(running, project).say(*said)
        wait_until(lambda: any(each["attempts"] for each in listed(running, project, hook["id"])), lambda: "no attempt")
        waiting = [each for each in listed(running, project, hook["id"]) if each["attempts"]]
        assert {each["status"] for each in waiting} == {"pending"}
        assert (waiting[0]["responseCode"], waiting[0]["error"]) == (
            None,
            "Cannot connect to 127.0.0.1: refused or unreachable",
        )
        assert waiting[0]["nextAttemptAt"] > waiting[0]["createdAt"]
        assert ask(running, project, "GET", f"/webhooks/{hook['id']}")["failingSince"] is not None
        with sink:
            assert sorted(texts(sink.wait(30)), key=int) == said
            wait_listed(running, project, hook["id"], success=30)
        wait_until(
            lambda: ask(running, project, "GET", f"/webhooks/{hook['id']}")["failingSince"] is None,
            lambda: "it fails still",
        )

    @pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
    def test_a_gateway_that_stops_and_starts_again_loses_nothing(
        self, running: Running, project: str, sink: WebhookSink, end: signal.Signals
    ) -> None:
        hook = subscribe(running, project, sink.url(), isOrdered=True)
        source = Source(running, project)
        said = [str(number) for number in range(40)]
        source.say(*said[:20])
        running.gateway.kill(end)
        running.gateway.start()
        source.say(*said[20:])
        wait_until(lambda: "39" in texts(sink.at()), lambda: texts(sink.at()))
        assert list(dict.fromkeys(texts(sink.at()))) == said, (
            "each is there, in order; what was under way may come twice"
        )
        made = [
            row.payload["id"]
            for row in stored(running, webhook_deliveries, webhook_deliveries.c.webhook_id == hook["id"])
        ]
        assert sorted(made) == list(range(1, 41))

    def test_answers_are_kept_up_to_four_kilobytes_and_redirects_are_not_followed(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        hook = subscribe(running, project, sink.url())
        sink.answer, sink.answer_body = (lambda _: 302), "\u00e9\0" * 3000
        sink.answer_headers = {"Location": sink.url("/elsewhere")}
        Source(running, project).say("x")
        wait_until(lambda: any(each["attempts"] for each in listed(running, project, hook["id"])), lambda: "no attempt")
        (shown,) = listed(running, project, hook["id"])
        assert (shown["responseCode"], len(shown["responseBody"])) == (302, 2048)
        assert "redirects are not followed" in shown["error"]
        assert {posted.path for posted in sink.refused} == {"/"}

    def test_one_that_is_gone_is_switched_off_at_once(self, running: Running, project: str, sink: WebhookSink) -> None:
        hook = subscribe(running, project, sink.url("/gone"))
        subscribe(running, project, sink.url("/told"), "webhook.disabled")
        sink.answer = lambda posted: 410 if posted.path == "/gone" else 200
        Source(running, project).say("x")
        (told,) = sink.wait(1, "/told")
        assert told.body["data"] == {
            "webhook_id": hook["id"],
            "name": "hook",
            "reason": "Its address answered 410 Gone",
        }
        shown = ask(running, project, "GET", f"/webhooks/{hook['id']}")
        assert (shown["isActive"], shown["disabledReason"]) == (False, "Its address answered 410 Gone")
        assert shown["failingSince"] is not None
        wait_listed(running, project, hook["id"], failed=1)
        logged = ask(running, project, "GET", "/platforms/logs")["logs"]
        assert [(entry["message"], entry["level"]) for entry in logged] == [
            ("Webhook 'hook' was switched off", "error")
        ]
        assert len(sink.refused) == 1

    def test_one_that_failed_for_three_days_is_switched_off_and_one_that_works_is_not(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        long, short = subscribe(running, project, sink.url("/long")), subscribe(running, project, sink.url("/short"))
        fail_since(running, long["id"], timedelta(days=3, seconds=1))
        fail_since(running, short["id"], timedelta(days=2, hours=23))
        sink.answer = lambda _: 500
        Source(running, project).say("x")

        def shown(hook: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = ask(running, project, "GET", f"/webhooks/{hook['id']}")
            return found

        wait_until(lambda: not shown(long)["isActive"], lambda: shown(long))
        assert shown(long)["disabledReason"].endswith("the last error was: 127.0.0.1 answered 500")
        wait_until(lambda: any(posted.path == "/short" for posted in sink.refused), lambda: "not tried")
        assert shown(short)["isActive"]
        sink.answer = lambda _: 200
        sink.wait(1, "/short")
        wait_until(lambda: shown(short)["failingSince"] is None, lambda: shown(short))
        again = ask(running, project, "PATCH", f"/webhooks/{long['id']}", {"isActive": True})
        assert (again["failingSince"], again["disabledReason"]) == (None, None)
        assert texts(sink.wait(1, "/long"))[0] == "x", "what waited goes out"

    def test_no_secret_gets_into_the_logs(self, running: Running, project: str, sink: WebhookSink) -> None:
        hook = subscribe(running, project, sink.url("/?token=planted-token"), secret=PLANTED)
        sink.answer = lambda _: 500
        Source(running, project).say("x")
        wait_until(lambda: bool(sink.refused), lambda: "not tried")
        sink.answer = lambda _: 200
        sink.wait(1)
        wait_listed(running, project, hook["id"], success=1)
        log = running.gateway.log.read_text(errors="replace")
        assert "delivery_sent" in log
        signatures = [
            posted.headers["webhook-signature"].removeprefix("v1,") for posted in (*sink.taken, *sink.refused)
        ]
        for secret in (PLANTED, PLANTED.removeprefix("whsec_"), "planted-token", *signatures):
            assert secret not in log
        assert PLANTED not in str(listed(running, project, hook["id"]))


class TestBeingApart:
    """Deliveries to webhooks are not the user's messages."""

    def test_they_are_in_no_list_and_no_number_of_the_project(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        down = subscribe(running, project, f"http://127.0.0.1:{free_port()}/", "message.received")
        gone, fine = (subscribe(running, project, sink.url(path), "message.received") for path in ("/gone", "/fine"))
        sink.answer = lambda posted: 410 if posted.path == "/gone" else 200
        box = add_sandbox(running, project)
        job = send(running, project, box, "ann")
        Source(running, project).say("x")
        wait_listed(running, project, fine["id"], success=1)
        wait_listed(running, project, gone["id"], failed=1)
        sent = ask(running, project, "GET", "/messages/sent")
        assert [each["jobId"] for each in sent["messages"]] == [job]
        assert sent["pagination"]["total"] == 1
        metrics = {word: n for word, n in ask(running, project, "GET", "/messages/queue/metrics").items() if n}
        assert metrics == {"completed": 1}
        assert ask(running, project, "GET", "/dead-letters")["deadLetters"] == []
        (failed,) = listed(running, project, gone["id"])
        for path in (f"/dead-letters/{failed['id']}", f"/messages/status/{failed['id']}"):
            assert running.admin.ask("GET", f"projects/{project}{path}").status == 404
        assert EVENT_WEBHOOK not in str(running.nobody.ask("GET", "platforms/supported").body)
        target = {"platformId": down["id"], "type": "user", "id": "x"}
        refused = running.admin.ask(
            "POST", f"projects/{project}/messages/send", {"targets": [target], "content": {"text": "x"}}
        )
        unknown = running.admin.ask(
            "POST",
            f"projects/{project}/messages/send",
            {"targets": [target | {"platformId": NOBODYS_ID}], "content": {"text": "x"}},
        )
        assert (refused.status, unknown.status) == (400, 400)
        shown = [[error["message"] for error in reply.body["errors"]] for reply in (refused, unknown)]
        assert [message.replace(down["id"], NOBODYS_ID) for message in shown[0]] == shown[1]

    @pytest.mark.parametrize("what", ["webhook", "project"])
    def test_nothing_is_left_of_a_webhook_that_is_deleted(
        self, running: Running, project: str, sink: WebhookSink, what: str
    ) -> None:
        hook = subscribe(running, project, sink.url())
        waiting = subscribe(running, project, f"http://127.0.0.1:{free_port()}/")
        Source(running, project).say("x", "y")
        wait_listed(running, project, hook["id"], success=2)
        ids = [each["id"] for where in (hook, waiting) for each in listed(running, project, where["id"])]
        if what == "project":
            ask(running, project, "DELETE", "")
        else:
            for each in (hook, waiting):
                ask(running, project, "DELETE", f"/webhooks/{each['id']}")
        assert stored(running, messages, messages.c.id.in_(ids)) == []
        realms = [realm_of(each["id"]) for each in (hook, waiting)]
        assert stored(running, deliveries, deliveries.c.project_id.in_(realms)) == []
        Source(running, make_project(running)).say("z")  # the gateway goes on
        assert running.gateway.process is not None
        assert running.gateway.process.poll() is None


class TestLists:
    def test_pages_and_filters(self, running: Running, project: str, sink: WebhookSink) -> None:
        hook = subscribe(running, project, sink.url())
        source = Source(running, project)
        ask(running, project, "POST", "/pause")
        source.say("a", "b", "c")
        everything = wait_listed(running, project, hook["id"], success=4)
        assert [each["id"] for each in everything] == sorted((each["id"] for each in everything), reverse=True)
        page = ask(running, project, "GET", f"/webhooks/{hook['id']}/deliveries?limit=3&offset=1")
        assert page["deliveries"] == everything[1:4]
        assert page["pagination"] == {"total": 4, "limit": 3, "offset": 1, "hasMore": False}
        page = ask(running, project, "GET", f"/webhooks/{hook['id']}/deliveries?limit=2&before={everything[0]['id']}")
        assert (page["deliveries"], page["pagination"]["hasMore"]) == (everything[1:3], True)
        paused = listed(running, project, hook["id"], "?event=project.paused&status=success")
        assert [each["event"] for each in paused] == ["project.paused"]
        assert listed(running, project, hook["id"], "?status=failed") == []

    @pytest.mark.parametrize("query", ["limit=0", "limit=101", "offset=-1", "event=nothing", "status=lost", "before=x"])
    def test_wrong_parameters(self, running: Running, project: str, sink: WebhookSink, query: str) -> None:
        hook = subscribe(running, project, sink.url())
        refused = running.admin.ask("GET", f"projects/{project}/webhooks/{hook['id']}/deliveries?{query}")
        assert refused.status == 400
        assert query.partition("=")[0] in str(refused.body["message"])


class TestPostingAgain:
    def test_a_test_goes_to_this_one_alone(self, running: Running, project: str, sink: WebhookSink) -> None:
        hook = subscribe(running, project, sink.url("/mine"), "message.sent")
        subscribe(running, project, sink.url("/other"))
        made = ask(running, project, "POST", f"/webhooks/{hook['id']}/test")
        assert (made["event"], made["status"], made["attempts"]) == ("webhook.test", "pending", 0)
        (posted,) = sink.wait(1, "/mine")
        assert posted.verify(hook["secret"]) == made["payload"]
        assert posted.body["event"] == "webhook.test"
        Source(running, project).say("x")
        assert texts(sink.wait(1, "/other")) == ["x"]

    def test_redelivering_posts_the_same_event_again(self, running: Running, project: str, sink: WebhookSink) -> None:
        hook = subscribe(running, project, sink.url())
        Source(running, project).say("x")
        (first,) = wait_listed(running, project, hook["id"], success=1)
        made = ask(running, project, "POST", f"/webhooks/{hook['id']}/deliveries/{first['id']}/redeliver")
        assert made["id"] != first["id"]
        one, two = sink.wait(2)
        assert (one.text, one.headers["webhook-id"]) == (two.text, two.headers["webhook-id"])
        two.verify(hook["secret"])

    def test_replaying_a_part_of_the_log(self, running: Running, project: str, sink: WebhookSink) -> None:
        source = Source(running, project)
        source.say("1", "2", "3", "4")
        source.settled(4)
        ask(running, project, "POST", "/pause")
        source.settled(5)
        hook = subscribe(running, project, sink.url(), "message.received", isOrdered=True)
        made = ask(running, project, "POST", f"/webhooks/{hook['id']}/replay", {"after": 1, "until": 3})
        assert made == {"queued": 2, "next": 3, "done": True}
        assert texts(sink.wait(2)) == ["2", "3"]
        assert ask(running, project, "POST", f"/webhooks/{hook['id']}/replay", {"after": 3}) == {
            "queued": 1,
            "next": 5,
            "done": True,
        }
        assert texts(sink.wait(3)) == ["2", "3", "4"]

    def test_a_long_replay_goes_on_where_it_stopped(self, running: Running, project: str, sink: WebhookSink) -> None:
        now = datetime.now(UTC)
        told = [NewEvent(project, "project.paused", {"number": n}, now) for n in range(1100)]
        in_database(running, lambda connection: append(connection, told))
        hook = subscribe(running, project, sink.url(), "project.paused", isOrdered=True)
        url = f"/webhooks/{hook['id']}/replay"
        assert ask(running, project, "POST", url, {"after": 0}) == {"queued": 1000, "next": 1000, "done": False}
        assert ask(running, project, "POST", url, {"after": 1000}) == {"queued": 100, "next": 1100, "done": True}
        # In order, one after the other, so all of them would take half a minute.
        numbers = [posted.body["data"]["number"] for posted in sink.wait(100)]
        assert numbers[:100] == list(range(100))
        ask(running, project, "PATCH", f"/webhooks/{hook['id']}", {"isActive": False})

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [({}, "/after"), ({"after": -1}, "/after"), ({"after": 1}, "/after"), ({"after": 0, "until": 9}, "/until"),
         ({"after": 0, "more": 1}, "/more")],
    )  # fmt: skip
    def test_wrong_places(
        self, running: Running, project: str, sink: WebhookSink, body: dict[str, Any], pointer: str
    ) -> None:
        hook = subscribe(running, project, sink.url())
        refused: Reply = running.admin.ask("POST", f"projects/{project}/webhooks/{hook['id']}/replay", body)
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)

    def test_nothing_is_posted_to_one_that_is_switched_off(
        self, running: Running, project: str, sink: WebhookSink
    ) -> None:
        hook = subscribe(running, project, sink.url())
        delivery = ask(running, project, "POST", f"/webhooks/{hook['id']}/test")["id"]
        ask(running, project, "PATCH", f"/webhooks/{hook['id']}", {"isActive": False})
        for path, body in (("test", None), (f"deliveries/{delivery}/redeliver", None), ("replay", {"after": 0})):
            refused = running.admin.ask("POST", f"projects/{project}/webhooks/{hook['id']}/{path}", body)
            assert (refused.status, "isActive" in refused.body["message"]) == (409, True)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [("GET", "deliveries", "webhooks:read"), ("POST", "test", "webhooks:write"), ("POST", "replay", "webhooks:write"),
     ("POST", "deliveries/{delivery}/redeliver", "webhooks:write")],
)  # fmt: skip
def test_only_those_who_may(running: Running, sink: WebhookSink, method: str, path: str, scope: str) -> None:
    hook = subscribe(running, "shop", sink.url())
    delivery = ask(running, "shop", "POST", f"/webhooks/{hook['id']}/test")["id"]
    body = {"after": 0} if path == "replay" else None
    path = path.format(delivery=delivery)
    url = f"projects/shop/webhooks/{hook['id']}/{path}"
    assert running.nobody.ask(method, url, body).status == 401
    without = running.make_key(*(other for other in ALL_SCOPES if other != scope))
    assert without.ask(method, url, body).status == 403
    assert running.make_key(scope).ask(method, url, body).status in {200, 201}
    theirs = running.make_key(*ALL_SCOPES, project="other")
    assert theirs.ask(method, url, body).status == 404
    foreign = theirs.ask(method, url.replace("/shop/", "/other/"), body)
    missing = theirs.ask(method, url.replace("/shop/", "/other/").replace(hook["id"], NOBODYS_ID), body)
    assert (foreign.status, missing.status) == (404, 404)
    assert foreign.body["message"].replace(hook["id"], NOBODYS_ID) == missing.body["message"]
    if "redeliver" in path:
        other = subscribe(running, "shop", sink.url())
        assert running.key.ask(method, url.replace(hook["id"], other["id"])).status == 404
    assert in_database(running, lambda c: c.execute(select(webhooks.c.id).where(webhooks.c.id == hook["id"])).scalar())
