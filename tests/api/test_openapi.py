"""The OpenAPI document: links that lead somewhere, and answers that it tells of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from msgcore.core.events import EventType
from msgcore.core.scopes import ApiScope
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.processes import MEASURED

UNKNOWN = "01920000-0000-7000-8000-0000000000ff"
PROJECT = "/api/v1/projects/{project}"


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    with GatewayProcess(data_dir=tmp_path_factory.mktemp("gateway"), **MEASURED) as gateway:
        yield ApiClient(gateway.url, {})


@pytest.fixture(scope="module")
def paths(nobody: ApiClient) -> dict[str, Any]:
    found: dict[str, Any] = nobody.ask("GET", "/docs/openapi.json").body["paths"]
    return found


def test_links_lead_from_what_was_made_to_what_can_be_done_with_it(nobody: ApiClient, paths: dict[str, Any]) -> None:
    schemas = nobody.ask("GET", "/docs/openapi.json").body["components"]["schemas"]
    targets = {operation["operationId"]: path for path, each in paths.items() for operation in each.values()}
    led: dict[str, set[str]] = {}
    for path, operations in paths.items():
        for operation in operations.values():
            for answer in operation["responses"].values():
                for link in answer.get("links", {}).values():
                    target = targets[link["operationId"]]
                    led.setdefault(path, set()).add(target)
                    assert set(re.findall(r"\{(\w+)\}", target)) == link["parameters"].keys()
                    [field] = [at[16:] for at in link["parameters"].values() if at.startswith("$response.body#/")]
                    [content] = answer["content"].values()
                    assert field in schemas[content["schema"]["$ref"].rpartition("/")[2]]["required"], path
    jobs = {f"{PROJECT}/messages/{end}" for end in ("status/{job_id}", "retry/{job_id}")}
    jobs |= {f"{PROJECT}/messages/{{job_id}}/{verb}" for verb in ("cancel", "reschedule")}
    assert led[f"{PROJECT}/messages/send"] == jobs
    assert f"{PROJECT}/platforms" in led["/api/v1/projects"]
    assert f"{PROJECT}/webhooks/{{webhook_id}}/deliveries/{{delivery_id}}/redeliver" in led[
        f"{PROJECT}/webhooks/{{webhook_id}}/test"
    ]  # fmt: skip


def test_errors_have_the_shape_of_all_errors(paths: dict[str, Any]) -> None:
    for path, operations in paths.items():
        for method, operation in operations.items():
            told = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
            assert {"400", "429"} <= told.keys(), (method, path)
            for status, answer in told.items():
                if not path.startswith("/api/v1/health") or status != "503":
                    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_fields_tell_their_formats_and_values(nobody: ApiClient) -> None:
    schemas = nobody.ask("GET", "/docs/openapi.json").body["components"]["schemas"]
    times = [schemas["ListedKeyAnswer"]["properties"][name] for name in ("createdAt", "lastUsedAt")]
    assert [time["format"] for time in times] == ["date-time"] * 2
    assert schemas["CreateApiKey"]["properties"]["scopes"]["items"]["enum"] == list(ApiScope)
    assert {"*", *EventType} == set(schemas["CreateWebhook"]["properties"]["events"]["items"]["enum"])


def test_bodies_say_that_unknown_fields_are_refused(nobody: ApiClient) -> None:
    schemas = nobody.ask("GET", "/docs/openapi.json").body["components"]["schemas"]
    assert not any(schemas[name]["additionalProperties"] for name in ("SendRequest", "Content", "Target", "Embed"))
    assert "additionalProperties" not in schemas["PlatformAnswer"], "a later version may tell more"


@pytest.mark.parametrize(
    ("path", "types"),
    [
        (f"{PROJECT}/events", {"application/json", "text/event-stream"}),
        (f"{PROJECT}/audit/export", {"application/x-ndjson", "text/csv"}),
        ("/api/v1/audit/export", {"application/x-ndjson", "text/csv"}),
        ("/api/v1/attachments/{attachment_id}", {"*/*"}),
    ],
)
def test_answers_have_the_media_types_in_which_they_come(path: str, types: set[str], paths: dict[str, Any]) -> None:
    assert paths[path]["get"]["responses"]["200"]["content"].keys() == types


def test_options_tells_all_methods_of_an_address(nobody: ApiClient, paths: dict[str, Any]) -> None:
    """Litestar by itself tells those of the handler that it came upon first."""
    for path, operations in paths.items():
        if "/webhooks/{platform}/" not in path:
            reply = nobody.ask("OPTIONS", re.sub(r"\{\w+\}", UNKNOWN, path))
            expected = {"OPTIONS", *map(str.upper, operations)}
            assert (reply.status, set(reply.headers["allow"].split(", "))) == (204, expected), path
