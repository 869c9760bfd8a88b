"""What callers of the API send: bodies, frames, headers and parameters. Each is taken or refused with a 4xx."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from hypothesis import strategies as st

from fuzz.mutation import ODD_TEXTS, bodies_like, documents, texts
from fuzz.stored import check_text
from fuzz.target import Target
from msgcore.api import app as _every_body  # noqa: F401 - all of the API's bodies are known once it is there
from msgcore.api.attachments import disposition, shown_type
from msgcore.api.batch_body import _read_list
from msgcore.api.body import decode_body, refuse_coded
from msgcore.api.client_address import TrustedProxies, address_group, client_address
from msgcore.api.events import _place
from msgcore.api.parameters import read_moment, refuse_nul
from msgcore.api.request_id import request_id
from msgcore.api.socket_frames import read_frame
from msgcore.core.clock import SystemClock
from msgcore.core.content import SendRequest, Wire
from msgcore.core.errors import FieldError, InvalidInputError, ProblemError, RangeNotSatisfiableError
from msgcore.core.ids import canonical_id
from msgcore.outbound.http import retry_after
from msgcore.platforms.registry import NO_OPTIONS, PlatformRegistry
from msgcore.security.addresses import is_public, is_seen_from_outside, parse_address, reached_address
from msgcore.security.egress import url_problem
from msgcore.services.attachments import _part_of
from msgcore.services.batches import BatchDraft
from msgcore.services.send import read_time

REGISTRY = PlatformRegistry()
NOW = SystemClock().now()
LONGEST_MESSAGE = 20_000

SEND: dict[str, Any] = {
    "targets": [{"platformId": "0190a000-0000-7000-8000-000000000001", "type": "user", "id": "123456789"}],
    "content": {
        "subject": "S", "text": "t", "markdown": "**b**", "html": "<p>h</p>",
        "attachments": [{"data": "QUJD", "filename": "a.txt", "mimeType": "text/plain", "caption": "c"}, {"url": "https://x.example/a.png"}],
        "buttons": [{"text": "Yes", "value": "y", "style": "primary"}, {"text": "Open", "url": "https://x.example/"}],
        "embeds": [{"title": "T", "description": "D", "color": "#ff5733", "url": "https://x.example/", "author": {"name": "A"}, "footer": {"text": "F"}, "timestamp": "2030-01-31T12:00:00Z", "fields": [{"name": "k", "value": "v", "inline": True}]}],
        "location": {"latitude": 52.52, "longitude": 13.405, "name": "Berlin"},
        "contact": {"name": "Ann", "phone": "+4915112345678", "email": "a@x.example"},
        "poll": {"question": "Tea?", "options": ["yes", "no"], "multiple": True},
        "platformOptions": {name: {} for name in REGISTRY.names},
    },
    "options": {
        "replyTo": "17", "threadId": "18", "silent": True, "longText": "split", "degradation": "allow", "scheduled": "2030-01-31T12:00:00+02:00",
        "expiresAt": "2031-01-31T12:00:00Z", "ordering": "strict", "onUncertain": "fail", "ignoreOptOut": False,
        "fallback": {"targets": [{"type": "user", "id": "x"}], "afterSeconds": 60},
    },
    "metadata": {"trackingId": "t", "tags": ["a"], "priority": "high"},
}  # fmt: skip
FRAMES: list[dict[str, Any]] = [
    {"type": "open", "after": 0, "types": ["message.received"], "platformId": "p", "chatId": "c", "window": 10},
    {"type": "ack", "id": 5},
    {"type": "send", "requestId": "r", "message": SEND, "idempotencyKey": "k"},
    {"type": "ping"},
]


def expecting(*errors: type[Exception]) -> Callable[[Callable[[Any], object]], Callable[[Any], None]]:
    """What may raise these, and nothing else."""

    def wrap(work: Callable[[Any], object]) -> Callable[[Any], None]:
        def look(case: Any) -> None:
            try:
                work(case)
            except errors as error:
                _check_problem(error)

        return look

    return wrap


def _check_problem(error: Exception) -> None:
    assert isinstance(error, ProblemError)
    assert 400 <= error.status < 500
    assert len(error.message) < LONGEST_MESSAGE
    assert len(error.errors) <= 1000
    for each in error.errors:
        _check_field(each)


def _check_field(error: FieldError) -> None:
    msgspec.json.encode([error.pointer, error.message])
    assert error.pointer.startswith("/") or not error.pointer, error
    assert len(error.message) < LONGEST_MESSAGE


def bodies() -> list[type[Wire]]:
    """Every shape of a body, and of its parts."""
    found: dict[str, type[Wire]] = {}
    waiting = [Wire]
    while waiting:
        for each in waiting.pop().__subclasses__():
            found[f"{each.__module__}.{each.__qualname__}"] = each
            waiting.append(each)
    return [found[name] for name in sorted(found)]


def body_target() -> Target:
    """Bodies of all endpoints."""
    shapes = bodies()
    samples = {shape: {field.encode_name: "x" for field in msgspec.structs.fields(shape)} for shape in shapes}
    cases = st.sampled_from(shapes).flatmap(
        lambda shape: st.tuples(documents([msgspec.json.encode(samples[shape])]), st.just(shape))
    )
    return Target("bodies of the API", cases, expecting(InvalidInputError)(lambda case: decode_body(*case)))


@expecting(InvalidInputError)
def _look_at_send(body: bytes) -> None:
    """A message for each platform: what is wrong is said, and what is not can be shown."""
    request = decode_body(body, SendRequest)
    errors: list[FieldError] = []
    for name in REGISTRY.names:
        for target in request.targets[:3]:
            errors += REGISTRY.check_target(name, target)
        wrong = REGISTRY.check_content(name, request.content, request.options or NO_OPTIONS)
        errors += wrong
        if not wrong:
            msgspec.json.encode(REGISTRY.render(name, request.content))
    options = request.options or NO_OPTIONS
    for field, text in (("options.scheduled", options.scheduled), ("options.expiresAt", options.expires_at)):
        moment = read_time(field, text, NOW, errors)
        assert moment is None or max(moment, NOW).astimezone(NOW.tzinfo)
    for each in errors:
        _check_field(each)


@expecting(InvalidInputError)
def _look_at_batch(body: bytes) -> None:
    draft = BatchDraft()
    asyncio.run(_read_list(body, draft))
    assert draft.size >= len(draft.requests)


@expecting(InvalidInputError)
def _look_at_frame(body: bytes) -> None:
    msgspec.json.encode(read_frame(body.decode("utf-8", "surrogateescape")))


@expecting(ProblemError)
def _look_at_coding(text: str) -> None:
    refuse_coded(text)


def _look_at_proxies(case: tuple[str, bytes, str]) -> None:
    peer, line, header = case
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(client_address(scope))

    proxies = TrustedProxies(app, ["10.0.0.0/8", "127.0.0.1", "fd00::/8"], header)
    scope = {"type": "http", "client": (peer, 1), "headers": [(header.encode(), line), (header.encode(), line)]}
    asyncio.run(proxies(scope, None, None))  # type: ignore[arg-type]
    [address] = seen
    check_text(address, 5000)
    assert address == peer or parse_address(address) is not None
    address_group(address)


def _read_hops(line: str) -> None:
    for header in ("x-forwarded-for", "forwarded"):
        _look_at_proxies(("10.0.0.1", line.encode("latin-1", "replace"), header))


HOPS = ("10.0.0.1", ", ", ",", "192.0.2.1", "for=", 'For="[2001:db8::1]:80"', ";", "proto=https", "unknown", "_hidden", "[", "]", "::ffff:10.0.0.1", "fe80::1%eth0", ":80", '"', "=", " ", "999.1.1.1", "\u00e4")  # fmt: skip


def _look_at_range(case: tuple[str, int]) -> None:
    text, size = case
    try:
        part = _part_of(text, size)
    except RangeNotSatisfiableError:
        return
    assert part is None or 0 <= part[0] < part[1] <= size


def _look_at_wait(text: str) -> None:
    wait = retry_after(text, NOW)
    assert wait is None or wait >= 0


def _look_at_url(text: str) -> None:
    problem = url_problem(text)
    if problem is None:
        is_seen_from_outside(text)
    address = parse_address(text)
    if address is not None:
        is_public(reached_address(address))


@expecting(InvalidInputError)
def _look_at_inline(text: str) -> None:
    request = decode_body(
        msgspec.json.encode({"targets": SEND["targets"], "content": {"attachments": [{"data": text}]}}), SendRequest
    )
    for name in REGISTRY.names:
        for each in REGISTRY.check_content(name, request.content):
            _check_field(each)


def _look_at_request_id(value: bytes) -> None:
    check_text(request_id({"headers": [(b"x-request-id", value)]}), 128)  # type: ignore[typeddict-item]


def _look_at_name(text: str) -> None:
    for shown in (disposition(text), shown_type(text)):
        shown.encode("latin-1")
        assert shown.isprintable()


def targets() -> Iterator[Target]:
    """Those of the API."""
    lines = st.lists(st.sampled_from(HOPS), max_size=12).map("".join).map(lambda line: line.encode("latin-1"))
    ranges = st.sampled_from(
        ("bytes=0-1", "bytes=-5", "bytes=5-", "bytes=9-1", "bytes=0-0,1-1", "Bytes=0-1")
    ) | st.builds("bytes={}-{}".format, texts, texts)
    short = st.sampled_from([text for text in ODD_TEXTS if len(text) < 3000]) | st.text(max_size=30)
    urls = st.builds(
        "{}{}{}{}".format,
        st.sampled_from(("http://", "https://", "HTTP:", "//", "ftp://", "", "http:///", "http:\\\\")),
        short,
        st.sampled_from((":80", ":0", ":x", ":99999", "@h", "", "/a?b#c", "%00")),
        short,
    )
    yield body_target()
    yield Target("messages to send", documents([msgspec.json.encode(SEND)]), _look_at_send)
    yield Target(
        "batches",
        bodies_like([msgspec.json.encode([SEND, SEND]), msgspec.json.encode({"messages": [SEND]})]),
        _look_at_batch,
    )
    yield Target(
        "frames of the event socket", bodies_like([msgspec.json.encode(each) for each in FRAMES]), _look_at_frame
    )
    yield Target(
        "addresses behind proxies",
        st.tuples(
            st.sampled_from(("10.0.0.1", "192.0.2.1", "127.0.0.1", "", "unix:")),
            lines,
            st.sampled_from(("x-forwarded-for", "forwarded")),
        ),
        _look_at_proxies,
        _read_hops,
        (",", "10.0.0.1,", 'for="', "for=10.0.0.1;,", "["),
    )
    yield Target("ranges of bytes", st.tuples(ranges, st.integers(0, 2**40)), _look_at_range)
    yield Target(
        "Retry-After",
        texts | st.text(max_size=40) | st.builds("Wed, {} May {} 12:{}:09 {}".format, short, short, short, short),
        _look_at_wait,
        lambda text: retry_after(text, NOW),
        ("1", "Mon, ", "(", "+", "01 Jan "),
    )
    yield Target("addresses that users name", urls, _look_at_url, _look_at_url, ("http://", "a.", "@", "[", "%", ":1"))
    yield Target(
        "files within messages",
        texts | st.builds("data:{};base64,{}".format, texts, texts),
        _look_at_inline,
        lambda text: _look_at_inline(f"data:{text}"),
        (";a=b", "a", ";base64,"),
    )
    yield Target(
        "times",
        short | st.builds("{}-01-01T00:00:00{}".format, short, short),
        expecting(InvalidInputError)(lambda text: read_moment("startDate", "/query/startDate", text)),
    )
    yield Target("Last-Event-ID", short, expecting(InvalidInputError)(_place))
    yield Target(
        "queries with NUL",
        st.binary(max_size=40) | st.sampled_from((b"%00", b"a%00=1&b", b"a=%00&" * 500)),
        expecting(InvalidInputError)(lambda query: refuse_nul("/", query)),
        lambda text: refuse_nul("/", text.replace("%00", "").encode()),
        ("a=1&", "%0"),
    )
    yield Target("ids", short, canonical_id)
    yield Target("X-Request-ID", st.binary(max_size=200), _look_at_request_id)
    yield Target("Content-Encoding", short, _look_at_coding)
    yield Target(
        "names of files",
        texts | st.text(max_size=40),
        _look_at_name,
        _look_at_name,
        ("html", "a/xml", "multipart/", "%", "\u202e"),
    )
