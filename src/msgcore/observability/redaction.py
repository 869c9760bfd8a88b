"""Takes secrets out of what is logged: by the name of a field, by the look of a value, by the value itself.

It errs on the side of hiding: a harmless value behind the word `password` is lost from the log, a
password is not found in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

MASK = "***"
MAX_TEXT = 8192
"""Characters kept of one text; the middle is cut out, because tracebacks say most at their ends."""

_MAX_SCANNED = 256 * 1024
_MARGIN = 2048
_MAX_DEPTH = 6
_MAX_BITS = 63
_MAX_ITEMS = 64
_SHORTEST_SECRET = 6
"""Shorter known secrets are not searched for by value: they would hide ordinary words."""

_NAMES = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|api[-_ ]?key|private[-_ ]?key|encryption[-_ ]?key"
    r"|authorization|credential|cookie"
)
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)

_QUOTED = r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?"

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # scheme://user:password@host; a password may hold slashes and @, a user alone may not
        (
            r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)(?:[^\s:/?#@]{0,256}:[^\s\"'<>]{0,1024}|[^\s/?#]{0,256})@",
            rf"\1{MASK}@",
        ),
        (r"(?i)\b(bearer|basic|auth (?:plain|login))\s+[\w.~+/=:-]{4,}", rf"\1 {MASK}"),
        (r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*", MASK),  # JSON Web Token
        (r"\bmsc_[\w-]{4,}", f"msc_{MASK}"),
        (r"\bwhsec_[\w+/=-]{4,}", f"whsec_{MASK}"),
        (r"\bxox[a-z]-[\w-]{8,}", MASK),  # Slack
        (r"(?<!\d)\d{6,12}:[\w-]{30,}", MASK),  # Telegram
        (r"\$argon2[a-z]{1,2}\$[^\s'\"]+", MASK),
        (r"\b[0-9a-fA-F]{64}\b", MASK),  # an encryption key in hex
        # these headers have values of several words
        (rf"(?i)((?:authorization|cookie)[\"']?\s{{0,4}}[:=]\s{{0,4}})(?:{_QUOTED}|[^\r\n]+)", rf"\1{MASK}"),
        # name=value, "name": "value" and the like inside a text
        (rf"(?i)((?:{_NAMES})[\w-]{{0,40}}[\"']?\s{{0,4}}[:=]\s{{0,4}})(?:{_QUOTED}|[^\s&]+)", rf"\1{MASK}"),
    )
)


class Redactor:
    """Removes secrets from texts and nested values.

    `known` are secret values of this process (from its settings), hidden wherever they appear.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        longest_first = sorted({value for value in known if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """The text without secrets, at most `MAX_TEXT` characters and a mark where it was cut."""
        if len(text) > _MAX_SCANNED:
            # What stands at the end may be half a secret, which no pattern knows: it is not shown.
            return self._hide(text[: MAX_TEXT + _MARGIN])[:-_MARGIN] + f" ...[{len(text)} characters]"
        return _shorten(self._hide(text))

    def _hide(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text.encode(errors="backslashreplace").decode()

    def value(self, value: Any, depth: int = 0) -> Any:
        """The value with secrets hidden, made of plain dicts, lists, texts, numbers and None only."""
        match value:
            case int() if value.bit_length() > _MAX_BITS:
                return f"<integer of {value.bit_length()} bits>"
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case Mapping():
                return self._mapping(cast("Mapping[Any, Any]", value), depth)
            case list() | tuple() | set() | frozenset():
                return self._items(cast("Iterable[Any]", value), depth)
            case _:
                return self.text(_describe(value))

    def _mapping(self, mapping: Mapping[Any, Any], depth: int) -> Any:
        if depth >= _MAX_DEPTH:
            return "..."
        shown: dict[str, Any] = {}
        for index, (name, item) in enumerate(mapping.items()):
            if index == _MAX_ITEMS:
                shown["..."] = f"{len(mapping) - _MAX_ITEMS} more"
                break
            shown[self.text(str(name))] = MASK if is_secret_name(str(name), item) else self.value(item, depth + 1)
        return shown

    def _items(self, items: Iterable[Any], depth: int) -> Any:
        if depth >= _MAX_DEPTH:
            return "..."
        shown = list(items)
        more = [f"... {len(shown) - _MAX_ITEMS} more"] if len(shown) > _MAX_ITEMS else []
        return [self.value(item, depth + 1) for item in shown[:_MAX_ITEMS]] + more


def is_secret_name(name: str, value: Any) -> bool:
    """Whether a field of this name is hidden; flags and absent values tell nothing and stay."""
    return value is not None and not isinstance(value, bool) and _SECRET_NAME.search(name) is not None


def _describe(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception as error:  # noqa: BLE001 - a broken __repr__ must not cost the log line
        return f"<{type(value).__name__}, not printable: {type(error).__name__}>"


def _shorten(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]} ...[{len(text) - MAX_TEXT} characters]... {text[-half:]}"
