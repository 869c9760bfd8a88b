"""Every way an attempt can end, and what the ledger and the scheduler are told."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from msgcore.core.deliveries import DeliveryState, Done, Lease, Release, Retry, Wait
from msgcore.core.errors import (
    AuthenticationError,
    DeliveryError,
    PermanentError,
    Scope,
    TemporaryError,
    ThrottledError,
)
from msgcore.core.retry import RetryPolicy
from msgcore.dispatch.verdict import LONGEST_THROTTLE, Judge, as_delivery_error
from msgcore.platforms.base import SentReceipt
from msgcore.store.ledger.beginning import WorkItem

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = Lease("d", "a", 1)


def item(*, attempt: int = 1, age: timedelta = timedelta(0), throttles: int = 0) -> WorkItem:
    return WorkItem(
        id="d",
        message_id="m",
        project_id="p",
        platform_id="a",
        platform="sandbox",
        target_type="user",
        target_id="x",
        attempt=attempt,
        throttles=throttles,
        on_uncertain="resend",
        uncertain=False,
        first_due_at=NOW - age,
        expires_at=None,
        created_at=NOW,
        started_at=NOW,
    )


OLD = timedelta(hours=25)

CASES = [
    ("permanent", PermanentError("refused", "no such user"), item(), "failed", "failed", True, Done),
    ("temporary", TemporaryError("down", "try later"), item(), "retrying", "retry", True, Retry),
    (
        "temporary, attempts spent, young",
        TemporaryError("down", ""),
        item(attempt=99),
        "retrying",
        "retry",
        True,
        Retry,
    ),
    ("temporary, old, few attempts", TemporaryError("down", ""), item(age=OLD), "retrying", "retry", True, Retry),
    ("temporary, both spent", TemporaryError("down", ""), item(attempt=8, age=OLD), "failed", "failed", True, Done),
    ("throttled", ThrottledError("429", "", retry_after=5), item(), "retrying", "throttled", False, Wait),
    ("bad token, first try", AuthenticationError("401", ""), item(), "queued", "authentication", False, Release),
    ("bad token, later", AuthenticationError("401", ""), item(attempt=3), "retrying", "authentication", False, Release),
]


@pytest.mark.parametrize(
    ("error", "work", "state", "outcome", "counts", "told"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_failures(error: DeliveryError, work: WorkItem, state: str, outcome: str, counts: bool, told: type) -> None:
    verdict = Judge(random.Random(1)).failed(LEASE, work, error, RetryPolicy(), NOW)
    assert verdict.result.state == DeliveryState(state)
    assert verdict.result.outcome == outcome
    assert verdict.result.counts is counts
    assert isinstance(verdict.outcome, told)
    assert verdict.result.error_code == error.code


def test_the_scheduler_and_the_ledger_get_the_same_delay() -> None:
    verdict = Judge(random.Random(1)).failed(LEASE, item(attempt=4), TemporaryError("x", ""), RetryPolicy(), NOW)
    assert isinstance(verdict.outcome, Retry)
    assert verdict.result.due_at == NOW + timedelta(seconds=verdict.outcome.delay)


@pytest.mark.parametrize(("asked", "kept"), [(5.0, 5.0), (-3.0, 0.05), (1e12, LONGEST_THROTTLE)])
def test_retry_after_is_kept_within_reason(asked: float, kept: float) -> None:
    error = ThrottledError("429", "slow down", retry_after=asked, scope=Scope.LANE)
    verdict = Judge().failed(LEASE, item(), error, RetryPolicy(), NOW)
    assert verdict.outcome == Wait(LEASE, kept, Scope.LANE)


def test_sent() -> None:
    verdict = Judge().sent(LEASE, item(), SentReceipt("pm-1"), NOW)
    assert verdict.result.state == DeliveryState.SENT
    assert verdict.result.provider_message_id == "pm-1"
    assert verdict.result.sent_at == NOW
    assert verdict.outcome == Done(LEASE)


@pytest.mark.parametrize(
    ("parts", "given", "kept", "named"),
    [
        ((), "a", "a", "a"),
        (("a",), "b", "b", "a"),
        ((), None, "-", None),
        (("-",), "b", "b", "b"),
        (("-",), "", "-", None),
        ((), "a\nb", "-", None),
    ],
)
@pytest.mark.parametrize("more", [True, False])
def test_a_message_in_parts_has_the_id_of_the_first_that_has_one(
    parts: tuple[str, ...], given: str | None, kept: str, named: str | None, *, more: bool
) -> None:
    work = msgspec.structs.replace(item(), part_ids=parts)
    result = Judge().sent(LEASE, work, SentReceipt(given, more=more), NOW).result
    assert result.provider_message_id == named
    assert result.part_ids == ((*parts, kept) if parts or more else ())


def test_what_was_sent_in_part_keeps_its_place() -> None:
    work = msgspec.structs.replace(item(), part_ids=("a",))
    assert Judge().released(LEASE, work, NOW).result.state == DeliveryState.RETRYING
    refused = Judge().failed(LEASE, work, AuthenticationError("401", ""), RetryPolicy(), NOW)
    assert refused.result.state == DeliveryState.RETRYING


def test_who_opts_out_between_the_parts_has_some_of_it() -> None:
    work = msgspec.structs.replace(item(), part_ids=("a", "b"))
    result = Judge().unwanted(LEASE, work, PermanentError("opted_out", "no"), NOW).result
    assert (result.reached, result.error_message) == ("yes", "no; 2 parts of it had been sent")


def test_a_long_error_is_cut() -> None:
    verdict = Judge().failed(LEASE, item(), PermanentError("x", "y" * 10_000), RetryPolicy(), NOW)
    assert len(verdict.result.error_message or "") == 2000


@pytest.mark.parametrize("error", [TimeoutError(), ValueError("secret detail")])
def test_untyped_errors_may_have_reached_the_platform_and_tell_nothing(error: Exception) -> None:
    typed = as_delivery_error(error)
    assert isinstance(typed, TemporaryError)
    assert typed.reached == "maybe"
    assert "secret" not in typed.message


def test_a_platform_that_asks_to_wait_for_nothing_is_not_hammered_and_has_an_end() -> None:
    error = ThrottledError("429", "now", retry_after=0.0)
    delays = [
        Judge().failed(LEASE, item(throttles=number), error, RetryPolicy(), NOW).outcome.delay for number in range(15)
    ]
    assert delays == sorted(delays)
    assert delays[-1] == 60.0
    young = Judge().failed(LEASE, item(throttles=100), error, RetryPolicy(), NOW)
    assert young.result.outcome == "throttled"
    old = Judge().failed(LEASE, item(throttles=100, age=timedelta(days=2)), error, RetryPolicy(), NOW)
    assert old.result.state == DeliveryState.FAILED
