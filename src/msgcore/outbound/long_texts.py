"""Work on long texts, away from the event loop: whoever sends many of them waits for himself, and for few others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from msgcore.core.content import Content

THREADS = 2
"""Texts that are worked on at once. Only one thread computes at a time: the second lets short ones pass long ones."""
SHARE_SECONDS = 0.0005
"""How long a thread computes before another's turn comes, meanwhile: the event loop waits so long each time it wakes.
Python's 5 ms would make everybody's requests several times as slow while a long text is worked on."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LongTexts:
    """Threads for long texts, of which each project has one at a time. For one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="long-texts")
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        self._working = 0
        self._usual_seconds = sys.getswitchinterval()

    async def run(
        self, project_id: str, content: Content, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """The result of work on a content: at once where that takes little, else as `aside`. Raises what it does."""
        if content.is_long():
            return await self.aside(project_id, work, *args, **kwargs)
        return work(*args, **kwargs)

    async def aside(self, project_id: str, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of work that is done in a thread when it is the project's turn. Raises what the work does."""
        turn = self._turns.setdefault(project_id, asyncio.Lock())
        async with turn:
            loop = asyncio.get_running_loop()
            self._share(+1)
            try:
                return await loop.run_in_executor(self._threads, partial(work, *args, **kwargs))
            finally:
                self._share(-1)

    def _share(self, more: int) -> None:
        self._working += more
        sys.setswitchinterval(SHARE_SECONDS if self._working else self._usual_seconds)

    def close(self) -> None:
        """Begin nothing more; what is being worked on ends by itself, and nobody waits for it."""
        self._threads.shutdown(wait=False, cancel_futures=True)
