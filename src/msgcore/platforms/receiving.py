"""The contract of a platform's webhook: how its requests are verified, answered and read.

All of it is pure: the receiver verifies and answers within milliseconds and stores the request as it
came; reading it into envelopes comes after, and may come again after a crash.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import structlog

from msgcore.core.envelope import LONGEST_TYPE, Command, File, Message, Report, shortened, shortened_filename
from msgcore.core.errors import InvalidInputError, ProblemError, TooLargeError, UnprocessableError

if TYPE_CHECKING:
    from msgcore.core.envelope import Envelope
    from msgcore.platforms.base import Account

log = structlog.stdlib.get_logger(__name__)

SHAPE_ERRORS = (
    *(LookupError, TypeError, AttributeError, ValueError, OverflowError, msgspec.ValidationError),
    *(OSError, RecursionError),  # of times beyond those of the C library, and of parts nested very deep
)
"""What reading raises for a payload of another shape than it is documented with."""

_REPORTS = msgspec.json.Decoder(Report)
_LONGEST_REASON = 300


class SignatureError(Exception):
    """The request does not come from the platform, or is an old one again. The message says why, for the log."""


class UnreadableError(Exception):
    """The request holds what this version cannot read. The message says what, for the platform's log; no secrets.

    `problem` is how a request is answered that is refused because of it.
    """

    problem: ClassVar[type[ProblemError]] = InvalidInputError


class OversizedError(UnreadableError):
    """It has more bytes than are read."""

    problem = TooLargeError


class BeyondLimitsError(UnreadableError):
    """It is made of more, or deeper nested, parts than are read."""

    problem = UnprocessableError


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """A request of a platform as it came. Header names are in lower case; `query` is without the `?`."""

    method: str
    headers: Mapping[str, str] = field(repr=False)
    query: str
    body: bytes = field(repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class InboundAnswer:
    """What the platform is answered."""

    body: bytes = b'{"success":true}'
    content_type: str = "application/json"
    status: int = 200


TAKEN = InboundAnswer()


class Inbound(ABC):
    """How a platform's requests to us are verified, answered and read.

    `keeps` names the headers (in lower case) that reading needs; all others, and so all secrets, are
    dropped before a request is stored. `signature` says in words how requests are verified.
    """

    signature: ClassVar[str]
    keeps: ClassVar[tuple[str, ...]] = ()
    answer: ClassVar[InboundAnswer] = TAKEN
    methods: ClassVar[tuple[str, ...]] = ("POST",)

    @abstractmethod
    def verify(self, account: Account, request: InboundRequest) -> None:
        """Raises SignatureError unless the platform itself made this request, and did so just now."""

    def secrets(self, account: Account) -> Sequence[str]:
        """What the platform is told to prove itself with, beside credentials; nobody is shown it."""
        del account
        return ()

    def handshake(self, account: Account, request: InboundRequest) -> InboundAnswer | None:
        """The answer to a verified request that only asks whether we are there; None for all others."""
        del account, request
        return None

    def reply(self, request: InboundRequest) -> InboundAnswer:
        """The answer to a request that was stored; the same one to all, unless said otherwise."""
        del request
        return self.answer

    def check(self, account: Account, request: InboundRequest) -> None:
        """Raises UnreadableError for a verified request that can be seen at a glance to be unreadable.

        It is refused then, where others are stored, answered, and set aside when they turn out to be so. This has to
        be quick, as whoever sent it waits; for large requests it runs on another thread.
        """
        del account, request

    @abstractmethod
    def read(self, account: Account, request: InboundRequest) -> Sequence[Envelope]:
        """What the request tells of, in order; nothing for what does not matter here.

        Raises UnreadableError for what should be an envelope and cannot be made one.
        """

    def said(self, envelope: Envelope) -> Sequence[str]:
        """The texts of a message each of which, as a whole, may be a stop word; none where nobody wrote."""
        match envelope.content:
            case Message(text=str(text)):
                return (text,)
            case Command() as command:
                return (f"{command.name} {command.arguments}",)
            case _:
                return ()


def webhook_url(api_url: str, platform: str, token: str) -> str:
    """The address to which a platform posts what happens on an account."""
    return f"{api_url.rstrip('/')}/api/v1/webhooks/{platform}/{token}"


def made_secret(account: Account, key: str) -> str:
    """A secret (64 hexadecimal digits) that a platform is told to send with each request of an account.

    Made from a `key` that only it and the account's owner know, so that there is nothing to configure.
    """
    return hmac.digest(key.encode(), f"webhook of {account.id}".encode(), sha256).hex()


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds. Raises UnreadableError."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"the body is no JSON object: {error}") from None


def read_report(body: bytes) -> Report:
    """The report that a body in our own shape holds. Raises UnreadableError, naming the field."""
    try:
        return _REPORTS.decode(body)
    except (ValueError, RecursionError) as error:
        # The decoder repeats what it did not expect, however long that is.
        raise UnreadableError(f"the body is no report: {error}"[:_LONGEST_REASON]) from None


def read_file(known: Mapping[str, Any]) -> File:
    """The file of these fields of an envelope, with its names cut. Raises msgspec.ValidationError, or TypeError."""
    names = {
        "filename": shortened_filename(known.get("filename")),
        "mimeType": shortened(known.get("mimeType"), LONGEST_TYPE),
    }
    return msgspec.convert({**known, **names}, File)


def read_each(
    account: Account, items: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], Iterable[Envelope]]
) -> list[Envelope]:
    """What can be read of what came in one request; what cannot is left out, with a line in the log.

    Raises UnreadableError where that leaves nothing, so that the request is set aside.
    """
    made: list[Envelope] = []
    reasons: list[str] = []
    for item in items:
        try:
            made += list(read(item))
        except UnreadableError as error:
            reasons.append(str(error))
        except SHAPE_ERRORS as error:
            reasons.append(f"it does not have the documented shape ({type(error).__name__})")
    if reasons and not made:
        raise UnreadableError(reasons[0])
    for reason in reasons:
        log.warning("inbound_item_skipped", platform_id=account.id, platform=account.platform, reason=reason)
    return made
