"""What is known of a platform, in one place: from its declaration, its adapter's `shows`, `errors` and `inbound`.

`GET /platforms/supported`, the command line, the pages of the documentation and the contract tests all read this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from typing import Any, Literal

from msgcore.outbound.layout import AS_GIVEN, ButtonRules, FileRules, PollRules, Shows
from msgcore.platforms.base import Capability, CapabilityInfo, PlatformAdapter, PlatformDeclaration
from msgcore.platforms.calling import CallingAdapter
from msgcore.platforms.error_table import Ending, ErrorRule, ErrorTable
from msgcore.platforms.schemas import credentials_schema, options_schema

KILOBYTE = 1024
MOST_FILES = 100
"""In any content."""
UNITS = (("GB", KILOBYTE**3), ("MB", KILOBYTE**2), ("kB", KILOBYTE))

Way = Literal["webhook", "polling", "websocket", "imap"]


class Support(StrEnum):
    """Whether a platform does something as it is meant, or shows it otherwise."""

    FULL = "full"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Ability:
    """Something that a platform can do. `figure` is the shortest that can be said of it, `limitations` the whole."""

    capability: Capability
    support: Support
    figure: str
    limitations: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorFact:
    """A failure as its user sees it: the code, what becomes of the delivery, the remedy; `answers` bring it about."""

    code: str
    ending: Ending
    remedy: str
    answers: tuple[str, ...]


BY_HTTP = (
    ErrorFact("rate_limited", Ending.THROTTLED, "The platform asks to go slower", ("HTTP 429",)),
    ErrorFact("credentials_refused", Ending.AUTHENTICATION, "The platform refuses the credentials", ("HTTP 401, 403",)),
    ErrorFact(
        "platform_unavailable", Ending.TEMPORARY, "The platform has a problem of its own", ("HTTP 5xx, 408, 425",)
    ),
    ErrorFact("platform_refused", Ending.PERMANENT, "The platform refuses the message", ("any other",)),
)
"""What answers mean that no rule of a platform's is about: what `ErrorTable.error` does with them, in words."""


@dataclass(frozen=True, slots=True)
class FactSheet:
    """A platform, as far as it can be told without an account."""

    declaration: PlatformDeclaration
    abilities: dict[Capability, Ability]
    shows: Shows
    ways: tuple[Way, ...]
    signature: str | None
    errors: tuple[ErrorFact, ...]
    credentials_schema: dict[str, Any]
    options_schema: dict[str, Any] | None


@cache
def fact_sheet(adapter: type[PlatformAdapter]) -> FactSheet:
    """The facts of the platform of an adapter."""
    declared = adapter.declaration
    return FactSheet(
        declaration=declared,
        abilities=_abilities(declared, adapter.shows),
        shows=adapter.shows,
        ways=tuple(_ways(adapter)),
        signature=adapter.inbound.signature if adapter.inbound is not None and declared.supports_webhooks else None,
        errors=_failures(adapter.errors, by_http=issubclass(adapter, CallingAdapter)),
        credentials_schema=credentials_schema(declared.credentials),
        options_schema=None if declared.options is None else options_schema(declared.options),
    )


def _ways(adapter: type[PlatformAdapter]) -> Iterator[Way]:
    declared = adapter.declaration
    if declared.supports_webhooks:
        yield "webhook"
    if declared.supports_polling:
        yield "polling"
    if declared.supports_websocket:
        yield "websocket"
    if adapter.live is not None and adapter.live.way is not None:
        yield adapter.live.way


def _failures(table: ErrorTable, *, by_http: bool) -> tuple[ErrorFact, ...]:
    """The rules of a table, those of the same meaning together; behind them what HTTP itself says of other answers."""
    answers: dict[tuple[str, Ending, str], list[str]] = {}
    for rule in table.rules:
        answers.setdefault((rule.code, rule.ending, rule.message), []).extend(_answer(rule))
    told = tuple(ErrorFact(*meaning, tuple(dict.fromkeys(given))) for meaning, given in answers.items())
    known = {fact.code for fact in told}
    return told + tuple(fact for fact in BY_HTTP if by_http and fact.code not in known)


def _answer(rule: ErrorRule) -> Iterator[str]:
    if rule.platform_code is not None:
        yield str(rule.platform_code)
    elif rule.text is not None:
        yield f'"{rule.text}"'
    elif rule.status is not None:
        yield f"HTTP {rule.status}"


# --- abilities


