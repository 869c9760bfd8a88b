"""What a webhook may be made of: its address, its events, its secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from msgcore.core.errors import FieldError
from msgcore.core.events import EVERY_EVENT, EventType
from msgcore.security.addresses import parse_address
from msgcore.security.egress import EgressDeniedError, EgressGuard, url_problem
from msgcore.security.webhook_secrets import LONGEST_SECRET, SECRET_PREFIX, SHORTEST_SECRET, read_secret

LONGEST_URL = 2048

_KNOWN = frozenset(EventType)
_LONGEST_HOST = 253
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def broken_rules(
    guard: EgressGuard, *, url: str | None, events: Sequence[str] | None, secret: str | None
) -> list[FieldError]:
    """Every rule that these break; None is not looked at. No name is resolved: that is for the connection."""
    return [
        *(_url_errors(url, guard) if url is not None else ()),
        *(_event_errors(events) if events is not None else ()),
        *(_secret_errors(secret) if secret is not None else ()),
    ]


def _url_errors(url: str, guard: EgressGuard) -> Iterator[FieldError]:
    problem = url_problem(url) or _strict_problem(url, guard)
    if problem is not None:
        yield FieldError("/url", f"url {problem}")


def _strict_problem(url: str, guard: EgressGuard) -> str | None:
    if "#" in url:
        return "must not hold a fragment (#...), which is never sent"
    host = _ascii_host(url)
    # A name below localhost is this machine by definition (RFC 6761): as good as its address.
    is_local = host == "localhost" or host.endswith(".localhost")
    address = "127.0.0.1" if is_local else host
    if parse_address(address) is not None:
        try:
            guard.check_address(address, host)
        except EgressDeniedError as error:
            return f"is refused: {error.message}"
        return None
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # browsers and C libraries read such hosts as addresses, each in its own way
        return "has a malformed IP address; write an IPv4 address as four decimal numbers"
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        return "has a malformed host; give one such as https://example.com/hook"
    return None


def _ascii_host(url: str) -> str:
    """The host as it goes into DNS, so that no other script's digits hide an address; empty if it cannot."""
    try:
        return (urlsplit(url).hostname or "").encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        return ""


def _event_errors(events: Sequence[str]) -> Iterator[FieldError]:
    for index, name in enumerate(events):
        problem = None
        if name == EVERY_EVENT:
            problem = "means every event: give it alone" if len(events) > 1 else None
        elif name not in _KNOWN:
            problem = f"is no event; use {EVERY_EVENT} for all, or any of {', '.join(EventType)}"
        elif name in events[:index]:
            problem = "is there twice: give each event once"
        if problem is not None:
            yield FieldError(f"/events/{index}", f"events[{index}] {name[:64]!r} {problem}")


def _secret_errors(secret: str) -> Iterator[FieldError]:
    """A text of the caller's own is a secret as it stands; `whsec_` promises that the rest is base64."""
    if secret.startswith(SECRET_PREFIX) and read_secret(secret) is None:
        yield FieldError(
            "/secret",
            f"secret must be {SECRET_PREFIX} and {SHORTEST_SECRET} to {LONGEST_SECRET} random bytes in base64, "
            f"or a text that does not begin with {SECRET_PREFIX}; leave it out to have one made",
        )
