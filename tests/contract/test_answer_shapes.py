"""What holds for every platform with an HTTP API: an answer of another shape than documented is no surprise.

Somebody changes an API, or stands in for it: whatever JSON comes, a message is sent, or fails with an error that
says why, and no attempt ends with a fault of our own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from contract.fault_place import REGISTRY, example_credentials
from msgcore.core.errors import DeliveryError
from msgcore.platforms.base import SentReceipt
from msgcore.platforms.calling import CallingAdapter
from msgcore.store.database import Database
from servers.adapters import adapter_services
from servers.deliveries import make_account, make_content, make_delivery
from servers.facts import facts_of
from servers.http_sink import http_sink

NAMES = [name for name in REGISTRY.names if issubclass(REGISTRY.adapter_class(name), CallingAdapter)]
VALUES: tuple[Any, ...] = (None, 5, -1.5, True, "x", "", [], [None], [[]], {}, {"a": 1})
AT_ONCE = 16


def variations(document: Any) -> Iterator[Any]:
    """The document with each of its parts in turn replaced by something else, or left out."""
    yield from (value for value in VALUES if value != document)
    places = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for place, part in places:
        for other in variations(part):
            changed = document.copy()
            changed[place] = other
            yield changed
        yield type(document)(
            [item for item in document.items() if item[0] != place]
            if isinstance(document, dict)
            else [item for index, item in enumerate(document) if index != place]
        )


def shape(document: Any) -> Any:
    """What documents of the same kind have in common."""
    if isinstance(document, dict):
        return tuple((name, shape(part)) for name, part in document.items())
    return tuple(map(shape, document)) if isinstance(document, list) else type(document)


@pytest.mark.parametrize("name", NAMES)
async def test_answers_of_another_shape_end_as_any_other(name: str, sqlite_url: str) -> None:
    facts, adapter_class = facts_of(name), REGISTRY.adapter_class(name)
    assert issubclass(adapter_class, CallingAdapter)
    database = Database.open(sqlite_url)
    queue: list[tuple[int, Any]] = []
    async with http_sink() as sink, adapter_services(database) as services:

        async def answer(_: web.Request) -> web.StreamResponse:
            status, body = queue.pop() if queue else facts.answers(sink.requests[-1])
            return web.json_response(body, status=status)

        sink.answer = answer
        services.base_urls[name] = sink.url
        credentials = example_credentials(adapter_class.declaration) | facts.credentials(sink.url)
        adapter, account = adapter_class(services), make_account(name, credentials)

        async def send(*_: Any) -> BaseException | SentReceipt:
            delivery = make_delivery(facts.target, make_content(text="Hello"), target_type=facts.target_type)
            try:
                return await adapter.send(account, delivery)
            except Exception as error:  # noqa: BLE001 - it is what the test is about
                return error

        assert isinstance(await send(), SentReceipt)
        successes = [facts.answers(request) for request in sink.requests]
        refusals = {shape(rule.example): (rule.status or 400, rule.example) for rule in adapter.errors.rules}
        shapes = [(status, each) for status, body in (*successes, *refusals.values()) for each in variations(body)]
        found: list[tuple[Any, Any]] = []
        for each in shapes:
            queue.append(each)
            found.append((each, await send()))
        surprises = {
            f"{type(result).__name__} {result} for {status} {json.dumps(body)}"
            for (status, body), result in found
            if not isinstance(result, DeliveryError | SentReceipt)
            or (isinstance(result, SentReceipt) and not isinstance(result.provider_message_id, str | None))
        }
        assert not surprises, "\n".join(sorted(surprises))
        await adapter.close()
    await database.close()