def _abilities(declared: PlatformDeclaration, shows: Shows) -> dict[Capability, Ability]:
    """In the order of `Capability`, those that the platform has in any form."""
    words = {info.capability: info for info in declared.capabilities}
    words |= {capability: CapabilityInfo(capability) for capability in declared.tells if capability not in words}
    sends = Capability.SEND_MESSAGE in words
    shown = {ability.capability: ability for ability in _shown(shows)} if sends else {}
    found: dict[Capability, Ability] = {}
    for capability in Capability:
        ability = shown.get(capability)
        if ability is None and capability in words:
            ability = _yes(capability)
        if ability is not None:
            said = (words[capability].limitations if capability in words else None, ability.limitations)
            found[capability] = replace(ability, limitations="; ".join(filter(None, said)) or None)
    return found


def _yes(capability: Capability, words: str | None = None, figure: str = "yes") -> Ability:
    return Ability(capability, Support.FULL, figure, words)


def _degraded(capability: Capability, figure: str, words: str) -> Ability:
    return Ability(capability, Support.DEGRADED, figure, words)


def _shown(shows: Shows) -> Iterator[Ability]:
    yield _yes(Capability.SEND_MESSAGE, _text(shows))
    yield _files(shows.files, shows.caption)
    yield _embeds(shows.embeds)
    yield _buttons(shows.buttons)
    for capability, known, figure, words in (
        (Capability.SUBJECT, shows.subject, "first line", "shown as the first line of the text"),
        (Capability.LOCATION, shows.location, "link", "shown as a link to a map"),
        (Capability.CONTACT, shows.contact, "text", "shown as text"),
    ):
        yield _yes(capability) if known else _degraded(capability, figure, words)
    yield _poll(shows.poll)
    for capability, known in (
        (Capability.REPLIES, shows.replies),
        (Capability.THREADS, shows.threads),
        (Capability.SILENT, shows.silent),
    ):
        if known:
            yield _yes(capability)


def _text(shows: Shows) -> str | None:
    return None if shows.text >= AS_GIVEN.text else f"{shows.text:,} characters in one message"


def _files(rules: FileRules | None, caption: int | None) -> Ability:
    if rules is None:
        return _degraded(Capability.ATTACHMENTS, "link", "shown as links, by address only")
    words = [sizes(rules.largest)] if rules.largest else []
    words += [f"up to {rules.per_call} together"] if 1 < rules.per_call < MOST_FILES else []
    words += [f"a text of {caption:,} characters beside"] if caption is not None and rules != AS_GIVEN.files else []
    words += ["by public address only"] if rules.fetched else []
    most = max(rules.largest.values(), default=None)
    return _yes(Capability.ATTACHMENTS, "; ".join(words) or None, "yes" if most is None else size(most))


def _embeds(most: int) -> Ability:
    if not most:
        return _degraded(Capability.EMBEDS, "text", "shown as text")
    if most >= AS_GIVEN.embeds:
        return _yes(Capability.EMBEDS)
    return _yes(Capability.EMBEDS, f"{most}, further ones as text", f"{most}")


def _buttons(rules: ButtonRules | None) -> Ability:
    if rules is None:
        return _degraded(Capability.BUTTONS, "list", "shown as links, or as a numbered list")
    if rules == AS_GIVEN.buttons:
        return _yes(Capability.BUTTONS)
    words = [f"{rules.most}" + (f" in rows of up to {rules.per_row}" if rules.per_row > 1 else "")]
    words.append(f"texts of {rules.text:,} characters")
    words.append(f"values of {rules.value:,} bytes" if rules.values else "none with a value")
    words += [] if rules.urls else ["none with a URL"]
    words += ["one with a URL alone"] if rules.alone else []
    words.append("others as links or a numbered list")
    return _yes(Capability.BUTTONS, "; ".join(words), f"{rules.most}")


def _poll(rules: PollRules | None) -> Ability:
    if rules is None:
        return _degraded(Capability.POLL, "list", "shown as a numbered list")
    if rules == AS_GIVEN.poll:
        return _yes(Capability.POLL)
    return _yes(
        Capability.POLL, f"{rules.options} answers of {rules.option:,} characters, questions of {rules.question:,}"
    )


# --- words


def size(number: int) -> str:
    """A number of bytes for people."""
    for unit, factor in UNITS:
        if number >= factor:
            return f"{number / factor:,.4g} {unit}"
    return f"{number} B"


def sizes(largest: dict[str, int]) -> str:
    """The largest files by type for people, types of the same size together."""
    by_size: dict[int, list[str]] = {}
    for kind, most in largest.items():
        by_size.setdefault(most, []).append(kind)
    if len(by_size) == 1 and len(largest) > 1:
        return f"any {size(next(iter(by_size)))}"
    return ", ".join(f"{' and '.join(kinds)} {size(most)}" for most, kinds in by_size.items())
