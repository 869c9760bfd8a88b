"""Line breaks and NUL, in every place of a message or an account that ends in a header: refused, or harmless."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from typing import Any

import msgspec
import pytest

from msgcore.core.content import Content
from msgcore.core.errors import PermanentError
from msgcore.outbound.aiohttp_transport import open_transport
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.transport import Part
from msgcore.platforms.email.render import render
from msgcore.platforms.registry import PlatformRegistry
from msgcore.security.egress import EgressGuard
from servers.deliveries import make_delivery
from servers.http_sink import http_sink

REGISTRY = PlatformRegistry()
BREAKS = ["\r\n", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
"""All that somebody's splitlines takes for the end of a line, and NUL."""

CREDENTIALS = {"smtpHost": "mail.example", "smtpPort": 25, "fromEmail": "shop@example.com", "fromName": "Shop"}
UNSUBSCRIBE = "https://example.com/off"
FILE = {"data": base64.b64encode(b"x").decode(), "filename": "a.txt", "mimeType": "text/plain"}

PLACES: dict[str, dict[str, Any]] = {
    "subject": {"subject": "Hi{}"},
    "text": {"text": "Hello{}"},
    "header's value": {"email": {"headers": {"X-Mine": "a{}"}}},
    "header's name": {"email": {"headers": {"X-Mine{}": "a"}}},
    "cc": {"email": {"cc": ["ann{}@example.com"]}},
    "cc, at the end": {"email": {"cc": ["ann@example.com{}"]}},
    "bcc": {"email": {"bcc": ["ann@example.com{}"]}},
    "reply-to": {"email": {"replyTo": "ann@example.com{}"}},
    "list-unsubscribe": {"email": {"listUnsubscribe": UNSUBSCRIBE + "{}"}},
    "list-unsubscribe, second": {"email": {"listUnsubscribe": UNSUBSCRIBE + ",{}" + UNSUBSCRIBE}},
    "list-unsubscribe header": {"email": {"headers": {"List-Unsubscribe": f"<{UNSUBSCRIBE}{{}}>"}}},
    "file's name": {"attachments": [FILE | {"filename": "a{}.txt"}]},
    "file's type": {"attachments": [FILE | {"mimeType": "text/plain{}"}]},
    "file's type in its data": {"attachments": [{"data": f"data:text/plain{{}};base64,{FILE['data']}"}]},
    "file's address": {"attachments": [{"url": "https://example.com/a{}.txt"}]},
    "replied to": {"options": {"replyTo": "<a@example.com{}>"}},
    "recipient": {"to": "ann@example.com{}"},
    "sender": {"credentials": {"fromEmail": "shop@example.com{}"}},
    "sender's name": {"credentials": {"fromName": "Shop{}"}},
    "account's list-unsubscribe": {"credentials": {"listUnsubscribe": UNSUBSCRIBE + "{}"}},
}
EVIL = "Bcc: evil@example.com"


def spoiled(value: Any, broken: str) -> Any:
    match value:
        case str():
            return value.replace("{}", f"{broken}{EVIL}{broken}")
        case list():
            return [spoiled(each, broken) for each in value]
        case dict():
            return {spoiled(key, broken): spoiled(each, broken) for key, each in value.items()}
        case _:
            return value


def with_a_break_only(value: Any, broken: str) -> Any:
    """The same place, with a break and nothing after it: `$` of regular expressions takes one for the end."""
    return msgspec.json.decode(msgspec.json.encode(value).replace(b"{}", msgspec.json.encode(broken)[1:-1]))


@pytest.mark.parametrize("place", PLACES)
async def test_no_line_break_makes_a_header_of_a_mail(place: str) -> None:
    expected = headers_of(await mail_of({}))
    for broken in BREAKS:
        for given in (spoiled(PLACES[place], broken), with_a_break_only(PLACES[place], broken)):
            try:
                mail = await mail_of(given)
            except (PermanentError, msgspec.ValidationError, RefusedError):
                continue
            found = headers_of(mail)
            assert found - {"cc", "reply-to", "x-mine", "list-unsubscribe", "list-unsubscribe-post"} <= expected, given
            assert b"\nBcc:" not in mail.replace(b"\nBcc: evil@example.com\r\n\r\n", b"") or place == "text"
            assert not has_evil_part(message_from_bytes(mail)), given


class RefusedError(Exception):
    """The checks of the API refused it."""


async def mail_of(given: Mapping[str, Any]) -> bytes:
    """What goes to the mail server, once all that the API checks has passed."""
    content = {"subject": "Hi", "text": "Hello"} | {
        key: given[key] for key in ("subject", "text", "attachments") if key in given
    }
    content["platformOptions"] = {"email": given.get("email", {})}
    read = msgspec.json.decode(msgspec.json.encode(content), type=Content)
    delivery = make_delivery(given.get("to", "bob@example.com"), read, options=given.get("options"))
    credentials = CREDENTIALS | given.get("credentials", {})
    errors = [
        *REGISTRY.check_content("email", read, delivery.options),
        *REGISTRY.check_target("email", delivery.target),
        *REGISTRY.check_credentials("email", credentials),
    ]
    if errors:
        raise RefusedError
    async with open_transport(EgressGuard(), limit=1) as transport:
        inline = [file for file in read.attachments or () if file.url is None]
        files = await AttachmentLoader(transport, 1000).load(inline)
    return render(credentials, delivery, files, datetime(2026, 1, 1, tzinfo=UTC)).data


def headers_of(mail: bytes) -> set[str]:
    return {name.lower() for name in message_from_bytes(mail).keys()}  # noqa: SIM118 - a name may be there twice


def has_evil_part(message: Message) -> bool:
    return any("bcc" in {name.lower() for name in part.keys()} for part in message.walk())  # noqa: SIM118


# --- HTTP: what adapters and webhooks send


def http_places(broken: str) -> Iterator[dict[str, Any]]:
    yield {"headers": {"X-Mine": f"a{broken}X-Evil: b"}}
    yield {"headers": {f"X-Mine{broken}X-Evil": "b"}}
    yield {"body": [Part("a", b"x", filename=f"a{broken}X-Evil: b{broken}")]}
    yield {"body": [Part("a", b"x", mime_type=f"text/plain{broken}X-Evil: b")]}
    yield {"body": [Part(f'a"{broken}X-Evil: b', b"x")]}


@pytest.mark.parametrize("broken", ["\r\n", "\n", "\r", "\x00"], ids=repr)
async def test_no_line_break_makes_a_header_of_a_request(broken: str) -> None:
    async with http_sink() as sink, open_transport(EgressGuard(["127.0.0.1"]), limit=1) as transport:
        for given in http_places(broken):
            with pytest.raises(PermanentError) as raised:
                await transport.request("POST", sink.url, **given)
            assert raised.value.code == "header_invalid"
        assert (await transport.request("POST", sink.url, body=[Part("a", b"x", filename="ü.txt")])).status == 204
    assert len(sink.requests) == 1
