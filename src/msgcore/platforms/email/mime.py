"""A raw mail (RFC 5322, MIME) read into what an envelope needs: ids, addresses, text and files.

Python's parser does the reading, under limits that end it at once: it makes a message of each part, and here each
of them counts. Header values are taken as they came and decoded here, since the parser's own objects for them
raise for damaged ones and take long for large ones. Nothing is ever unpacked, fetched or run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.generator import BytesGenerator
from email.message import EmailMessage
from email.parser import BytesFeedParser
from email.policy import EmailPolicy, Policy, compat32
from email.utils import getaddresses
from functools import partial
from io import BytesIO
from typing import Any

from msgcore.core.envelope import ATTACHMENTS, File
from msgcore.outbound.plain_text import html_to_text
from msgcore.platforms.email.decoding import as_bytes, clean_text, decode, decode_transfer, header_text, one_line
from msgcore.platforms.receiving import BeyondLimitsError, OversizedError, UnreadableError

LARGEST = 25 * 1024 * 1024
"""Bytes of a mail: what the large providers take."""
MOST_LINES = 500_000
"""A mail of LARGEST bytes in base64 has some 340,000; each costs the parser time and memory."""
MOST_PARTS, DEEPEST = 1000, 20
MOST_HEADERS, LARGEST_HEADERS = 10_000, 512 * 1024
"""Headers of all parts of a mail, and characters of them."""
LONGEST_TEXT, LONGEST_HTML = 1_000_000, 100_000
"""Characters; what is beyond is cut off."""

_KEPT_OF_HEADER, _KEPT_OF_MIME_HEADER = 32 * 1024, 4096
_MARKS_A_MAIL = ("from", "to", "subject", "date", "message-id", "received", "return-path")
_SAME_BUT_RICHER = frozenset(("text/enriched", "text/richtext", "text/watch-html", "text/x-amp-html"))
_KINDS = frozenset(("image", "video", "audio"))
_ID = re.compile(r"<([^<>]+)>")
_WORD = re.compile(r"""[^\s<>()\[\],;:"]+""")


# --- parsing, within limits


@dataclass(slots=True)
class _Count:
    """What was found of a mail so far."""

    parts: int = 0
    headers: int = 0
    header_size: int = 0


class Part(EmailMessage):
    """A part of a mail that counts itself, its depth and its headers. Raises BeyondLimitsError for one too many."""

    def __init__(self, policy: Policy | None = None, *, count: _Count | None = None) -> None:
        super().__init__(policy)
        self.depth = 0
        self._count = count or _Count()
        self._count.parts += 1
        if self._count.parts > MOST_PARTS:
            raise BeyondLimitsError(f"the mail has more than {MOST_PARTS} parts")

    @property
    def source(self) -> bytes | None:
        """What is in the part as it came, still encoded; None for one that has parts.

        `get_payload` decodes it by the charset that the part names, with losses.
        """
        payload: Any = vars(self).get("_payload")
        return as_bytes(payload) if isinstance(payload, str) else None

    def attach(self, payload: Any) -> None:
        """Take a part in."""
        payload.depth = self.depth + 1
        if payload.depth > DEEPEST:
            raise BeyondLimitsError(f"the mail has parts nested more than {DEEPEST} deep")
        super().attach(payload)

    def set_raw(self, name: str, value: str) -> None:
        """Take a header in."""
        self._count.headers += 1
        self._count.header_size += len(name) + len(value)
        if self._count.headers > MOST_HEADERS or self._count.header_size > LARGEST_HEADERS:
            raise BeyondLimitsError(f"the mail has more than {MOST_HEADERS} headers or {LARGEST_HEADERS} bytes of them")
        mime = name.lower().startswith("content-")
        super().set_raw(name, value[: _KEPT_OF_MIME_HEADER if mime else _KEPT_OF_HEADER])


