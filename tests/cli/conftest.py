"""The command under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.command import Msgcore


@pytest.fixture
def msgcore(tmp_path: Path) -> Iterator[Msgcore]:
    command = Msgcore(tmp_path)
    yield command
    command.kill_all()
