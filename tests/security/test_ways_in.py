"""Every place where a user, or a server that a user named, says what to connect to: none gets inside, in no disguise.

Platforms come from the registry: one whose credentials say where its server is, is tried with the rest.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from msgcore.core.content import Attachment
from msgcore.core.errors import DeliveryError
from msgcore.core.events import EVENT_WEBHOOK
from msgcore.outbound import aiohttp_transport
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.following import open_file
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.email.client import Connector
from msgcore.platforms.email.imap import Login, connect
from msgcore.platforms.event_webhook import EventWebhookAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import AddrInfo, EgressGuard, Resolve
from msgcore.store.database import Database
from security.disguises import HOSTS, URLS
from security.trap import OUTSIDE, Rebinding, Trap, open_trap, resolve
from servers.clock import FakeClock
from servers.deliveries import make_account, make_content, make_delivery
from servers.facts import facts_of, http_facts

REGISTRY = PlatformRegistry()
PLATFORMS = [name for name, facts in http_facts(REGISTRY).items() if facts.credentials("http://x.example")]
"""Those whose server is a credential; e-mail has two, and ways of its own."""

AT_ONCE = 50
TLS = ssl.create_default_context()

WayIn = Callable[[AdapterServices, str, int], Awaitable[object]]
"""Goes where a text says, by whatever is given there; the port is for ways that take it apart from the host."""


async def request(services: AdapterServices, url: str, _port: int) -> None:
    await services.http.request("POST", url, body=b"x", timeout=5)


async def poll(services: AdapterServices, url: str, _port: int) -> None:
    await services.http.poll(url, b"x", headers={}, seconds=5, max_bytes=100)


async def listen(services: AdapterServices, url: str, _port: int) -> None:
    """As from ntfy."""
    async with services.http.listen(url, headers={}, silence=5):
        pass


async def web_socket(services: AdapterServices, url: str, _port: int) -> None:
    """As Discord says where a session goes on, and Slack where one begins."""
    async with services.http.socket(url.replace("http", "ws", 1), max_bytes=100):
        pass


async def attachment(services: AdapterServices, url: str, _port: int) -> None:
    await services.attachments.load([Attachment(url=url)])


async def received_file(services: AdapterServices, url: str, _port: int) -> None:
    """As the fetcher opens what a platform, or whoever wrote by one, gave as the address of a file."""
    async with open_file(services.http, url, {"Authorization": "secret"}):
        pass


async def event_webhook(services: AdapterServices, url: str, _port: int) -> None:
    account = make_account(EVENT_WEBHOOK, {"url": url, "secrets": [("0123456789abcdef", None)]})
    document = {EVENT_WEBHOOK: {"timestamp": "2026-01-01T00:00:00.000Z", "event": "message.sent"}}
    await EventWebhookAdapter(services).send(account, make_delivery("e", make_content(platformOptions=document)))


async def smtp(services: AdapterServices, host: str, port: int) -> None:
    await Connector(services.egress).connect({"smtpHost": host, "smtpPort": port})


async def imap(services: AdapterServices, host: str, port: int) -> None:
    login = Login(host, port, "starttls", "u", "p", "INBOX")
    with ThreadPoolExecutor(1) as threads:
        await connect(login, services.egress, threads, TLS)


def platform(name: str) -> WayIn:
    """Sending by a platform whose account names its server."""
    adapter_class, facts = REGISTRY.adapter_class(name), facts_of(name)

    async def send(services: AdapterServices, url: str, _port: int) -> None:
        examples = {field.name: field.example for field in adapter_class.declaration.credentials}
        given = examples | facts.credentials("http://there.example")
        credentials = {key: url if "http://there.example" in str(value) else value for key, value in given.items()}
        delivery = make_delivery(facts.target, make_content(text="Hi"), target_type=facts.target_type)
        adapter = adapter_class(services)
        try:
            await adapter.send(make_account(name, credentials), delivery)
        finally:
            await adapter.close()

    return send


BY_URL: dict[str, WayIn] = {
    each.__name__: each for each in (request, poll, listen, web_socket, attachment, received_file, event_webhook)
} | {name: platform(name) for name in PLATFORMS}
BY_HOST: dict[str, WayIn] = {"smtp": smtp, "imap": imap}
WAYS_IN = BY_URL | BY_HOST
FOLLOWING = ("attachment", "received_file")

every_way_in = pytest.mark.parametrize("name", WAYS_IN)


class WatchedGuard(EgressGuard):
    """Notes where sockets were made for: nobody listens where the network has no way to, but they must not be tried."""

    def __init__(self, allow: Sequence[str] = (), *, resolve: Resolve) -> None:
        super().__init__(allow, resolve=resolve)
        self.made: list[str] = []

    def make_socket(self, info: AddrInfo) -> socket.socket:
        made = super().make_socket(info)
        self.made.append(f"{info[4][0]} {info[4][1]}")
        return made


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    async with open_trap() as made:
        yield made


@asynccontextmanager
async def services_that(sqlite_url: str, guard: EgressGuard) -> AsyncIterator[AdapterServices]:
    database = Database.open(sqlite_url)
    async with open_transport(guard, limit=100) as transport:
        loader = AttachmentLoader(transport, 1000)
        yield AdapterServices(transport, transport, guard, loader, database, FakeClock(), {})
    await database.close()


def destinations(name: str, port: int) -> list[str]:
    """Each disguise as this way in takes it."""
    if name in BY_HOST:
        return [
            *HOSTS,
            *(host.strip("[]") for host in HOSTS if host.startswith("[")),
            *(url(each, port) for each in URLS),
        ]
    return [*(f"http://{host}:{port}/" for host in HOSTS), *(url(each, port) for each in URLS)]


def url(form: str, port: int) -> str:
    return form.replace("{port}", str(port))


async def surprises(way_in: WayIn, services: AdapterServices, places: Iterable[str], port: int) -> dict[str, str]:
    """What was raised that is no typed refusal, by the place that it was raised for."""
    turns, found = asyncio.Semaphore(AT_ONCE), dict[str, str]()

    async def try_it(place: str) -> None:
        async with turns:
            try:
                await way_in(services, place, port)
            except DeliveryError:
                pass
            except Exception as error:  # noqa: BLE001 - is what is looked for
                found[place] = repr(error)

    await asyncio.gather(*(try_it(place) for place in places))
    return found


def test_the_table_is_long_and_has_every_platform_that_names_a_server() -> None:
    assert len(set(HOSTS)) == len(HOSTS)
    assert len(HOSTS) + len(URLS) > 250
    by_destination = {
        name
        for name in REGISTRY.names
        if any(field.destination and field.kind == "string" for field in REGISTRY.declaration(name).credentials)
    }
    assert by_destination == {*PLATFORMS, "email"}


@every_way_in
async def test_no_disguise_gets_inside(name: str, trap: Trap, sqlite_url: str) -> None:
    guard = WatchedGuard(resolve=resolve)
    async with services_that(sqlite_url, guard) as services:
        assert await surprises(WAYS_IN[name], services, destinations(name, trap.port), trap.port) == {}
    assert (guard.made, trap.caught, trap.visits) == ([], [], 0)


@pytest.mark.parametrize("name", BY_URL)
async def test_no_redirect_leads_inside(name: str, trap: Trap, sqlite_url: str) -> None:
    """Neither at once nor by way of another one that is outside as well, and most ways follow none at all."""
    outside = f"http://{OUTSIDE}:{trap.port}"
    inside = destinations(name, trap.port) if name in FOLLOWING else [f"http://127.0.0.1:{trap.port}/", "http://[::1]/"]
    trap.locations = [*inside, *(f"{outside}/{index}" for index in range(0, len(inside), 10))]
    places = [f"{outside}/{index}" for index in range(len(trap.locations))]
    guard = WatchedGuard([OUTSIDE], resolve=resolve)
    async with services_that(sqlite_url, guard) as services:
        assert await surprises(WAYS_IN[name], services, places, trap.port) == {}
    assert (set(guard.made), trap.caught) == ({f"{OUTSIDE} {trap.port}"}, [])
    assert trap.visits >= len(places)


@every_way_in
async def test_a_name_that_moves_inside_is_not_followed(
    name: str, trap: Trap, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aiohttp_transport, "DNS_CACHE_SECONDS", 0)
    trap.answer = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    place = "moves.example" if name in BY_HOST else f"http://moves.example:{trap.port}/"
    async with services_that(sqlite_url, EgressGuard([OUTSIDE], resolve=Rebinding())) as services:
        for _ in range(3):
            assert await surprises(WAYS_IN[name], services, [place], trap.port) == {}
    assert (trap.caught, trap.visits) == ([], 1)


NOT_HTTP = [b"", b"220 mail.example ESMTP\r\n", b"<html>an answer of HTTP/0.9</html>", b"+OK\r\n\r\n"]


@every_way_in
async def test_ports_of_other_protocols_are_not_connected_to(name: str, sqlite_url: str) -> None:
    guard = WatchedGuard([OUTSIDE], resolve=resolve)
    async with services_that(sqlite_url, guard) as services:
        for port in (22, 6379):
            spelled = (
                [OUTSIDE]
                if name in BY_HOST
                else [f"http://{OUTSIDE}{text}/" for text in (f":{port}", f":0{port}", f"%3A{port}", f":{wide(port)}")]
            )
            assert await surprises(WAYS_IN[name], services, spelled, port) == {}
    assert [place for place in guard.made if not place.endswith((" 80", " 443"))] == []


@pytest.mark.parametrize("name", BY_URL)
async def test_what_is_no_http_is_an_error(name: str, trap: Trap, sqlite_url: str) -> None:
    async with services_that(sqlite_url, EgressGuard([OUTSIDE], resolve=resolve)) as services:
        for trap.answer in NOT_HTTP:
            with pytest.raises(DeliveryError) as raised:
                await WAYS_IN[name](services, f"http://{OUTSIDE}:{trap.port}/x", trap.port)
            assert raised.value.code in {"connection_lost", "attachment_unavailable"}


def wide(port: int) -> str:
    """In the digits of another script, which some readers of URLs take for the same."""
    return "".join(chr(ord("０") + int(digit)) for digit in str(port))
