"""What holds for every platform: its declaration, its checks, its docs, and one message sent by its adapter."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from msgcore.core.actions import React, Unreact
from msgcore.core.errors import InvalidInputError, PermanentError, TemporaryError
from msgcore.core.ids import new_id
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import CAPABILITY_OF, Account, Capability, PlatformAdapter, PlatformDeclaration
from msgcore.platforms.registry import AdapterSet, PlatformRegistry
from msgcore.store.database import Database
from msgcore.store.tables import project_platforms, projects, users
from servers.adapters import adapter_services
from servers.deliveries import PLATFORM_ID, make_account, make_action, make_content, make_delivery
from servers.http_sink import http_sink
from servers.smtp import smtp_server

REGISTRY = PlatformRegistry()
DOCS = Path(__file__).parents[2] / "docs" / "platforms"
SECRET_NAME = re.compile(r"password|secret|token|key", re.IGNORECASE)

TARGETS = {"email": "bob@example.com"}
"""Recipients of platforms that are choosy about them."""

pytestmark = pytest.mark.parametrize("name", REGISTRY.names)


def example_credentials(declaration: PlatformDeclaration) -> dict[str, Any]:
    return {field.name: field.example for field in declaration.credentials if field.example is not None}


@pytest.fixture
def declaration(name: str) -> PlatformDeclaration:
    return REGISTRY.declaration(name)


@pytest.fixture
async def services(sqlite_url: str) -> AsyncIterator[AdapterServices]:
    database = Database.open(sqlite_url)
    stamps = {"created_at": datetime.now(UTC), "updated_at": datetime.now(UTC)}
    owner = {"id": new_id(), "email": "owner@example.com"}
    project = {"id": "demo", "name": "Demo", "environment": "development", "owner_id": owner["id"]}
    platform = {"id": PLATFORM_ID, "project_id": "demo", "platform": "any", "name": "Any", "webhook_token": new_id()}
    async with database.write() as connection:
        await connection.execute(insert(users), owner | stamps)
        await connection.execute(insert(projects), project | stamps)
        await connection.execute(insert(project_platforms), platform | {"credentials_encrypted": "x"} | stamps)
    async with adapter_services(database) as made:
        yield made
    await database.close()


@pytest.fixture
async def account(name: str, declaration: PlatformDeclaration) -> AsyncIterator[Account]:
    """An account whose hosts are real servers on this machine."""
    async with smtp_server() as mail, http_sink() as http:
        local = {"smtpHost": "127.0.0.1", "smtpPort": mail.port, "url": f"{http.url}/hook"}
        given = example_credentials(declaration) | {"smtpUser": None, "smtpPassword": None}
        names = {field.name for field in declaration.credentials}
        yield make_account(name, {key: value for key, value in (given | local).items() if key in names})


def test_the_declaration_is_sane(name: str, declaration: PlatformDeclaration) -> None:
    assert declaration.name == name
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name), "names go into URLs and into a column of 32 characters"
    assert declaration.display_name
    capabilities = [info.capability for info in declaration.capabilities]
    assert Capability.SEND_MESSAGE in capabilities
    assert len(capabilities) == len(set(capabilities))
    assert REGISTRY.adapter_class(name).declaration is declaration
    assert issubclass(REGISTRY.adapter_class(name), PlatformAdapter)


def test_limits_and_retries_can_be_kept(name: str, declaration: PlatformDeclaration) -> None:
    for budget in (*declaration.limits.account, *declaration.limits.lane):
        assert budget.count > 0
        assert budget.period > 0
        assert 1 <= budget.burst <= budget.count
    retry = declaration.retry
    assert retry.max_attempts >= 1
    assert retry.max_age >= 3600, f"{name}: an outage of an hour must drop nothing"
    assert 0 < retry.base <= retry.cap <= retry.max_age


def test_the_example_credentials_are_good(name: str, declaration: PlatformDeclaration) -> None:
    example = example_credentials(declaration)
    assert REGISTRY.check_credentials(name, example) == []
    assert REGISTRY.check_credentials(name, REGISTRY.apply_defaults(name, example)) == []
    required = {field.name for field in declaration.credentials if field.required}
    assert required <= set(example)


def test_each_credential_is_checked(name: str, declaration: PlatformDeclaration) -> None:
    example = example_credentials(declaration)
    for field in declaration.credentials:
        assert field.description
        wrong: list[Any] = [[], {"a": 1}, 1.5]
        wrong += [{"string": 1, "integer": "1", "boolean": "true"}[field.kind]]
        if field.kind == "string":
            wrong += ["x" * (field.max_length + 1), "a\r\nb", "a\x00b"]
        for value in wrong:
            errors = REGISTRY.check_credentials(name, example | {field.name: value})
            assert [error.pointer for error in errors] == [f"/credentials/{field.name}"], value
            assert field.name in errors[0].message
        if field.required:
            without = {key: value for key, value in example.items() if key != field.name}
            assert [error.pointer for error in REGISTRY.check_credentials(name, without)] == [
                f"/credentials/{field.name}"
            ]
    [error] = REGISTRY.check_credentials(name, example | {"surprise": 1})
    assert error.pointer == "/credentials/surprise"


def test_secrets_are_marked(name: str, declaration: PlatformDeclaration) -> None:
    for field in declaration.credentials:
        if field.kind == "string":
            assert field.secret == bool(SECRET_NAME.search(field.name)), f"{name}.{field.name}"


def test_options_refuse_what_they_do_not_know(name: str, declaration: PlatformDeclaration) -> None:
    if declaration.options is None:
        return
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"surprise": 1}, declaration.options)
    content = make_content(subject="Hi", text="Hello", platformOptions={name: {"surprise": 1}})
    [error] = REGISTRY.check_content(name, content)
    assert error.pointer == f"/content/platformOptions/{name}"
    assert "surprise" in error.message


def test_another_platforms_options_do_not_matter(name: str) -> None:
    content = make_content(subject="Hi", text="Hello", platformOptions={"another": {"surprise": 1}})
    assert REGISTRY.check_content(name, content) == []


def test_the_docs_tell_everything(name: str, declaration: PlatformDeclaration) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for field in declaration.credentials:
        assert f"`{field.name}`" in page, field.name
    for info in declaration.capabilities:
        assert f"`{info.capability.value}`" in page, info.capability
    if declaration.options is not None:
        for option in msgspec.structs.fields(declaration.options):
            assert f"`{option.encode_name}`" in page, option.encode_name
    assert "curl" in page


async def test_a_message_goes_out(name: str, account: Account, services: AdapterServices) -> None:
    content = make_content(subject="Hi", text="Grüße", attachments=[{"data": "QUJD", "filename": "a.txt"}])
    delivery = make_delivery(TARGETS.get(name, "bob"), content)
    assert REGISTRY.check_message(name, delivery.target, content) == []
    adapters = REGISTRY.build(services)
    first = await adapters[name].send(account, delivery)
    again = await adapters[name].send(account, delivery)
    assert first == again, "a redelivery must look the same to the platform"
    assert first.provider_message_id is not None
    assert delivery.id in first.provider_message_id
    await adapters.forget(name, account.id)
    await adapters.forget("no-such-platform", account.id)
    await adapters.close()


async def test_an_action_goes_out_where_the_platform_can_do_it(
    name: str, declaration: PlatformDeclaration, account: Account, services: AdapterServices
) -> None:
    adapter = REGISTRY.build(services)[name]
    can = {info.capability for info in declaration.capabilities}
    for kind in (React, Unreact):
        outgoing = make_action(TARGETS.get(name, "bob"), kind(message_id="m1", emoji="\U0001f44d"))
        if CAPABILITY_OF[kind] in can:
            assert await adapter.act(account, outgoing) == await adapter.act(account, outgoing)
        else:
            with pytest.raises(PermanentError):
                await adapter.act(account, outgoing)
    await adapter.close()


async def test_a_secret_is_in_no_error(name: str, declaration: PlatformDeclaration, services: AdapterServices) -> None:
    adapters: AdapterSet = REGISTRY.build(services)
    unreachable = {"smtpHost": "127.0.0.1", "smtpPort": 1, "url": "http://127.0.0.1:2/"}
    names = {field.name for field in declaration.credentials}
    given = example_credentials(declaration) | {key: value for key, value in unreachable.items() if key in names}
    account = make_account(name, given)
    delivery = make_delivery(TARGETS.get(name, "fail-times-1"), make_content(subject="Hi", text="Hello"))
    with pytest.raises(TemporaryError) as raised:
        await adapters[name].send(account, delivery)
    for field in declaration.credentials:
        if field.secret:
            assert given[field.name] not in f"{raised.value!r} {raised.value.message} {account!r}"
    await adapters.close()


def test_an_unknown_name_is_a_clear_error(name: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        REGISTRY.adapter_class(f"{name}x")
    [error] = raised.value.errors
    assert error.pointer == "/platform"
    assert all(known in error.message for known in REGISTRY.names)
