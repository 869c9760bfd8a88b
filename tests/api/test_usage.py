"""What API keys are used for: counted on the long and the short ways, and shown to those who manage keys."""

from __future__ import annotations

import time
from typing import Any

from api.conftest import ALL_SCOPES, Running
from api.test_fast_send import LONG_WAY, SEND, message
from api.test_receiving import path_of
from servers.patience import PATIENCE

TEMPLATE = "/api/v1/projects/{project}/messages/send"


def counted(running: Running, path: str, number: int) -> dict[str, Any]:
    """The usage once it has so many requests."""
    deadline = time.monotonic() + PATIENCE
    while (found := running.admin.ask("GET", path).body)["total"]["requests"] < number:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert found["total"]["requests"] == number, found
    body: dict[str, Any] = found
    return body


def test_what_a_key_is_used_for(running: Running) -> None:
    scopes = ["messages:write", "messages:read"]
    made = running.admin.ask("POST", "projects/shop/keys", {"name": "counted", "scopes": scopes}).body
    box, key = running.add_sandbox(), running.nobody.as_key(made["key"])
    replies = [
        key.ask("GET", "projects/shop/messages/sent"),  # from here on the key is known to the short way
        key.ask("POST", SEND, message(box)),
        key.ask("POST", SEND, message(box), **LONG_WAY),
        key.ask("POST", SEND, {"surprise": 1}),
        key.ask("GET", "projects/shop/keys"),
        key.ask("GET", "projects/other/messages/sent"),
        key.ask("GET", "/nowhere"),  # where no key is looked at
    ]
    assert [reply.status for reply in replies] == [200, 201, 201, 400, 403, 404, 404]
    # What platforms post is by no key, whatever it says.
    assert running.nobody.as_key(made["key"]).ask("POST", path_of(running, box), {}).status < 500
    path = f"projects/shop/keys/{made['id']}/usage"
    found = counted(running, path, 6)
    shown = {(each["method"], each["endpoint"], each["status"]): each["requests"] for each in found["entries"]}
    assert shown == {
        ("POST", TEMPLATE, "2xx"): 2,
        ("POST", TEMPLATE, "4xx"): 1,
        ("GET", "/api/v1/projects/{project}/messages/sent", "2xx"): 1,
        ("GET", "/api/v1/projects/{project}/messages/sent", "4xx"): 1,
        ("GET", "/api/v1/projects/{project}/keys", "4xx"): 1,
    }
    assert (found["keyId"], found["interval"], found["limited"]) == (made["id"], "day", False)
    assert (found["total"]["errors"], found["lastAddress"]) == (3, "127.0.0.1")
    assert all(each["longestMs"] >= each["averageMs"] - 0.5 for each in found["entries"])
    assert all(each["begin"].endswith("T00:00:00.000Z") for each in found["entries"])
    by_hour = running.admin.ask("GET", f"{path}?interval=hour").body
    assert by_hour["total"] == found["total"]
    assert running.admin.ask("GET", "projects/shop/usage").body["total"]["requests"] >= 6
    assert running.admin.ask("GET", "projects/other/usage").body["entries"] == []

    assert running.admin.ask("GET", f"{path}?until=0001-01-01").body["entries"] == []
    assert key.ask("GET", path).status == 403
    assert running.make_key(*ALL_SCOPES, project="other").ask("GET", path).status == 404
    for query in ("since=soon", "since=2030-01-02&until=2030-01-01", "since=9999-12-31", "since=0001-01-01"):
        refused, pointer = running.admin.ask("GET", f"{path}?{query}"), "/query/since"
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (400, pointer)
