"""Dead letters over the API: found by every filter, page by page, requeued and purged, each tenant its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from api.conftest import ALL_SCOPES, Running
from servers.api_client import ApiClient, Reply
from servers.patience import PATIENCE

REFUSED = "sandbox_refused"


@dataclass(frozen=True)
class Shop:
    """A project of its own with a sandbox, and its dead letters."""

    client: ApiClient
    project: str
    platform_id: str

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        return self.client.ask(method, f"projects/{self.project}/{path}", body)

    def bury(self, *targets: str) -> str:
        """Send what fails for good, and wait until it did; the job's id."""
        addressed = [{"platformId": self.platform_id, "type": "user", "id": target} for target in targets]
        before = self.count("failed")
        sent = self.ask("POST", "messages/send", {"targets": addressed, "content": {"text": "hi"}})
        assert sent.status == 201, sent
        self.wait_for(failed=before + len(targets))
        return str(sent.body["jobId"])

    def count(self, word: str) -> int:
        return int(self.ask("GET", "messages/queue/metrics").body[word])

    def wait_for(self, **expected: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while (found := {word: self.count(word) for word in expected}) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def letters(self, query: str = "") -> list[dict[str, Any]]:
        reply = self.ask("GET", f"dead-letters?{query}")
        assert reply.status == 200, reply
        return list(reply.body["deadLetters"])

    def targets(self, query: str = "") -> list[str]:
        return [letter["targetId"] for letter in self.letters(query)]


@pytest.fixture
def shop(running: Running) -> Shop:
    project = f"d{time.monotonic_ns()}"
    assert running.admin.ask("POST", "projects", {"id": project, "name": "D"}).status == 201
    made = running.admin.ask(
        "POST", f"projects/{project}/platforms", {"platform": "sandbox", "name": "b", "credentials": {}}
    )
    return Shop(running.admin, project, made.body["id"])


def refuse(*names: str) -> list[str]:
    return [f"fail-permanent:{name}" for name in names]


def test_each_filter_finds_what_it_names(shop: Shop) -> None:
    first = shop.bury(*refuse("a", "b"))
    between = shop.letters()[0]["failedAt"]
    second = shop.bury(*refuse("c"))
    assert shop.targets() == refuse("c", "b", "a"), "newest first"
    assert shop.targets(f"jobId={first}") == refuse("b", "a")
    assert shop.targets(f"platform=sandbox&platformId={shop.platform_id}&errorCode={REFUSED}&jobId={second}") == refuse(
        "c"
    )
    # `failedAt` is cut to milliseconds, so the moment itself may lie a little later
    assert shop.targets(f"until={between[:-1]}999Z") == refuse("b", "a")
    assert "fail-permanent:c" in shop.targets(f"since={between}")
    for nothing in (
        "platform=email",
        "errorCode=other",
        f"platformId={second}",
        "since=2090-01-01",
        "until=2020-01-01",
    ):
        assert shop.targets(nothing) == []


@pytest.mark.parametrize("query", ["since=yesterday", "until=x", "platformId=x", "jobId=x", "before=x", "limit=0"])
def test_a_wrong_filter_is_named(shop: Shop, query: str) -> None:
    refused = shop.ask("GET", f"dead-letters?{query}")
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, f"/query/{query.partition('=')[0]}")


def test_pages_end_where_the_letters_do(shop: Shop) -> None:
    shop.bury(*refuse("a", "b", "c", "d"))
    found: list[str] = []
    before, pages = "", 0
    while before is not None:
        page = shop.ask("GET", f"dead-letters?limit=2{before and f'&before={before}'}").body
        found += [letter["targetId"] for letter in page["deadLetters"]]
        before, pages = page["next"], pages + 1
    assert (found, pages) == (refuse("d", "c", "b", "a"), 2)


def test_one_is_shown_with_its_timeline_and_requeued(shop: Shop) -> None:
    shop.bury(*refuse("a", "b"))
    letter_id = shop.letters()[0]["id"]
    done = shop.ask("POST", "dead-letters/requeue", {"ids": [letter_id]}).body
    assert (done["count"], done["remaining"]) == (1, 0)
    shop.wait_for(failed=2, waiting=0, active=0)
    shown = shop.ask("GET", f"dead-letters/{letter_id}").body
    assert shown["attempts"] == 1, "forgiven, and then one more"
    assert [(entry["number"], entry["outcome"], entry["errorCode"]) for entry in shown["timeline"]] == [
        (1, "failed", REFUSED)
    ] * 2
    assert len(shop.ask("GET", f"dead-letters/{shop.letters()[1]['id']}").body["timeline"]) == 1


