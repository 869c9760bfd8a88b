"""What outsiders could send in place of what they do: real samples with something changed, and bytes of any kind.

Strategies of Hypothesis, so that what fails is made small, and coverage-guided engines can drive them as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any
from urllib.parse import parse_qsl, quote_from_bytes, urlencode

import msgspec
from hypothesis import strategies as st

Draw = Any

_MARK = "\ue000"
"""Stands around what a JSON encoder would not write, until it has written the rest."""
_MARKED = re.compile(rb'"\xee\x80\x80((?:[^"\\]|\\.)*?)\xee\x80\x80"')
_MOST = 200_000
"""Bytes that a part may get by being repeated."""


def _raw(json: str) -> str:
    return f"{_MARK}{json}{_MARK}"


def _deep(times: int) -> str:
    return _raw("[" * times + "]" * times)


ODD_TEXTS = (
    *("", " ", "x", "\0", "a\0b", "\x1b[31m", "\u2028", "\ufeff", "\ufffe", "\u202egnp.exe", "\U0001f468\u200d\U0001f469"),
    *("0", "-1", "1.5", "1e400", "NaN", "9" * 20, "9" * 5000, "\u0661\u0662", "0x10", "1_000", "true", "null"),
    *("e" * 255, "e" * 256, "n" * 1025, "u" * 5000, "\u0301" * 300, "t" * 70_000),
    *("&#x110000;", f"&#{'1' * 5000};", "&amp", "<b", "</", "<!--", "<https://x.example|", "<@U1>", "<!channel>"),
    *("javascript:alert(1)", "data:text/html,x", "http://[", "http://x.example:99999999/", "//x", "file:///etc/passwd"),
    *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "%", "%zz", "%00", "{", '{"a":1}'),
    *("../../x", "a;b=c&d", "a\r\nb: c", "@", "a@b", "@lid", "@g.us", ":", "\ud7ff", "\U0010ffff", "=?utf-8?q?x", "-" * 300),
)  # fmt: skip
ODD_NUMBERS = (
    0,
    -1,
    1,
    0.5,
    -1.5,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    1e18,
    1e300,
    1e17,
    1e15,
    -1e12,
)
ODD_VALUES = (
    *(None, True, False, *ODD_NUMBERS, [], {}, [None], [[]], {"a": 1}, [{}], {"id": {}}, ["x"], [1]),
    *(_raw(each) for each in ("NaN", "Infinity", "-Infinity", "1e999", "01", "'x'", "", "undefined", "9" * 5000)),
    *(_raw(f'"{each}"') for each in ("\\ud800", "\\udc00x", "\\u0000", "\\x", "\t")),
    *(_deep(100), _deep(900), _deep(100_000), _raw('{"a":' * 500 + "1" + "}" * 500)),
)
ODD_BYTES = (b"", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"{", b"}", b'"', b"\\", b"\r\n", b"&", b"=", b"%", b"/*", b"a" * 4096)  # fmt: skip

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
values = st.sampled_from(ODD_VALUES).map(deepcopy) | texts


# --- JSON


@st.composite
def documents(draw: Draw, samples: Sequence[bytes]) -> bytes:
    """JSON like one of these, with a few places changed."""
    document = msgspec.json.decode(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 3))):
        document = changed(draw, document)
    try:
        written = msgspec.json.encode(document)
    except (RecursionError, UnicodeEncodeError):
        return b'{"a":' * 2000
    return damaged(draw, _marked_out(written))


def _written(document: Any) -> bytes:
    return _marked_out(msgspec.json.encode(document))


def _marked_out(written: bytes) -> bytes:
    return _MARKED.sub(lambda found: _unquoted(found[1]), written)


def _unquoted(written: bytes) -> bytes:
    return msgspec.json.decode(b'"' + written + b'"').encode()


def changed(draw: Draw, document: Any) -> Any:
    """A document with one place changed; it may be changed itself."""
    places = list(_places(document))
    if not places:
        return draw(values)
    container, key = places[draw(st.integers(0, len(places) - 1))]
    return _CHANGES[draw(st.sampled_from(sorted(_CHANGES)))](draw, document, container, key)


def _places(document: Any) -> Any:
    """Each container of a document with each of its keys."""
    waiting = [document]
    while waiting:
        container = waiting.pop()
        for key in (
            list(container)
            if isinstance(container, dict)
            else range(len(container))
            if isinstance(container, list)
            else ()
        ):
            yield container, key
            waiting.append(container[key])


def _drop(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    del container[key]
    return document


def _replace(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    container[key] = draw(values)
    return document


def _retype(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    """The same, as another type."""
    value = container[key]
    same = [[value], {"value": value}, [value, value], bool(value)]
    more = [len(value), value[:200] * 50, list(value[:5])] if isinstance(value, str) else [str(value)[:1000]]
    container[key] = draw(st.sampled_from([*same, *more]))
    return document


def _swap(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    other, place = draw(st.sampled_from(list(_places(document))))
    if not _holds(container[key], other) and not _holds(other[place], container):
        container[key], other[place] = other[place], container[key]
    return document


def _holds(value: Any, container: Any) -> bool:
    return any(each is container for each, _ in _places([value]))


def _rename(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    if isinstance(container, dict):
        container[draw(texts)] = container.pop(key)
    return document


def _repeat(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    """A list with many times as much in it, or many of a value."""
    value = container[key]
    times = min(draw(st.sampled_from((2, 3, 120, 1000))), _MOST // (1 + _size(value)))
    container[key] = value * times if isinstance(value, list) else [value] * times
    return document


def _size(value: Any) -> int:
    try:
        return len(msgspec.json.encode(value))
    except (RecursionError, UnicodeEncodeError):
        return _MOST


def _nest(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    """A part within itself, very deep."""
    made = value = container[key]
    small = {name: each for name, each in container.items() if _size(each) < 40} if isinstance(container, dict) else {}
    for _ in range(draw(st.sampled_from((2, 60, 450)))):
        made = [made] if isinstance(container, list) else {**small, key: [made] if isinstance(value, list) else made}
    container[key] = made
    return document


def _splice(draw: Draw, document: Any, container: Any, key: Any) -> Any:
    value = container[key]
    if isinstance(value, str):
        at = draw(st.integers(0, len(value)))
        container[key] = value[:at] + draw(texts) + value[at:]
    else:
        container[key] = draw(values)
    return document


_CHANGES = {each.__name__: each for each in (_drop, _replace, _retype, _swap, _rename, _repeat, _nest, _splice)}


_PLAIN_VALUES = (None, 10**17, "9" * 5000, ["x"])


def variations(body: bytes) -> Iterator[bytes]:
    """JSON with each of its parts in turn something else, or not there; nothing for what is no JSON."""
    if not body.startswith(b"{"):
        return
    document = msgspec.json.decode(body)
    for container, key in list(_places(document)):
        before = container[key]
        for value in (_deep(600), *_PLAIN_VALUES):
            container[key] = value
            yield _written(document)
        del container[key]
        yield _written(document)
        if isinstance(container, list):
            container.insert(key, before)
        else:
            container[key] = before


# --- forms


@st.composite
def forms(draw: Draw, samples: Sequence[str]) -> bytes:
    """A form (application/x-www-form-urlencoded) like one of these; JSON in its fields is changed as well."""
    pairs = parse_qsl(draw(st.sampled_from(samples)), keep_blank_values=True)
    for _ in range(draw(st.integers(1, 3))):
        pairs = _changed_pairs(draw, pairs)
    written = urlencode([(name, value) for name, value in pairs], errors="replace").encode()
    if draw(st.booleans()):
        return written
    at = draw(st.integers(0, len(written)))
    odd = draw(
        st.sampled_from(
            (b"%", b"%zz", b"%ff", b"%00", b"%ed%a0%80", b"&", b"=", b"&&&=", b";", b"+", b"\xff", b"&a=1" * 1200)
        )
    )
    return written[:at] + odd + written[at:]


def _is_json(text: str) -> bool:
    """Whether it is JSON: an earlier change may have left something else."""
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _changed_pairs(draw: Draw, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if not pairs:
        return [(draw(texts), draw(texts))]
    at = draw(st.integers(0, len(pairs) - 1))
    name, value = pairs[at]
    if value.startswith("{") and _is_json(value):
        inner = draw(documents([value.encode()])).decode("utf-8", "replace")
        return [*pairs[:at], (name, inner), *pairs[at + 1 :]]
    instead = draw(
        st.sampled_from(((), ((name, value), (name, value)), ((value, name),)))
        | st.tuples(st.tuples(st.just(name), texts))
        | st.tuples(st.tuples(texts, st.just(value)))
    )
    return [*pairs[:at], *instead, *pairs[at + 1 :]]


# --- texts and bytes


@st.composite
def lines(draw: Draw, samples: Sequence[bytes], odd: Sequence[bytes] = ODD_BYTES) -> bytes:
    """A text of lines like one of these: some left out, repeated, in another order, or odd."""
    found = draw(st.sampled_from(samples)).split(b"\n")
    for _ in range(draw(st.integers(1, 4))):
        at, other = (draw(st.integers(0, len(found) - 1)) for _ in range(2))
        match draw(st.integers(0, 5)):
            case 0 if len(found) > 1:
                del found[at]
            case 1:
                found[at:at] = [found[at]] * draw(st.sampled_from((1, 2, 400)))
            case 2:
                found[at], found[other] = found[other], found[at]
            case 3:
                found.insert(at, draw(st.sampled_from(odd)))
            case 4:
                found[at] = draw(st.sampled_from(odd))
            case _:
                found[at] = spliced(draw, found[at], odd)
    return damaged(draw, b"\n".join(found))


def spliced(draw: Draw, data: bytes, odd: Sequence[bytes] = ODD_BYTES) -> bytes:
    """Bytes with something put into them."""
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.sampled_from(odd) | st.binary(max_size=8)) + data[at:]


def damaged(draw: Draw, data: bytes) -> bytes:
    """Bytes as they are, mostly; else as they come over a bad line."""
    kind = draw(st.integers(0, 31))
    if kind > 6:
        return data
    first, last = sorted(draw(st.integers(0, len(data))) for _ in range(2))
    match kind:
        case 0:
            return data[:first]
        case 1:
            return data[:first] + data[last:]
        case 2:
            return data[:last] + data[first:]
        case 3:
            return spliced(draw, data)
        case 4:
            return b"\xef\xbb\xbf" + data
        case 5:
            return data.decode("utf-8", "replace").encode("utf-16")
        case _:
            return data + data


def queries(draw: Draw, sample: str) -> str:
    """A query as it came, or another one."""
    kind = draw(st.integers(0, 3))
    if kind < 2:
        return sample
    return draw(forms([sample])).decode("latin-1") if sample and kind == 2 else draw(_ODD_QUERIES)


_ODD_QUERIES = st.sampled_from(("&", "a=1&a=2", "hub.mode=subscribe&hub.challenge=%ff", "%", "=", "bodySHA256=0")) | (
    st.binary(max_size=20).map(quote_from_bytes)
)


def bodies_like(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Bodies like these, each changed as what it is: JSON, a form, or a text of lines; and bytes of any kind."""
    jsons = [each for each in samples if each.startswith((b"{", b"["))]
    rest = [each for each in samples if each not in jsons]
    flat = [each.decode() for each in rest if b"\n" not in each]
    written = [each for each in rest if b"\n" in each]
    kinds = [
        made(given)  # type: ignore[operator]
        for made, given in ((documents, jsons), (forms, flat), (lines, written))
        if given
    ]
    return st.one_of(*kinds, *kinds, *kinds, st.binary(max_size=60))
