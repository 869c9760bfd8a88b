"""What holds for every platform without an HTTP API of its own: one message sent by its adapter to a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from msgcore.core.errors import PermanentError, TemporaryError
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import CAPABILITY_OF, Account, PlatformDeclaration
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.registry import AdapterSet, PlatformRegistry
from msgcore.store.database import Database
from servers.adapters import adapter_services
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.edge import add_account, example_credentials
from servers.facts import every_action
from servers.http_sink import http_sink
from servers.smtp import smtp_server

REGISTRY = PlatformRegistry()
TARGETS = {"email": "bob@example.com"}
"""Recipients of platforms that are choosy about them."""
NAMES = [name for name in REGISTRY.names if not issubclass(REGISTRY.adapter_class(name), CallingAdapter)]
"""`test_calling_contract.py` is about the others."""

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def declaration(name: str) -> PlatformDeclaration:
    return REGISTRY.declaration(name)


@pytest.fixture
async def services(sqlite_url: str) -> AsyncIterator[AdapterServices]:
    database = Database.open(sqlite_url)
    await add_account(database)
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
    for action in every_action("m1"):
        outgoing = make_action(TARGETS.get(name, "bob"), action)
        if CAPABILITY_OF[type(action)] in can:
            assert REGISTRY.check_action(name, action) == []
            assert await adapter.act(account, outgoing) == await adapter.act(account, outgoing)
        else:
            with pytest.raises(PermanentError):
                await adapter.act(account, outgoing)
    await adapter.close()


async def test_a_secret_is_in_no_error(name: str, declaration: PlatformDeclaration, services: AdapterServices) -> None:
    adapters: AdapterSet = REGISTRY.build(services)
    unreachable = {"smtpHost": "127.0.0.1", "smtpPort": 2, "url": "http://127.0.0.1:2/"}
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
