"""How much of large bodies is in memory at a time."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from msgcore.core.errors import UnavailableError
from msgcore.inbound.body_room import BODIES, BODIES_OF_ONE, FREE, BodyRoom

LARGEST = 1_000_000


def test_there_is_room_for_some_large_bodies_and_for_small_ones_always() -> None:
    room = BodyRoom(LARGEST)
    with ExitStack() as held:
        for number in range(BODIES):
            held.enter_context(room.holding(f"a{number // BODIES_OF_ONE}"))(LARGEST + FREE)
        for address in ("a0", "another"):
            with room.holding(address) as take:
                for _ in range(FREE // 1024):
                    take(1024)
                with pytest.raises(UnavailableError) as refused:
                    take(1)
            assert refused.value.retry_after == 5.0
    for _ in range(BODIES_OF_ONE + 1):  # what is gone left room
        with room.holding("a0") as take:
            take(LARGEST)
    with ExitStack() as held:
        for _ in range(BODIES_OF_ONE):
            held.enter_context(room.holding("a0"))(LARGEST + FREE)
        with pytest.raises(UnavailableError):
            held.enter_context(room.holding("a0"))(LARGEST)
        held.enter_context(room.holding("another"))(LARGEST)
