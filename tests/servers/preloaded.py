"""What a gateway has imported once it is up, in a process to fork from: a fork has it for nothing.

All of it is out of the garbage collector's sight, too: a fork that looked through it would copy it.
"""

from __future__ import annotations

import gc

import aiosqlite  # noqa: F401 - SQLAlchemy imports it with its first connection
import asyncpg  # noqa: F401 - likewise
import litestar

import msgcore.cli.serve  # noqa: F401
from msgcore.platforms.registry import PlatformRegistry

PlatformRegistry()  # imports the platforms
litestar.Litestar()  # imports its plugins
gc.collect()
gc.freeze()
