"""Room for large bodies of platforms: a signature can only be checked when all of a body is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from msgcore.core.errors import UnavailableError

FREE: Final = 64 * 1024
"""The first bytes of a body, which count for nothing: what platforms post is nearly always smaller."""

BODIES: Final = 8
"""How many of the largest bodies there is room for."""

BODIES_OF_ONE: Final = 2
"""The same for one address, so that whoever got to know one leaves room to others."""

RETRY_SECONDS: Final = 5.0


class BodyRoom:
    """Counts what is in memory of bodies beyond their first `FREE` bytes."""

    def __init__(self, largest: int) -> None:
        """`largest` is how many bytes one body may have."""
        self._most = BODIES * largest
        self._most_of_one = BODIES_OF_ONE * largest
        self._held = 0
        self._held_of = Counter[str]()

    @contextmanager
    def holding(self, address: str) -> Generator[Callable[[int], None]]:
        """While a body for `address` is held: call what this gives with the size of each piece that comes.

        That raises UnavailableError where there is no room for it.
        """
        seen = held = 0

        def take(size: int) -> None:
            nonlocal seen, held
            seen += size
            more = max(0, seen - FREE) - held
            if self._held + more > self._most or self._held_of[address] + more > self._most_of_one:
                raise UnavailableError(
                    "Too many large requests come in just now; send it again", retry_after=RETRY_SECONDS
                )
            held += more
            self._held += more
            self._held_of[address] += more

        try:
            yield take
        finally:
            self._held -= held
            self._held_of[address] -= held
            if not self._held_of[address]:
                del self._held_of[address]
