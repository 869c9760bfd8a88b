"""What platforms there are: the list that is compatible, what it says beyond that, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from msgcore.platforms.registry import PlatformRegistry
from servers.api_client import ApiClient
from servers.gateway import GatewayProcess
from servers.processes import MEASURED

REGISTRY = PlatformRegistry()


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiClient]:
    with GatewayProcess(data_dir=tmp_path_factory.mktemp("gateway"), **MEASURED) as gateway:
        yield ApiClient(gateway.url, {})


@pytest.fixture(scope="module")
def listed(nobody: ApiClient) -> dict[str, Any]:
    return {each["name"]: each for each in nobody.ask("GET", "platforms/supported").body["platforms"]}


def test_each_platform_tells_its_limits_options_and_errors(listed: dict[str, Any]) -> None:
    assert list(listed) == list(REGISTRY.names)
    telegram, slack = listed["telegram"], listed["slack"]
    able = {each["capability"]: each for each in telegram["capabilities"]}
    assert able["location"] == {"capability": "location", "support": "full"}
    assert (able["embeds"]["support"], able["embeds"]["limitations"]) == ("degraded", "shown as text")
    assert {"receive-edit", "voice-receive", "silent"} <= set(able)
    assert not {"receive-read", "subject-line"} & set(able)
    limits = telegram["limits"]
    assert (limits["text"], limits["caption"], telegram["dialect"]) == (4096, 1024, "Telegram HTML")
    assert (limits["buttons"]["most"], limits["buttons"]["value"]) == (100, 64)
    assert limits["files"]["largest"]["image"] == 10 * 1024 * 1024
    chat, group = {"count": 1, "seconds": 1.02}, {"count": 20, "seconds": 61.2}
    assert (limits["rates"]["conversation"], limits["rates"]["kinds"]) == ([chat], {"group or channel": [chat, group]})
    assert listed["email"]["inbound"]["ways"] == ["webhook", "imap"]
    assert "X-Slack-Signature" in slack["inbound"]["signature"]
    [unknown] = [each for each in slack["errors"] if each["code"] == "recipient_unknown"]
    assert (unknown["kind"], "channel_not_found" in unknown["answers"]) == ("permanent", True)
    assert listed["sandbox"]["options"] is None


def test_the_schemas_hold_for_the_examples_and_for_nothing_else(listed: dict[str, Any]) -> None:
    for name, each in listed.items():
        credentials = each["credentials"]
        assert jsonschema_rs.is_valid(credentials["schema"], credentials["example"]), name
        assert not jsonschema_rs.is_valid(credentials["schema"], credentials["example"] | {"surprise": 1}), name
        if each["options"] is not None:
            assert jsonschema_rs.is_valid(each["options"], {}), name
            assert not jsonschema_rs.is_valid(each["options"], {"surprise": 1}), name
    options = listed["whatsapp-cloud"]["options"]
    assert jsonschema_rs.is_valid(options, {"template": {"name": "a", "language": "en_US"}})
    assert not jsonschema_rs.is_valid(options, {"template": {"name": "a"}})


def test_the_document_describes_accounts_and_options_of_each_platform(nobody: ApiClient) -> None:
    schemas = nobody.ask("GET", "/docs/openapi.json").body["components"]["schemas"]
    assert {"TelegramCredentials", "TelegramOptions", "WhatsappCloudTemplate", "SandboxCredentials"} <= set(schemas)

    def fits(name: str, value: Any) -> bool:
        return jsonschema_rs.is_valid(
            {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}, value
        )

    for name in REGISTRY.names:
        fields = REGISTRY.declaration(name).credentials
        example = {field.name: field.example for field in fields if field.example is not None}
        body = {"platform": name, "name": "a", "credentials": example}
        assert fits("CreatePlatform", body), name
        assert not fits("CreatePlatform", body | {"credentials": {"surprise": 1}}), name
    assert fits("Content", {"text": "x", "platformOptions": {"telegram": {"buttonsPerRow": 2}, "mine": {"a": 1}}})
    assert not fits("Content", {"text": "x", "platformOptions": {"telegram": {"buttonsPerRow": 9}}})
    template = {"name": "a", "language": "en_US", "components": [{"type": "body"}]}
    assert fits("Content", {"platformOptions": {"whatsapp-cloud": {"template": template}}})
