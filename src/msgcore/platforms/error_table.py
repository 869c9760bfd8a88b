"""Error tables: what each documented error of a platform means for a delivery, as data.

The table of a platform drives what its adapter raises, its docs page and the contract tests: each rule
carries the platform's own answer as an example.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.outbound.http import retry_after
from msgcore.outbound.transport import Response

UNKNOWN_WAIT = 5.0
"""Seconds to wait where a platform says that it is too much, but not until when."""
SHOWN = 500
"""Characters of a platform's own words that are kept."""

_WORTH_ANOTHER_TRY = frozenset((408, 425))


class Ending(StrEnum):
    """What an error means: never again, later, slower, or that the credentials are refused."""

    PERMANENT = "permanent"
    TEMPORARY = "temporary"
    THROTTLED = "throttled"
    AUTHENTICATION = "authentication"


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One documented error. It applies where everything that is given matches.

    `status` is the HTTP status, `platform_code` the platform's own code, `text` a part of its words (in lower
    case). `code` and `message` are what the user gets; `scope` is what has the trouble. `example` is the
    body of such an answer, and `source` where it is documented.
    """

    code: str
    ending: Ending
    message: str
    status: int | None = None
    platform_code: str | int | None = None
    text: str | None = None
    scope: Scope = Scope.ACCOUNT
    example: Any = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no success, as far as a platform's own shape of errors tells.

    `retry_after` is in seconds; `scope` is set where the platform says what has to wait.
    """

    status: int
    platform_code: str | int | None = None
    text: str = ""
    retry_after: float | None = None
    scope: Scope | None = None


def with_wait(problem: Problem, answer: Response, now: datetime) -> Problem:
    """A problem that waits as long as HTTP's Retry-After says, where the platform has not said it in its own way."""
    if problem.retry_after is not None:
        return problem
    return replace(problem, retry_after=retry_after(answer.headers.get("Retry-After"), now))


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The documented errors of a platform; the first rule that matches applies, else what HTTP itself says."""

    rules: tuple[ErrorRule, ...] = field(default=())

    def error(self, problem: Problem, platform: str) -> DeliveryError:
        """What an adapter raises for a problem; `platform` is its name for people."""
        said = f" ({platform}: {problem.text[:SHOWN]})" if problem.text else f" ({platform} answered {problem.status})"
        for rule in self.rules:
            if _matches(rule, problem):
                return _error(rule.ending, rule.code, rule.message + said, problem, rule.scope)
        return _by_status(problem, platform, said)


def _matches(rule: ErrorRule, problem: Problem) -> bool:
    return (
        (rule.status is None or rule.status == problem.status)
        and (rule.platform_code is None or rule.platform_code == problem.platform_code)
        and (rule.text is None or rule.text in problem.text.lower())
    )


def _by_status(problem: Problem, platform: str, said: str) -> DeliveryError:
    status = problem.status
    if status == 429:  # noqa: PLR2004
        return _error(Ending.THROTTLED, "rate_limited", f"{platform} asks to go slower{said}", problem, Scope.ACCOUNT)
    if status in (401, 403):
        message = f"{platform} refuses the credentials: correct them, or what they may do there{said}"
        return _error(Ending.AUTHENTICATION, "credentials_refused", message, problem, Scope.ACCOUNT)
    if status >= 500:  # noqa: PLR2004
        # It failed in the middle of something: nobody knows whether the message was taken.
        return TemporaryError("platform_unavailable", f"{platform} has a problem of its own{said}", reached="maybe")
    if status == 413:  # noqa: PLR2004
        message = f"The message is larger than {platform} takes: shorten it, or leave out files{said}"
        return PermanentError("message_too_large", message)
    if status in _WORTH_ANOTHER_TRY:
        return TemporaryError("platform_unavailable", f"{platform} did not take it in time{said}")
    return PermanentError("platform_refused", f"{platform} refuses the message{said}")


def _error(ending: Ending, code: str, message: str, problem: Problem, scope: Scope) -> DeliveryError:
    match ending:
        case Ending.PERMANENT:
            return PermanentError(code, message)
        case Ending.AUTHENTICATION:
            return AuthenticationError(code, message)
        case Ending.THROTTLED:
            wait = UNKNOWN_WAIT if problem.retry_after is None else problem.retry_after
            return ThrottledError(code, message, retry_after=wait, scope=problem.scope or scope)
        case Ending.TEMPORARY:
            reached: Literal["no", "maybe"] = "maybe" if problem.status >= 500 else "no"  # noqa: PLR2004
            return TemporaryError(code, message, reached=reached, scope=problem.scope or scope)