def test_a_filter_requeues_at_most_so_many_and_tells_how_many_are_left(shop: Shop) -> None:
    shop.bury(*refuse("a", "b", "c"))
    assert shop.ask("POST", f"platforms/{shop.platform_id}/pause").status == 200
    asked = {"errorCode": REFUSED, "limit": 2}
    done = shop.ask("POST", "dead-letters/requeue", asked).body
    assert (done["count"], done["remaining"]) == (2, 1)
    shop.wait_for(failed=1, paused=2)
    assert shop.targets() == refuse("c"), "the oldest go first"
    assert shop.ask("POST", f"platforms/{shop.platform_id}/resume").status == 200
    shop.wait_for(failed=3, paused=0)
    again = shop.ask("POST", "dead-letters/requeue", asked | {"until": done["until"]}).body
    assert (again["count"], again["remaining"]) == (1, 0), "those that failed again are not meant"


def test_a_time_range_is_purged_with_what_hangs_on_it(shop: Shop) -> None:
    shop.bury(*refuse("a"))
    until = shop.letters()[0]["failedAt"][:-1] + "999Z"
    job = shop.bury(*refuse("b"))
    done = shop.ask("POST", "dead-letters/purge", {"until": until}).body
    assert (done["count"], done["remaining"]) == (1, 0)
    assert shop.targets() == refuse("b")
    assert shop.ask("POST", "dead-letters/purge", {"all": True}).body["count"] == 1
    assert shop.count("failed") == 0
    assert shop.ask("GET", f"messages/status/{job}").status == 404, "nothing of it is left"


@pytest.mark.parametrize("action", ["requeue", "purge"])
def test_an_unclear_selection_is_refused_and_touches_nothing(shop: Shop, action: str) -> None:
    shop.bury(*refuse("a"))
    for body, pointer in (
        ({}, ""),
        ({"limit": 5}, ""),
        ({"ids": []}, "/ids"),
        ({"ids": ["x"]}, "/ids/0"),
        ({"all": True, "limit": 0}, "/limit"),
        ({"since": "yesterday"}, "/since"),
        ({"all": True, "until": 5}, "/until"),
        ({"erorCode": "x"}, "/erorCode"),
    ):
        refused = shop.ask("POST", f"dead-letters/{action}", body)
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer), body
    assert shop.targets() == refuse("a")


def test_tenants_do_not_meet(running: Running, shop: Shop) -> None:
    shop.bury(*refuse("a"))
    letter_id = shop.letters()[0]["id"]
    theirs = running.make_key(*ALL_SCOPES, project="other")
    assert theirs.ask("GET", f"projects/{shop.project}/dead-letters").status == 404
    assert theirs.ask("GET", f"projects/other/dead-letters/{letter_id}").status == 404
    assert theirs.ask("GET", f"projects/other/dead-letters?platformId={shop.platform_id}").body["deadLetters"] == []
    for action in ("requeue", "purge"):
        for body in ({"ids": [letter_id]}, {"all": True}, {"platformId": shop.platform_id}):
            done = theirs.ask("POST", f"projects/other/dead-letters/{action}", body)
            assert (done.status, done.body["count"], done.body["remaining"]) == (200, 0, 0)
            assert theirs.ask("POST", f"projects/{shop.project}/dead-letters/{action}", body).status == 404
    assert shop.targets() == refuse("a")
    reader = running.make_key("messages:read", project=shop.project)
    assert reader.ask("POST", f"projects/{shop.project}/dead-letters/purge", {"all": True}).status == 403


@pytest.mark.parametrize(
    ("address", "pointer"),
    [("dead-letters?errorCode=a%00b", "/query/errorCode"), ("messages/sent?limit=5&platform=%00", "/query/platform")],
)
def test_a_character_that_no_database_takes_is_refused(shop: Shop, address: str, pointer: str) -> None:
    refused = shop.ask("GET", address)
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)
    assert shop.client.ask("GET", f"projects/{shop.project}%00/dead-letters").status == 400
