"""Bring the database up to date, or make sure that it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.errors import StartupError
from msgcore.store.database import Database
from msgcore.store.tables import metadata

UPGRADE_LOCK = 0x6D73_6763_6F72_0001
"""Key of the PostgreSQL advisory lock under which revisions are applied."""


async def upgrade(database: Database) -> list[str]:
    """Apply the revisions that are missing, all or none; returns them in order.

    Of several processes that start at once, one applies them and the others wait for it.
    Raises StartupError when the database cannot be used.
    """
    async with _transaction(database) as connection:
        if database.kind == "postgresql":  # on SQLite, a transaction is the only one from its start
            await connection.execute(select(func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        return await connection.run_sync(_upgrade)


async def current(database: Database) -> str | None:
    """The newest revision that was applied; None when none was.

    Raises StartupError when the database cannot be used.
    """
    async with _transaction(database) as connection:
        return await connection.run_sync(_revision)


async def require_current(database: Database) -> None:
    """Raise StartupError unless the database can be used and has exactly this program's revisions."""
    revision = await current(database)
    if _missing(_script(), revision):
        raise StartupError("the database is not up to date; run: msgcore migrate")


@asynccontextmanager
async def _transaction(database: Database) -> AsyncGenerator[AsyncConnection]:
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(database.write())
        except (OSError, SQLAlchemyError) as error:
            raise database.unusable(error) from None
        yield connection


def _upgrade(connection: Connection) -> list[str]:
    config = _config()
    revision = _revision(connection)
    missing = _missing(ScriptDirectory.from_config(config), revision)
    if revision is None:
        _require_empty(connection)
    if missing:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return missing


def _require_empty(connection: Connection) -> None:
    foreign = sorted(metadata.tables.keys() & set(inspect(connection).get_table_names()))
    if foreign:
        raise StartupError(
            f"the database holds a table {foreign[0]!r} that MsgCore did not make; "
            "MSGCORE_DATABASE_URL must name a database of MsgCore's own"
        )


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _missing(script: ScriptDirectory, revision: str | None) -> list[str]:
    """The revisions above this one. Raises StartupError when this program does not know it."""
    known = [step.revision for step in script.walk_revisions()]
    if revision is not None and revision not in known:
        raise StartupError(
            f"the database is of a newer version ({revision}) than this MsgCore; install the newer MsgCore"
        )
    return [step.revision for step in script.iterate_revisions("head", revision or "base")][::-1]


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "msgcore.store:migrations")
    return config
