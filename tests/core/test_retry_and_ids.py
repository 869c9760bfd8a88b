"""Retry policy and identifiers."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msgcore.core.clock import to_iso
from msgcore.core.ids import canonical_id, earliest_id, new_id
from msgcore.core.retry import RetryPolicy


@pytest.mark.parametrize(
    ("attempts", "age", "spent"),
    [
        (8, 24 * 3600, True),
        (100, 3600, False),  # an outage of an hour drops nothing, however often it was tried
        (7, 48 * 3600, False),
    ],
)
def test_both_attempts_and_age_must_be_spent(attempts: int, age: float, spent: bool) -> None:
    assert RetryPolicy().spent(attempts, age) is spent


@given(st.integers(1, 10_000), st.integers())
def test_backoff_is_within_its_ceiling(attempts: int, seed: int) -> None:
    policy = RetryPolicy(base=1.0, cap=900.0)
    delay = policy.delay(attempts, random.Random(seed))
    assert 0.1 <= delay <= 900.0
    if attempts == 1:
        assert delay <= 1.0


def test_ids_sort_by_time_of_making() -> None:
    made = [new_id() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000


def test_earliest_id_is_a_lower_bound() -> None:
    moment = datetime.now(UTC)
    assert earliest_id(moment) <= new_id()
    assert canonical_id(earliest_id(moment)) == earliest_id(moment)


@pytest.mark.parametrize("text", ["", "x", "0" * 31, "g" * 32, "../etc/passwd"])
def test_what_is_no_uuid_has_no_canonical_form(text: str) -> None:
    assert canonical_id(text) is None


def test_canonical_form_is_lower_case_with_hyphens() -> None:
    assert canonical_id("0192F0C1D2E37000800000000000ABCD") == "0192f0c1-d2e3-7000-8000-00000000abcd"


def test_times_are_printed_as_javascript_does() -> None:
    assert to_iso(datetime(2030, 1, 2, 3, 4, 5, 678901, UTC)) == "2030-01-02T03:04:05.678Z"
