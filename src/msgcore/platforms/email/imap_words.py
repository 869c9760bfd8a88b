"""How values are written in IMAP commands (RFC 3501)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from datetime import date

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OTHER = re.compile(r"[^\x20-\x7e]+|&")


def quoted(text: str) -> bytes:
    """A string in quotes; the text has no control characters."""
    return b'"' + text.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def wire_folder(name: str) -> str:
    """A folder's name in modified UTF-7 (5.1.3)."""
    return _OTHER.sub(lambda match: "&-" if match[0] == "&" else f"&{_base64(match[0])}-", name)


def wire_date(day: date) -> str:
    """A day; month names are English, whatever the locale."""
    return f"{day.day}-{_MONTHS[day.month - 1]}-{day.year}"


def uid_set(uids: Sequence[int]) -> str:
    """A set of UIDs in ascending order, neighbours as ranges."""
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in _ranges(uids))


def _ranges(uids: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = uids[0]
    for uid in uids[1:]:
        if uid != last + 1:
            yield first, last
            first = uid
        last = uid
    yield first, last


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-16-be"), b"+,").rstrip(b"=").decode()
