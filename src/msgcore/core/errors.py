"""The typed errors of MsgCore: what went wrong, whether trying again helps, and what to do.

Two families live here:

* `ProblemError` and its children are answers to a caller (API, CLI, MCP). Each has an HTTP status.
* `DeliveryError` and its children are what a platform adapter raises. The dispatch core decides
  from the type alone whether a delivery is retried, waits, or becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from msgcore.core.deliveries import Exchange
    from msgcore.core.rate import Allowance


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field of a request.

    `pointer` is an RFC 6901 JSON pointer into the body (`/targets/0/id`); `message` names the
    field and says what is allowed.
    """

    pointer: str
    message: str


class ProblemError(Exception):
    """An answer to the caller that is not a success; `status` is the HTTP status."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"

    def __init__(
        self, message: str, *, errors: list[FieldError] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors or []
        self.retry_after = retry_after


class InvalidInputError(ProblemError):
    """The request is malformed or breaks a rule; `errors` lists every wrong field found."""

    status = 400
    title = "Bad Request"

    @classmethod
    def of(cls, errors: list[FieldError]) -> InvalidInputError:
        """One error from many field errors; its message is the first of them."""
        return cls(errors[0].message, errors=errors)


class UnauthenticatedError(ProblemError):
    """No credentials, or credentials that are unknown, expired or revoked."""

    status = 401
    title = "Unauthorized"


class ForbiddenError(ProblemError):
    """Known caller, missing scope or role."""

    status = 403
    title = "Forbidden"


class NotFoundError(ProblemError):
    """No such thing for this caller (another tenant's things look exactly like this)."""

    status = 404
    title = "Not Found"


class MethodError(ProblemError):
    """The address is not asked by this method, but by those that are `allowed`."""

    status = 405
    title = "Method Not Allowed"

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = allowed


class ConflictError(ProblemError):
    """The request contradicts the present state."""

    status = 409
    title = "Conflict"


class GoneError(ProblemError):
    """It was there, and is no longer kept."""

    status = 410
    title = "Gone"


class RangeNotSatisfiableError(ProblemError):
    """None of the bytes that were asked for exist; there are `size`."""

    status = 416
    title = "Range Not Satisfiable"

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message)
        self.size = size


class TooLateError(ProblemError):
    """The body did not come in time."""

    status = 408
    title = "Request Timeout"


class TooLargeError(ProblemError):
    """The body has more bytes than are taken."""

    status = 413
    title = "Request Entity Too Large"


class UnsupportedCodingError(ProblemError):
    """The body is compressed, or otherwise coded."""

    status = 415
    title = "Unsupported Media Type"


class UnprocessableError(ProblemError):
    """The request is well-formed, and beyond a limit of what is read."""

    status = 422
    title = "Unprocessable Entity"


class IdempotencyMismatchError(UnprocessableError):
    """The same Idempotency-Key was used with another body."""


class QueueFullError(ProblemError):
    """A quota is reached; `retry_after` (seconds) says when to come back."""

    status = 429
    title = "Too Many Requests"


class TooManyAttemptsError(ProblemError):
    """Somebody tried to sign in too often; `retry_after` (seconds) says when to come back."""

    status = 429
    title = "Too Many Requests"


class TooManyStreamsError(ProblemError):
    """Too many follow events at the same time."""

    status = 429
    title = "Too Many Requests"


class RateLimitedError(ProblemError):
    """Too many requests of one kind; `allowance` is what is left of the budget, which is nothing."""

    status = 429
    title = "Too Many Requests"

    def __init__(self, message: str, *, retry_after: float, allowance: Allowance) -> None:
        super().__init__(message, retry_after=retry_after)
        self.allowance = allowance


class UnavailableError(ProblemError):
    """The gateway cannot take the request just now (starting, stopping, database away)."""

    status = 503
    title = "Service Unavailable"


class StartupError(Exception):
    """MsgCore cannot start. The message is one line that says what is wrong and what to do."""


class Scope(StrEnum):
    """What a throttle or a trouble covers."""

    DELIVERY = "delivery"
    LANE = "lane"
    ROUTE = "route"
    ACCOUNT = "account"


class DeliveryError(Exception):
    """A platform did not take a delivery.

    `code` is a short stable word for machines (`recipient_refused`), the message is for people and
    must hold no secret. `reached` tells whether the platform may have taken the message all the
    same: `no` (nothing was sent, or it was clearly refused) or `maybe` (the answer was lost).
    `exchange` is set where the answer is kept for the user.
    """

    def __init__(self, code: str, message: str, *, reached: Literal["no", "maybe"] = "no") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reached: Literal["no", "maybe"] = reached
        self.exchange: Exchange | None = None


class PermanentError(DeliveryError):
    """Trying again cannot help (unknown recipient, message too long): straight to dead letter."""


class TemporaryError(DeliveryError):
    """May work later (connection refused, 5xx, SMTP 4xx): retried by the platform's policy.

    `scope` says what has the trouble: the whole account (the default; enough of these in a row open its
    circuit breaker), or only this delivery (a full mailbox, say), which tells nothing about the others.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reached: Literal["no", "maybe"] = "no",
        scope: Scope = Scope.ACCOUNT,
    ) -> None:
        super().__init__(code, message, reached=reached)
        self.scope = scope


class ThrottledError(DeliveryError):
    """The platform asked to wait `retry_after` seconds; does not count as an attempt."""

    def __init__(self, code: str, message: str, *, retry_after: float, scope: Scope = Scope.ACCOUNT) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after
        self.scope = scope


class AuthenticationError(DeliveryError):
    """The account's credentials are refused: pauses the account, costs the queue no attempt."""
