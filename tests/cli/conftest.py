"""The command under test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.conftest import running as running  # noqa: PLC0414 - a fixture, for the tests of this folder
from servers.command import Msgcore


@pytest.fixture
def msgcore(tmp_path: Path) -> Iterator[Msgcore]:
    command = Msgcore(tmp_path)
    yield command
    command.kill_all()
