"""What a sandbox recipient does, told by the recipient's own id.

Grammar of `target.id`: `<behaviour>[:anything]`. What follows the colon only makes recipients
different from each other. An id that is no behaviour is accepted like any other.

| behaviour | what happens |
|---|---|
| `fail-permanent` | refused for good |
| `fail-times-<n>` | fails `n` times (1 to 999), then is accepted |
| `throttle-<duration>` | asks once to wait that long, then is accepted |
| `slow-<duration>` | is accepted after that long |
| `auth-failure` | refuses the account's credentials |
| `reply` | is accepted and answered like a person would |

A duration is `<n>ms` or `<n>s`, at most ten minutes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)

LONGEST_SECONDS = 600.0

_TARGET = re.compile(
    r"""(?:
        (?P<permanent>fail-permanent)
      | (?P<auth>auth-failure)
      | (?P<reply>reply)
      | fail-times-(?P<times>[1-9][0-9]{0,2})
      | throttle-(?P<throttle>[0-9]{1,6}(?:ms|s))
      | slow-(?P<slow>[0-9]{1,6}(?:ms|s))
    )(?::.*)?""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one recipient does with a message."""

    fails_permanently: bool = False
    fails_authentication: bool = False
    fails_times: int = 0
    throttles_for: float = 0.0
    answers_after: float = 0.0
    replies: bool = False

    def refusal(self, *, attempt: int, throttles: int) -> DeliveryError | None:
        """The error for this attempt (counted from 1), or None where the message is accepted."""
        if self.fails_permanently:
            return PermanentError("sandbox_refused", "The recipient fail-permanent refuses every message")
        if self.fails_authentication:
            return AuthenticationError("sandbox_unauthenticated", "The recipient auth-failure refuses the credentials")
        if attempt <= self.fails_times:
            text = f"Failure {attempt} of {self.fails_times} that were asked for"
            return TemporaryError("sandbox_failed", text, scope=Scope.DELIVERY)
        if self.throttles_for and throttles == 0:
            return ThrottledError(
                "sandbox_throttled",
                f"Asked to wait {self.throttles_for:g} s",
                retry_after=self.throttles_for,
                scope=Scope.LANE,
            )
        return None


ACCEPTING = Behaviour()


def behaviour_of(target_id: str) -> Behaviour:
    """The behaviour that a recipient's id asks for."""
    match = _TARGET.fullmatch(target_id)
    if match is None:
        return ACCEPTING
    return Behaviour(
        fails_permanently=match["permanent"] is not None,
        fails_authentication=match["auth"] is not None,
        fails_times=int(match["times"] or 0),
        throttles_for=_seconds(match["throttle"]),
        answers_after=_seconds(match["slow"]),
        replies=match["reply"] is not None,
    )


def _seconds(duration: str | None) -> float:
    if duration is None:
        return 0.0
    seconds = int(duration[:-2]) / 1000 if duration.endswith("ms") else float(duration[:-1])
    return min(seconds, LONGEST_SECONDS)
