"""The bench of timing: its tests see what is there and nothing else, and each way that it measures is refused."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from bench.timing import measure
from bench.timing_lookups import World, lookups
from bench.timing_signatures import signatures
from bench.timing_statistics import compare

from msgcore.store.database import Database


def durations(number: int, *, later: float = 0.0, wider: float = 1.0) -> list[float]:
    """About 100 each, some of them much longer, as when something comes in between."""
    return [later + wider * random.expovariate(0.2) + 95 + 1000 * (random.random() < 0.02) for _ in range(number)]


def test_differences_are_seen_and_chance_is_not() -> None:
    random.seed(17)
    for _ in range(50):
        same = compare(durations(2000), durations(2000))
        assert not same.differs, same
    for moved in (durations(2000, later=1.0), durations(2000, wider=1.3)):
        seen = compare(durations(2000), moved)
        assert seen.differs
        assert seen.agrees(compare(durations(2000), moved))
        assert not seen.agrees(compare(moved, durations(2000))), "the other way round"
    assert compare(durations(2000), durations(2000)).sees_from == pytest.approx(0.46, rel=0.2)


def test_ranks_are_counted_as_pairs_are() -> None:
    first, second = [1.0, 2.0, 2.0, 3.0, 5.0, 8.0, 99.0], [2.0, 3.0, 4.0, 6.0, 7.0, 9.0, 9.0]
    found = compare(first, second)
    pairs = sum((two > one) + 0.5 * (two == one) for one in first for two in second)
    ties = sum(count**3 - count for count in Counter(first + second).values())
    assert found.z == pytest.approx((pairs - 24.5) / (49 / 12 * (15 - ties / (14 * 13))) ** 0.5)
    assert found.medians == (3.0, 6.0)
    assert not compare([5.0] * 20, [5.0] * 20).differs
    assert compare([5.0] * 20, [6.0] * 20).differs


async def test_each_way_is_refused_as_it_should_be(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    world = World(database)
    await world.fill()
    names: list[str] = []
    for group in (*signatures(), *(each for each in lookups(world) if each.name != "invitation")):
        taken = await measure(group, 2)
        assert {len(each) for each in taken.values()} == {2}
        names.append(group.name)
    assert sum(name.startswith("planted: ") for name in names) == 2
    assert {"webhook: slack", "webhook: vonage-sms", "API key, in memory", "login (HS256)"} <= set(names)
    await world.close()
    await database.close()
