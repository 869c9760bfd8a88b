"""A dispatch core of each kind, for every test here that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dispatch.running_core import KINDS, Core, running_core


@pytest.fixture(params=KINDS)
async def core(request: pytest.FixtureRequest) -> AsyncIterator[Core]:
    """A dispatch core, started; the test runs once on each kind."""
    async with running_core(request) as running:
        yield running
