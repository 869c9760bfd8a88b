"""Where a request comes from, for what records who did something.

It is kept in a context variable: whatever a request calls finds it, without each signature on the way naming it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address, what it calls itself, and the id of its request."""

    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


_current: ContextVar[Origin] = ContextVar("origin", default=Origin())  # noqa: B039 - frozen


def set_origin(origin: Origin) -> None:
    """From here on, what this task does is done for a request from there."""
    _current.set(origin)


def current_origin() -> Origin:
    """Where the present request comes from; nowhere, outside of one.

    Another thread has a context of its own: ask before the hop.
    """
    return _current.get()
