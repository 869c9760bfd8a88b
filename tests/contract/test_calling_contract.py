"""What holds for every platform with an HTTP API: rendering at its limits, and its published description.

`test_fault_contract.py` is about what goes wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from aiohttp import web

from msgcore.core.actions import Edit
from msgcore.core.content import Content, SendOptions
from msgcore.core.errors import (
    FieldError,
    PermanentError,
)
from msgcore.outbound.layout import Shows
from msgcore.outbound.services import AdapterServices
from msgcore.platforms.base import CAPABILITY_OF, Account, Capability, OutgoingDelivery, SentReceipt
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.registry import PlatformRegistry
from msgcore.store.database import Database
from servers.adapters import adapter_services
from servers.deliveries import make_account, make_action, make_content, make_delivery
from servers.facts import Facts, every_action, facts_of
from servers.http_sink import HttpSink, http_sink

REGISTRY = PlatformRegistry()
NAMES = [name for name in REGISTRY.names if issubclass(REGISTRY.adapter_class(name), CallingAdapter)]
PLAIN = SendOptions()
MOST_BUTTONS = 100
"""In any content."""
WORDS = "Lorem ipsum dolor sit amet. "
FILE = {"data": "QUJD", "filename": "a.txt", "mimeType": "text/plain"}
IMAGE = {"data": "iVBORw0KGgo=", "filename": "a.png", "mimeType": "image/png"}
CONTENTS: list[dict[str, Any]] = [
    {"text": "Grüße"},
    {
        "markdown": "# Title\n\n**b** *i* ~~s~~ `c` <x> & [l](https://x.example/?a=1&b=2)\n\n> quote\n\n```py\na < b\n```"
    },
    {"html": "<p>one <b>two</b></p><ul><li>three</li></ul>"},
    {"subject": "About", "text": "body"},
    {"text": "pick", "buttons": [{"text": "Yes", "value": "y"}, {"text": "No", "value": "n"}]},
    {"text": "see", "buttons": [{"text": "Open", "url": "https://x.example/"}]},
    {"text": "card", "embeds": [{"title": "T", "description": "D", "fields": [{"name": "k", "value": "v"}]}]},
    {"text": "here", "location": {"latitude": 52.52, "longitude": 13.405, "name": "Berlin", "address": "Mitte"}},
    {"location": {"latitude": 0.0, "longitude": 0.0}},
    {"contact": {"name": "Ann", "phone": "+4915112345678"}},
    {"poll": {"question": "Tea?", "options": ["yes", "no"], "multiple": True}},
]
IMPOSSIBLE_EDITS: list[tuple[str, dict[str, Any]]] = [
    ("/content/attachments", {"text": "one file", "attachments": [FILE]}),
    ("/content/attachments", {"text": "elsewhere", "attachments": [{"url": "https://x.example/a.png"}]}),
    ("/content/location", {"location": {"latitude": 0.0, "longitude": 0.0}}),
    ("/content/contact", {"text": "card", "contact": {"name": "Ann", "phone": "+4915112345678"}}),
    ("/content/poll", {"poll": {"question": "Tea?", "options": ["yes", "no"]}}),
    ("/content", {"text": ""}),
]
FILES: list[dict[str, Any]] = [
    {"text": "one file", "attachments": [FILE]},
    {"text": "album", "attachments": [IMAGE, IMAGE, FILE, {**IMAGE, "caption": "cap"}]},
]


@dataclass
class Bench:
    """An adapter whose platform is a local server."""

    adapter: CallingAdapter
    account: Account
    sink: HttpSink
    facts: Facts
    shows: Shows

    def delivery(self, content: Content, options: dict[str, Any] | None = None) -> OutgoingDelivery:
        """A message to the target that the facts name."""
        return make_delivery(self.facts.target, content, target_type=self.facts.target_type, options=options)

    async def send(self, content: Content, options: dict[str, Any] | None = None) -> list[SentReceipt]:
        """Send all of a message, as the dispatch core does."""
        delivery = self.delivery(content, options)
        receipts: list[SentReceipt] = []
        while not receipts or receipts[-1].more:
            done = tuple(receipt.provider_message_id or "" for receipt in receipts)
            receipts.append(await self.adapter.send(self.account, msgspec.structs.replace(delivery, part_ids=done)))
        return receipts

    def succeed(self) -> None:
        """Answer each request as the platform does."""

        async def answer(_: web.Request) -> web.StreamResponse:
            status, body = self.facts.answers(self.sink.requests[-1])
            return web.json_response(body, status=status)

        self.sink.answer = answer

    def edit_errors(self, **content: Any) -> list[FieldError]:
        """What keeps a content from taking the place of a message."""
        edit = Edit(message_id=self.facts.message_id, content=make_content(**content))
        return REGISTRY.check_action(self.account.platform, edit)


@pytest.fixture(params=NAMES)
async def bench(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Bench]:
    """For each platform."""
    name: str = request.param
    facts = facts_of(name)
    adapter_class = REGISTRY.adapter_class(name)
    assert issubclass(adapter_class, CallingAdapter)
    database = Database.open(sqlite_url)
    async with http_sink() as sink, adapter_services(database) as services:
        account = make_account(name, example_credentials(name) | facts.credentials(sink.url))
        adapter = adapter_class(with_base_url(services, name, sink.url))
        yield Bench(adapter, account, sink, facts, adapter_class.shows)
        await adapter.close()
    await database.close()


def example_credentials(name: str) -> dict[str, Any]:
    fields = REGISTRY.declaration(name).credentials
    return {field.name: field.example for field in fields if field.example is not None}


def with_base_url(services: AdapterServices, name: str, url: str) -> AdapterServices:
    services.base_urls[name] = url
    return services


# --- rendering


@pytest.mark.parametrize("content", CONTENTS + FILES, ids="+".join)
async def test_each_content_goes_out_as_the_platform_wants_it(bench: Bench, content: dict[str, Any]) -> None:
    made = make_content(**content)
    rendering = bench.adapter.render(made, PLAIN)
    if rendering.errors:  # files by upload, where the platform only takes addresses
        assert "attachments" in content
        return
    bench.succeed()
    receipts = await bench.send(made)
    assert len(receipts) == len(rendering.calls)
    assert all(receipt.provider_message_id for receipt in receipts)
    assert [bench.facts.check(request) for request in bench.sink.requests]


async def test_text_at_the_limit_is_one_message_and_beyond_it_two(bench: Bench) -> None:
    limit = bench.shows.text
    fitting, longer = (WORDS * limit)[:limit].rstrip("L "), WORDS * (limit // len(WORDS) + 2)
    assert len(bench.adapter.render(make_content(text=fitting), PLAIN).calls) == 1
    rendering = bench.adapter.render(make_content(text=longer), PLAIN)
    assert len(rendering.calls) > 1
    assert [each.rule for each in rendering.degradations] == ["split"]
    refused = bench.adapter.render(make_content(text=longer), SendOptions(long_text="refuse"))
    assert [error.pointer for error in refused.errors] == ["/content"]
    bench.succeed()
    await bench.send(make_content(text=longer), {"replyTo": "17"})
    assert len(bench.sink.requests) >= len(rendering.calls)
    for request in bench.sink.requests:
        bench.facts.check(request)


async def test_buttons_at_the_limit_are_shown_and_beyond_it_are_a_list(bench: Bench) -> None:
    rules = bench.shows.buttons
    most = min(rules.most, MOST_BUTTONS - 1) if rules is not None and rules.values else 0
    buttons = [{"text": f"B{number}", "value": f"v{number}"} for number in range(most)]
    too_long = {"text": "B" * 1024, "value": "v"}
    more = [{"text": "B", "value": "v"}] if rules is not None and most == rules.most else [too_long]
    beyond = bench.adapter.render(make_content(text="pick", buttons=buttons + more), PLAIN)
    assert [each.rule for each in beyond.degradations if each.field == "content.buttons"] == ["numbered-list"]
    if most:
        shown = make_content(text="pick", buttons=buttons)
        assert not bench.adapter.render(shown, PLAIN).degradations
        bench.succeed()
        await bench.send(shown)
        bench.facts.check(bench.sink.requests[-1])


@pytest.mark.parametrize(
    "content", [{"text": " \n"}, {"html": "<p></p><!-- x -->"}, {"markdown": "[a]: http://x.example"}], ids=str
)
async def test_what_shows_nothing_is_refused(bench: Bench, content: dict[str, Any]) -> None:
    [error] = bench.adapter.check_content(make_content(**content), PLAIN)
    assert error.pointer == "/content"


async def test_what_is_degraded_can_be_refused(bench: Bench) -> None:
    content = make_content(text="x", buttons=[{"text": "B" * 1000, "value": "v"}])
    [error] = bench.adapter.render(content, SendOptions(degradation="refuse")).errors
    assert error.pointer == "/content/buttons"


async def test_what_it_renders_holds_no_secret(bench: Bench) -> None:
    secrets = [
        bench.account.credentials[field.name]
        for field in bench.adapter.declaration.credentials
        if field.secret and field.name in bench.account.credentials
    ]
    shown = msgspec.json.encode(bench.adapter.render(make_content(text="Hello"), PLAIN)).decode()
    assert all(str(secret) not in shown for secret in secrets)


async def test_actions_go_out_as_the_platform_wants_them(bench: Bench) -> None:
    can = {info.capability for info in bench.adapter.declaration.capabilities}
    bench.succeed()
    for action in every_action(bench.facts.message_id):
        outgoing = make_action(bench.facts.target, action, target_type=bench.facts.target_type)
        before = len(bench.sink.requests)
        if CAPABILITY_OF[type(action)] in can:
            assert REGISTRY.check_action(bench.account.platform, action) == []
            receipt = await bench.adapter.act(bench.account, outgoing)
            assert receipt.provider_message_id != bench.facts.message_id, "receipts would take it for the message"
            made = bench.sink.requests[before:]
            assert [bench.facts.check(request) for request in made], action
        else:
            with pytest.raises(PermanentError) as raised:
                await bench.adapter.act(bench.account, outgoing)
            assert (raised.value.code, len(bench.sink.requests)) == ("unsupported", before)


async def test_a_content_takes_the_place_of_a_message_if_it_is_one_call_without_files(bench: Bench) -> None:
    if Capability.EDIT_MESSAGE not in {info.capability for info in bench.adapter.declaration.capabilities}:
        assert not bench.adapter.editable
        return
    limit = bench.shows.text
    assert bench.edit_errors(text=(WORDS * limit)[:limit].rstrip("L ")) == []
    assert bench.edit_errors(text="pick", buttons=[{"text": "Yes", "value": "y"}]) == []
    for part, content in IMPOSSIBLE_EDITS:
        [error] = bench.edit_errors(**content) or [None]
        if error is None:  # it becomes text on this platform
            assert len(bench.adapter.render(make_content(**content), PLAIN).calls) == 1
            continue
        assert error.pointer.startswith(part), content
        with pytest.raises(PermanentError):
            edit = Edit(message_id=bench.facts.message_id, content=make_content(**content))
            await bench.adapter.act(bench.account, make_action(bench.facts.target, edit))
    assert bench.edit_errors(text=WORDS * (limit // len(WORDS) + 2)), "too long for one message"
    assert bench.sink.requests == []
