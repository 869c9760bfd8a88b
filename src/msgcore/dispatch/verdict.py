"""What an attempt's result means: pure decisions, no I/O.

A verdict has two halves that always go together: what the ledger records, and what the scheduler
is told.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import msgspec

from msgcore.core.deliveries import DeliveryState, Done, Lease, Outcome, Release, Retry, Wait
from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.core.retry import RetryPolicy
from msgcore.platforms.base import SentReceipt
from msgcore.store.ledger.beginning import WorkItem
from msgcore.store.ledger.parts import UNNAMED, first_named, sent_so_far
from msgcore.store.ledger.recording import WorkResult

LONGEST_THROTTLE = 24 * 3600.0
MAX_ERROR = 2000


class Verdict(msgspec.Struct, frozen=True):
    """The end of one attempt, for the ledger and for the scheduler."""

    result: WorkResult
    outcome: Outcome


class Judge:
    """Turns receipts and errors into verdicts, by a platform's retry policy."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    def sent(
        self, lease: Lease, item: WorkItem, receipt: SentReceipt, now: datetime, *, text: str | None = None
    ) -> Verdict:
        """The platform took it, or the next part; `text` is what the message says, for those who follow events."""
        parts = (*item.part_ids, _kept_id(receipt.provider_message_id))
        if receipt.more:
            return self._part(lease, item, receipt, parts, now)
        result = WorkResult(
            item,
            DeliveryState.SENT,
            "sent",
            now,
            reached="yes",
            provider_message_id=first_named(parts),
            sent_at=now,
            part_ids=parts if item.part_ids else (),
            exchange=receipt.exchange,
            text=text,
        )
        return Verdict(result, Done(lease, pace=receipt.pace))

    def _part(
        self, lease: Lease, item: WorkItem, receipt: SentReceipt, parts: tuple[str, ...], now: datetime
    ) -> Verdict:
        """There is more of it: the next call takes its turn like any other, in the message's place."""
        result = WorkResult(
            item,
            DeliveryState.RETRYING,
            "part",
            now,
            counts=False,
            provider_message_id=first_named(parts),
            due_at=now,
            exchange=receipt.exchange,
            part_ids=parts,
        )
        return Verdict(result, Wait(lease, 0.0, Scope.DELIVERY))

    def expired(self, lease: Lease, item: WorkItem, now: datetime) -> Verdict:
        """Its `expiresAt` passed before it could be sent."""
        result = WorkResult(
            item,
            DeliveryState.EXPIRED,
            "expired",
            now,
            counts=False,
            error_code="expired",
            error_message="expiresAt passed before the message could be sent",
        )
        return Verdict(result, Done(lease, answered=False))

    def unwanted(self, lease: Lease, item: WorkItem, error: PermanentError, now: datetime) -> Verdict:
        """Its recipient opted out: it fails for good, and the platform was not asked (again, between parts)."""
        result = self._dead(lease, item, error, now).result
        if item.part_ids:
            message = _short(error.message + sent_so_far(len(item.part_ids)))
            result = msgspec.structs.replace(result, reached="yes", error_message=message)
        return Verdict(result, Done(lease, answered=False))

    def released(self, lease: Lease, item: WorkItem, now: datetime) -> Verdict:
        """Nothing was sent and nothing is wrong with it: it goes back to its place."""
        result = WorkResult(item, _place(item), "released", now, counts=False, due_at=now)
        return Verdict(result, Release(lease))

    def failed(self, lease: Lease, item: WorkItem, error: DeliveryError, policy: RetryPolicy, now: datetime) -> Verdict:
        """The platform did not take it, for the reason that the error's type tells."""
        match error:
            case ThrottledError():
                return self._throttled(lease, item, error, policy, now)
            case AuthenticationError():
                return self._unauthenticated(lease, item, error, now)
            case PermanentError():
                return self._dead(lease, item, error, now)
            case _:
                return self._temporary(lease, item, error, policy, now)

    def _throttled(
        self, lease: Lease, item: WorkItem, error: ThrottledError, policy: RetryPolicy, now: datetime
    ) -> Verdict:
        if policy.throttled_out(item.throttles, (now - item.first_due_at).total_seconds()):
            return self._dead(lease, item, error, now)
        delay = min(policy.throttle_delay(error.retry_after, item.throttles), LONGEST_THROTTLE)
        result = WorkResult(
            item,
            DeliveryState.RETRYING,
            "throttled",
            now,
            counts=False,
            error_code=error.code,
            error_message=_short(error.message),
            due_at=now + timedelta(seconds=delay),
            exchange=error.exchange,
        )
        return Verdict(result, Wait(lease, delay, error.scope))

    def _unauthenticated(self, lease: Lease, item: WorkItem, error: AuthenticationError, now: datetime) -> Verdict:
        result = WorkResult(
            item,
            _place(item),
            "authentication",
            now,
            counts=False,
            error_code=error.code,
            error_message=_short(error.message),
            due_at=now,
        )
        return Verdict(result, Release(lease))

    def _dead(self, lease: Lease, item: WorkItem, error: DeliveryError, now: datetime) -> Verdict:
        result = WorkResult(
            item,
            DeliveryState.FAILED,
            "failed",
            now,
            error_code=error.code,
            error_message=_short(error.message),
            reached=error.reached,
            exchange=error.exchange,
        )
        return Verdict(result, Done(lease, answered=isinstance(error, PermanentError)))

    def _temporary(
        self, lease: Lease, item: WorkItem, error: DeliveryError, policy: RetryPolicy, now: datetime
    ) -> Verdict:
        age = (now - item.first_due_at).total_seconds()
        if policy.spent(item.attempt, age):
            return self._dead(lease, item, error, now)
        delay = policy.delay(item.attempt, self._rng)
        result = WorkResult(
            item,
            DeliveryState.RETRYING,
            "retry",
            now,
            error_code=error.code,
            error_message=_short(error.message),
            reached=error.reached,
            due_at=now + timedelta(seconds=delay),
            exchange=error.exchange,
        )
        trouble = isinstance(error, TemporaryError) and error.scope is Scope.ACCOUNT
        return Verdict(result, Retry(lease, delay, trouble=trouble))


def _kept_id(provider_message_id: str | None) -> str:
    """A part's id as it is kept, one a line; one that is no line of text is none."""
    if not provider_message_id or {"\n", "\0"} & set(provider_message_id):
        return UNNAMED
    return provider_message_id


def _place(item: WorkItem) -> DeliveryState:
    """Where it goes back to: what is behind it in its lane waits for one of which something was tried or sent."""
    return DeliveryState.RETRYING if item.attempt > 1 or item.part_ids else DeliveryState.QUEUED


def _short(message: str) -> str:
    """As much of an error as is kept; PostgreSQL stores no NUL."""
    return message[:MAX_ERROR].replace("\0", "")


def as_delivery_error(error: Exception) -> DeliveryError:
    """Any exception of an adapter as a typed one: what is not typed may have reached the platform."""
    if isinstance(error, DeliveryError):
        return error
    if isinstance(error, TimeoutError):
        text = "The platform did not answer within the time that one attempt may take"
        return TemporaryError("timeout", text, reached="maybe")
    text = f"Unexpected {type(error).__name__} in the adapter"
    return TemporaryError("internal", text, reached="maybe", scope=Scope.DELIVERY)
