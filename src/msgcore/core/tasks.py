"""Ending background tasks."""

from __future__ import annotations

import asyncio
from typing import Any

REPEAT_SECONDS = 1.0
"""How long a task may take to end before it is told again."""


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and return when it has ended; None is a task that never began.

    Once is not enough: a library that is cancelled while it cleans up after another fault may lose the cancellation,
    and a loop around it would then run on for ever. So it is said again until it was heard.

    Raises what the task raised, unless that is its cancellation.
    """
    if task is None:
        return
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=REPEAT_SECONDS)
    if not task.cancelled():
        task.result()