class _AsTheyCame(EmailPolicy):
    """The default policy, but header values stay text."""

    def header_fetch_parse(self, name: str, value: str) -> str:
        del name
        return value


def parse(data: bytes) -> Part:
    """The parts of a mail. Raises UnreadableError for what is none, or is beyond the limits."""
    if len(data) > LARGEST:
        raise OversizedError(f"the mail has {len(data)} bytes; at most {LARGEST} are read")
    if data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n") > MOST_LINES:
        raise BeyondLimitsError(f"the mail has more than {MOST_LINES} lines")
    parser = BytesFeedParser(policy=_AsTheyCame(message_factory=partial(Part, count=_Count())))
    parser.feed(data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n"))
    root: Any = parser.close()
    if not any(name in root for name in _MARKS_A_MAIL):
        raise UnreadableError("this is no e-mail: it has none of the headers that e-mails have")
    return root


def subparts(part: Part) -> Sequence[Part]:
    """The parts in a part; none for one that is not made of any."""
    if not part.is_multipart():
        return ()
    found: Any = part.get_payload()
    return found


def content(part: Part, most: int | None = None) -> bytes:
    """What is in a part that has no parts, decoded; about the first `most` bytes of it, or all."""
    source = part.source or b""
    encoding = header(part, "content-transfer-encoding") or ""
    return decode_transfer(source if most is None else source[: 4 * most], encoding.lower())[:most]


# --- headers


def header(part: Part, name: str) -> str | None:
    """The first header of a name, decoded and on one line; None where there is none, or an empty one."""
    value: Any = part.get(name)
    return None if value is None else header_text(value) or None


def addresses(part: Part, name: str) -> list[tuple[str, str]]:
    """The (name, address) pairs of a header; names decoded, addresses as they were written."""
    value = _with_encoded_words(part, name)
    if value is None:
        return []
    try:
        found = getaddresses([value])
    except (RecursionError, ValueError, IndexError):
        found = []
    if all("@" in address for _, address in found):
        return [(header_text(shown), one_line(address)) for shown, address in found]
    # Written so that the rules make something else of it, such as a name with an unquoted comma.
    return _addresses_among_words(value)


def _addresses_among_words(value: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    end = 0
    for match in _WORD.finditer(value):
        if _looks_like_an_address(match[0]):
            found.append((header_text(value[end : match.start()]).strip(" \"'<>,;"), match[0]))
            end = match.end()
    return found


def _looks_like_an_address(word: str) -> bool:
    local, at, domain = word.partition("@")
    return bool(local and at and domain) and "@" not in domain


def message_ids(part: Part, name: str) -> list[str]:
    """The message ids in a header, without <>."""
    value = header(part, name)
    if value is None:
        return []
    found = [one_line(match) for match in _ID.findall(value)]
    found = found or [word for word in _WORD.findall(value) if _looks_like_an_address(word)]
    return [each for each in found if each]


def parameter(part: Part, name: str, of: str = "content-type") -> str | None:
    """A parameter of a header, also one in pieces or with a charset of its own (RFC 2231)."""
    try:
        value: Any = part.get_param(name, None, of)
    except (ValueError, TypeError, IndexError):  # digits without end, among others
        return None
    if isinstance(value, tuple):
        charset, _, text = value  # pyright: ignore[reportUnknownVariableType]
        value = decode(str(text).encode("raw-unicode-escape"), charset)  # pyright: ignore[reportUnknownArgumentType]
    return header_text(str(value)) or None if value else None


def filename(part: Part) -> str | None:
    """The name of the file in a part, without folders."""
    name = parameter(part, "filename", "content-disposition") or parameter(part, "name") or ""
    return name.replace("\\", "/").rpartition("/")[2] or None


def _with_encoded_words(part: Part, name: str) -> str | None:
    """A header with its encoded words as they are: what they hold must not be taken for addresses."""
    value: Any = part.get(name)
    if value is None:
        return None
    return one_line(value if value.isascii() else decode(as_bytes(value), None))


# --- text and files


@dataclass(slots=True)
class _Said:
    """A piece of the body: as plain text, as HTML, or as both."""

    plain: str | None = None
    html: str | None = None


@dataclass(slots=True)
class Body:
    """What a mail says, and the files with it; `left_out` is how many more files there were."""

    text: str | None = None
    html: str | None = None
    files: list[File] = field(default_factory=list)
    left_out: int = 0


def read_body(root: Part) -> Body:
    """The text of a mail (plain where there is any, else made of the HTML), its HTML and its files.

    Files are numbered as IMAP numbers parts (RFC 9051, section 6.4.5.1): `2.1` is the first in the second.
    """
    body = Body()
    said = list(_walk(root, "" if subparts(root) else "1", body))
    texts: list[str] = []
    left = LONGEST_TEXT
    for each in said:
        text = each.plain if each.plain is not None else html_to_text((each.html or "")[:left])
        left -= len(text if each.plain is not None else each.html or "")
        if text.strip():
            texts.append(text.strip("\n").rstrip())
        if left <= 0:
            break
    body.text = clean_text("\n\n".join(texts))[:LONGEST_TEXT] or None
    body.html = clean_text("\n".join(each.html for each in said if each.html)[:LONGEST_HTML]) or None
    return body


def _walk(part: Part, number: str, body: Body, *, alternative: bool = False) -> Iterator[_Said]:
    kind = part.get_content_type()
    children = subparts(part)
    if children and not kind.startswith("message/"):
        pieces = [
            list(_walk(child, f"{number}.{place}".lstrip("."), body, alternative=kind == "multipart/alternative"))
            for place, child in enumerate(children, 1)
        ]
        yield from [_best(pieces)] if kind == "multipart/alternative" else [each for piece in pieces for each in piece]
        return
    name = filename(part)
    is_file = part.get_content_disposition() == "attachment" or name is not None or part.is_multipart()
    if not is_file and kind in ("text/plain", "text/html"):
        text = _text(part)
        yield _Said(html=text) if kind == "text/html" else _Said(plain=text)
    elif not is_file and kind.startswith("multipart/"):  # without the parts that it says it has
        yield _Said(plain=_text(part))
    elif not (alternative and kind in _SAME_BUT_RICHER):
        _add_file(body, part, number, name)


def _best(pieces: Iterable[Sequence[_Said]]) -> _Said:
    """One of several ways to say the same: the first plain text that says something, and the last HTML."""
    best = _Said()
    for piece in pieces:
        plain = "\n\n".join(each.plain for each in piece if each.plain and each.plain.strip())
        html = "\n".join(each.html for each in piece if each.html)
        best.plain = best.plain or plain or None
        best.html = html or best.html
    return best


def _text(part: Part) -> str:
    data = content(part, 4 * LONGEST_TEXT)
    return decode(data, parameter(part, "charset"), cut=len(data) == 4 * LONGEST_TEXT)[:LONGEST_TEXT]


def _add_file(body: Body, part: Part, number: str, name: str | None) -> None:
    if len(body.files) == ATTACHMENTS:
        body.left_out += 1
        return
    kind = one_line(part.get_content_type())[:255]
    main = kind.partition("/")[0]
    whole = not part.is_multipart()
    data = content(part) if whole else b"".join(map(_as_written, subparts(part)))
    if name is None and not whole and (subject := header(subparts(part)[0], "subject")):
        name = f"{subject[:250]}.eml"
    body.files.append(
        File(
            type=main if main in _KINDS else "document",  # pyright: ignore[reportArgumentType]
            id=number or "1",
            filename=name and name[-255:],
            mime_type=kind,
            size=len(data),
            data=data,
        )
    )


def _as_written(part: Part) -> bytes:
    """A mail within a mail, put together again; what its headers had beyond the limits is cut off."""
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, maxheaderlen=0, policy=compat32).flatten(part)
    return written.getvalue()
