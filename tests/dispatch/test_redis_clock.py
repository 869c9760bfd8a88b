"""How old a reply is, by a clock that is not ours."""

from __future__ import annotations

import random

import pytest

from msgcore.dispatch.redis.shard import ServerClock

EPOCH = 1_800_000_000.0
OURS = 500.0


def test_the_quickest_reply_counts_as_one_that_came_at_once() -> None:
    clock = ServerClock()
    assert clock.lag(EPOCH, OURS + 0.020) == 0.0  # nothing to compare it with yet
    assert clock.lag(EPOCH + 1, OURS + 1.001) == 0.0
    assert clock.lag(EPOCH + 2, OURS + 2.030) == pytest.approx(0.029, abs=0.001)


def test_clocks_that_drift_apart_are_followed() -> None:
    clock, chance = ServerClock(), random.Random(1)
    for claim in range(10_000):
        second, reply = claim / 10, 0.001 + chance.random() * 0.05
        lag = clock.lag(EPOCH + second * (1 - 0.0002), OURS + second + reply)
        assert claim < 100 or lag == pytest.approx(reply, abs=0.006)


@pytest.mark.parametrize("step", [-3600.0, -2.0, 2.0, 3600.0])
def test_a_clock_that_was_set_is_believed_at_once(step: float) -> None:
    clock = ServerClock()
    clock.lag(EPOCH, OURS)
    assert clock.lag(EPOCH + step + 1, OURS + 1) == 0.0
    assert clock.lag(EPOCH + step + 2, OURS + 2.01) == pytest.approx(0.01, abs=0.001)
