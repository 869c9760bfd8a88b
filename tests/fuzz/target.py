"""A parser of what outsiders send, and how it is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Target:
    """`look` gives a case to the parser and raises for whatever should not come of it: a result that breaks a rule,
    or another error than those that the parser promises. `grows` has pieces of text of which many in a row might cost
    more than their length, and `read` takes such a text (None: it is not tried so).
    """

    name: str
    cases: st.SearchStrategy[Any]
    look: Callable[[Any], object]
    read: Callable[[str], object] | None = field(default=None, repr=False)
    grows: Sequence[str] = ()

    def __str__(self) -> str:
        return self.name
