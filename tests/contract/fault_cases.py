"""What a platform with an HTTP API can do to a message, and what has to come of it: one case for each fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

from msgcore.core.errors import Scope
from msgcore.platforms.base import PlatformAdapter
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.error_table import UNKNOWN_WAIT, Ending, ErrorRule
from servers.facts import Facts
from servers.faulty_http import (
    Play,
    answers,
    breaks_off,
    drips,
    drips_its_head,
    holds,
    page,
    resets,
    says,
    says_too_much,
)

Outcome = Literal["sent", "retry", "throttled", "failed", "authentication"]
OUTCOMES: dict[Ending, Outcome] = {
    Ending.PERMANENT: "failed",
    Ending.TEMPORARY: "retry",
    Ending.THROTTLED: "throttled",
    Ending.AUTHENTICATION: "authentication",
}
REFUSED: frozenset[Outcome] = frozenset(("failed", "authentication", "retry"))
NOT_HTTP = b"\x16\x03\x01\x00\xa5garbage\r\n\r\n"
LONG_LINE = b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """A message whose first request meets `play`; what comes after it is answered as the platform does.

    `outcomes` are those that its first attempt may have, and `reached`, `code`, `words` (how the error's message
    begins), `seconds` (how long it has to wait) and `scope` (what waits with it) what that attempt tells, where the
    case knows.
    """

    name: str
    play: Play | None
    outcomes: frozenset[Outcome]
    reached: Literal["no", "maybe", "yes"] | None = None
    code: str | None = None
    words: str = ""
    seconds: float | None = None
    scope: Scope | None = None
    on_uncertain: Literal["resend", "fail"] = "resend"

    def __str__(self) -> str:
        return f"{self.name} ({self.on_uncertain})"


def case(name: str, play: Play | None, *outcomes: Outcome, **more: object) -> Case:
    return replace(Case(name, play, frozenset(outcomes)), **more)  # type: ignore[arg-type]


def cases_of(adapter: type[PlatformAdapter], facts: Facts, now: datetime) -> list[Case]:
    """Every fault of a platform; those that nobody knows the outcome of are there with each `onUncertain`."""
    calling = adapter if issubclass(adapter, CallingAdapter) else None
    found = [*_refusals(calling is not None), *_waits(now), *_troubles(), *_lost(calling)]
    if calling is not None:
        found += [_documented(rule) for rule in calling.errors.rules]
        found += [*_documented_waits(facts), *_pages()]
    return [*found, *(replace(each, on_uncertain="fail") for each in found if each.reached == "maybe")]


def never_answered() -> list[Case]:
    """What only the end of an attempt's time ends."""
    found = [
        case("no answer at all", holds, "retry", reached="maybe", code="timeout"),
        case("a head that drips", drips_its_head, "retry", reached="maybe", code="timeout"),
    ]
    return [*found, *(replace(each, on_uncertain="fail") for each in found)]


NOBODY_LISTENS = case("connection refused", None, "retry", reached="no", code="connection_failed")


# --- what the platform documents


def _documented(rule: ErrorRule) -> Case:
    assert rule.example is not None, "a rule shows the answer that it is about"
    outcome = OUTCOMES[rule.ending]
    return case(
        f"documented: {rule.status} {rule.platform_code or rule.text or rule.code}",
        answers(rule.status or 400, rule.example),
        outcome,
        code=rule.code,
        words=rule.message,
        scope=rule.scope if outcome == "throttled" else None,
    )


def _documented_waits(facts: Facts) -> Iterator[Case]:
    for number, throttle in enumerate(facts.throttles):
        play = answers(throttle.status, throttle.body, throttle.headers)
        yield case(f"documented wait {number}", play, "throttled", reached="no", seconds=throttle.seconds)


# --- what HTTP says, whoever says it


def _refusals(is_known: bool) -> Iterator[Case]:
    yield case("401", answers(401, {}), "authentication", reached="no")
    yield case("401 with a page", page(401), "authentication", reached="no")
    yield case("413 with a page", page(413), "failed", reached="no")
    for status in (400, 403, 404):
        yield case(f"{status}", answers(status, {}), *REFUSED, reached="no")
    if not is_known:  # whose pages are its own
        yield case("403 with a page", page(403), "failed", reached="no")
        yield case("a redirect", answers(302, None, {"Location": "http://example.com/"}), "failed", reached="no")


def _waits(now: datetime) -> Iterator[Case]:
    date = format_datetime((now + timedelta(seconds=9)).astimezone(UTC), usegmt=True)
    yield case("429", answers(429, {}), "throttled", reached="no", seconds=UNKNOWN_WAIT)
    yield case("429 for seconds", answers(429, {}, {"Retry-After": "7"}), "throttled", reached="no", seconds=7.0)
    yield case("429 until a date", answers(429, {}, {"Retry-After": date}), "throttled", reached="no", seconds=9.0)
    yield case("429 until who knows", answers(429, {}, {"Retry-After": "soon"}), "throttled", seconds=UNKNOWN_WAIT)
    yield case("429 with a page", page(429, {"Retry-After": "7"}), "throttled", reached="no", seconds=7.0)


def _troubles() -> Iterator[Case]:
    for status in (500, 502, 503, 504):
        yield case(f"{status}", answers(status, {}), "retry", reached="maybe")
    yield case("502 with a page", page(502), "retry", reached="maybe")
    yield case("500 that breaks off", breaks_off(500), "retry", reached="maybe")
    yield case("408", answers(408, {}), "retry", reached="no")


def _lost(calling: type[CallingAdapter] | None) -> Iterator[Case]:
    yield case("a closed connection", says(b""), "retry", reached="maybe", code="connection_lost")
    yield case("a reset connection", resets, "retry", reached="maybe", code="connection_lost")
    yield case("half a head", says(b"HTTP/1.1 200 OK\r\nContent-"), "retry", reached="maybe", code="connection_lost")
    yield case("no HTTP", says(NOT_HTTP), "retry", reached="maybe", code="connection_lost")
    yield case("a head without end", says(LONG_LINE), "retry", reached="maybe", code="connection_lost")
    needs_answer = calling is not None and calling.needs_answer
    outcome, reached = ("retry", "maybe") if needs_answer else ("sent", "yes")
    for name, play in (
        ("200 that breaks off", breaks_off(200)),
        ("200 that is too large", says_too_much(200)),
        ("200 that drips", drips(200)),
    ):
        yield case(name, play, outcome, reached=reached)  # type: ignore[arg-type]


# --- what is not the platform's own answer


def _pages() -> Sequence[Case]:
    code = "answer_unreadable"
    return [
        case("200 with a page", page(200), "retry", reached="maybe", code=code),
        case("200 with broken JSON", answers(200, b'{"ok": tru'), "retry", reached="maybe", code=code),
        case("200 in no encoding", answers(200, b"\xff\xfe{}"), "retry", reached="maybe", code=code),
        *(case(f"{status} with a page", page(status), "retry", reached="no", code=code) for status in (400, 403, 404)),
        case("400 with broken JSON", answers(400, b'{"error": {'), "retry", reached="no", code=code),
        case("400 that breaks off", breaks_off(400), "retry", reached="no", code="answer_lost"),
        case("400 that is too large", says_too_much(400), "retry", reached="no", code="answer_lost"),
        case("a redirect", answers(302, None, {"Location": "http://example.com/"}), "retry", reached="no"),
    ]
