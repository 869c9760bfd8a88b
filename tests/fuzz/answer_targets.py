"""What platforms answer to what is sent to them: in any shape, with any headers, at any status."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from hypothesis import strategies as st

from fuzz.hurried import hurried
from fuzz.mutation import ODD_TEXTS, documents
from fuzz.stored import check_text
from fuzz.target import Target
from msgcore.core.clock import SystemClock
from msgcore.core.envelope import File
from msgcore.core.errors import DeliveryError, InvalidInputError, ThrottledError
from msgcore.outbound.attachments import AttachmentLoader
from msgcore.outbound.http import LONGEST_WAIT
from msgcore.outbound.services import AdapterServices
from msgcore.outbound.transport import Response
from msgcore.platforms.base import CAPABILITY_OF, Account, PlatformAdapter, SentReceipt
from msgcore.security.egress import EgressGuard
from servers.deliveries import make_action, make_content, make_delivery
from servers.facts import Facts, every_action
from servers.http_sink import Request

PAGES = (b"", b"<html><body>Sign in</body></html>", b"OK", b"\xff\xfe", b'{"a":1}\n{"b":2}', b"null", b"[]", b"7")
STATUSES = (200, 201, 202, 204, 207, 301, 400, 401, 403, 404, 405, 408, 409, 410, 413, 422, 425, 429, 500, 503, 599)
_WAITS = ("0", "7", "-1", "1e9", "nan", "inf", "Wed, 06 May 2026 12:00:09 GMT", "Wed, 06 May 99999999999 12:00:00 GMT")
HEADERS = [*_WAITS, *(text for text in ODD_TEXTS if len(text) < 2000 and text.isprintable())]


class OddHeaders(Mapping[str, str]):
    """Headers of an answer: whichever is looked for, it may be there, with anything in it."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def __getitem__(self, name: str) -> str:
        if self._draw(st.booleans()):
            raise KeyError(name)
        return self._draw(st.sampled_from(HEADERS))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Answering:
    """A transport that answers by `facts`, with something changed."""

    def __init__(self, draw: Any, facts: Facts, examples: Sequence[tuple[int, Any]]) -> None:
        self._draw = draw
        self._facts = facts
        self._examples = examples

    async def request(self, method: str, url: str, *, headers: Any = None, body: Any = None, **_: Any) -> Response:
        return self._answer(method, url, headers, body)

    @asynccontextmanager
    async def download(self, url: str, *, headers: Any = None, **_: Any) -> Any:
        answer = self._answer("GET", url, headers, None)
        yield Whole(answer)

    def _answer(self, method: str, url: str, headers: Any, body: Any) -> Response:
        draw = self._draw
        status, document = self._usual(method, url, headers, body)
        if draw(st.integers(0, 2)) == 0:
            status, document = draw(st.sampled_from([*self._examples, (status, document)]))
        if draw(st.integers(0, 3)) == 0:
            status = draw(st.sampled_from(STATUSES))
        plain = msgspec.json.encode(document)
        answered = draw(
            st.one_of(st.just(plain), documents([plain]), documents([plain]), st.sampled_from((*PAGES, None)))
        )
        return Response(status, OddHeaders(draw), answered)

    def _usual(self, method: str, url: str, headers: Any, body: Any) -> tuple[int, Any]:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            return self._facts.answers(Request(method, path, {"Host": parts.netloc, **(headers or {})}, body or b""))
        except Exception:  # noqa: BLE001 - asked for what the facts know no answer to
            return 200, {}


class Whole:
    """An answer that has come as a whole, read like one that comes piece by piece."""

    def __init__(self, answer: Response) -> None:
        self.status, self.headers, self._body = answer

    async def read(self, max_bytes: int) -> bytes:
        return (self._body or b"")[:max_bytes]


def services_with(http: Any) -> AdapterServices:
    """Services whose HTTP is this."""
    return AdapterServices(
        http=http,
        held_http=http,
        egress=EgressGuard(),
        attachments=AttachmentLoader(http, 1_000_000),
        database=None,  # type: ignore[arg-type]
        clock=SystemClock(),
        base_urls={},
    )


def _check_error(error: DeliveryError) -> None:
    error.message.encode()
    assert not isinstance(error, ThrottledError) or 0 <= error.retry_after < math.inf


def answers_target(name: str, adapter_class: type[PlatformAdapter], account: Account, facts: Facts) -> Target:
    """Each thing that an adapter asks for ends as it should, whatever the answer."""
    examples = [(rule.status or 400, rule.example) for rule in adapter_class.errors.rules]
    examples += [(throttle.status, throttle.body) for throttle in facts.throttles]
    can = {info.capability for info in adapter_class.declaration.capabilities}
    actions = [each for each in every_action(facts.message_id) if CAPABILITY_OF[type(each)] in can]
    content = make_content(text="Hello", buttons=[{"text": "Yes", "value": "y"}])

    def look(data: st.DataObject) -> None:
        adapter = adapter_class(services_with(Answering(data.draw, facts, examples)))
        delivery = make_delivery(facts.target, content, target_type=facts.target_type)
        file = File(type="image", id="17", url="https://platform.example/f.png")
        asked = {
            "send": lambda: adapter.send(account, delivery),
            "find": lambda: adapter.find_sent(account, delivery),
            "register": lambda: adapter.register_webhook(account, "https://msgcore.example/hook"),
            "qr": lambda: adapter.qr_code(account),
            "locate": lambda: adapter.locate_file(account, file),
            **{
                f"act {number}": lambda action=action: adapter.act(
                    account, make_action(facts.target, action, target_type=facts.target_type)
                )
                for number, action in enumerate(actions)
            },
        }
        made = asked[data.draw(st.sampled_from(sorted([*asked, "send", "send", "send"])))]
        try:
            found = hurried(made())
        except DeliveryError as error:
            _check_error(error)
        except InvalidInputError:
            pass
        else:
            if isinstance(found, SentReceipt) and found.provider_message_id is not None:
                check_text(found.provider_message_id.replace("\0", ""))
            if isinstance(found, SentReceipt) and found.pace is not None:
                assert 0 <= found.pace.reset_after <= LONGEST_WAIT
            msgspec.json.encode(found) if isinstance(found, dict | SentReceipt) else None

    return Target(f"{name}: what it answers", st.data(), look)
