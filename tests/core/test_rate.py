"""Rate limits: what a budget lets through, what it makes wait, and what it forgets."""

from __future__ import annotations

import pytest

from msgcore.core.rate import WINDOW, RateLimit


def run(limit: RateLimit, *moments: float, name: str = "key") -> str:
    """Who got in, of requests at these moments."""
    return "".join("+" if limit.take(name, moment) >= 0 else "-" for moment in moments)


@pytest.mark.parametrize(
    ("most", "moments", "expected"),
    [
        (3, [0, 0, 0, 0], "+++-"),
        (3, [0, 0, 0, 9, 10, 11, 29, 31], "+++-+--+"),  # one in 20 s, half a one early
        (3, [0, 0, 0, 70, 70, 70, 70], "++++++-"),
        (1, [0, 1, 29, 31], "+--+"),
        (60_000, [0.0] * 60_000 + [0.0, 0.0004, 0.0011], "+" * 60_000 + "--+"),
    ],
    ids=["at once", "one by one", "filled up again", "one", "many"],
)
def test_what_gets_in(most: int, moments: list[float], expected: str) -> None:
    limit = RateLimit(most)
    assert run(limit, *(1000 + moment for moment in moments)) == expected


@pytest.mark.parametrize("most", [1, 7, 600, 60_000])
def test_whoever_waits_as_long_as_told_gets_in_and_nobody_earlier(most: int) -> None:
    limit = RateLimit(most)
    assert run(limit, *[5.0] * most) == "+" * most
    wait = limit.wait("key", 5.0)
    assert wait == -limit.take("key", 5.0) > 0
    assert run(limit, 5.0 + wait - 1e-6, 5.0 + wait + 1e-6) == "-+"


def test_no_minute_has_more_than_twice_as_many() -> None:
    limit = RateLimit(100)
    moments = [500 + step / 50 for step in range(50 * 180)]
    let_in = [moment for moment in moments if limit.take("key", moment) >= 0]
    most = max(sum(start <= moment < start + WINDOW for moment in let_in) for start in range(500, 620))
    assert 195 <= most <= 201
    assert len(let_in) == pytest.approx(100 + 300, abs=2)


def test_what_is_left() -> None:
    limit = RateLimit(10)
    assert [limit.allowance(limit.take("key", 0.0)).remaining for _ in range(10)] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    limit.spend("key", 0.0, -4)
    assert limit.allowance(limit.take("key", 0.0)) == (10, 3, pytest.approx(42))
    limit.spend("key", 0.0, 23)  # more than there is: it is missing later
    assert limit.wait("key", 0.0) == pytest.approx(42 + 23 * 6 + 6 - 63)
    assert limit.take("other", 0.0) > 0


def test_what_others_spent_counts_and_nothing_is_given_back() -> None:
    limit = RateLimit(10)
    limit.learn("key", 100 + WINDOW)
    assert run(limit, 100, 100 + 6) == "-+"
    limit.learn("key", 0.0)
    assert run(limit, 100 + 6) == "-"


def test_names_are_forgotten_once_there_are_too_many_others() -> None:
    limit = RateLimit(1, kept=10)
    assert run(limit, 0) == "+"
    for number in range(10):
        assert run(limit, 0, name=f"other {number}") == "+"
    assert run(limit, 0) == "-"  # of the generation before
    for number in range(20):
        assert run(limit, 0, name=f"another {number}") == "+"
    assert run(limit, 0) == "+"
