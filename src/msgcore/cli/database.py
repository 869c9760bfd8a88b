"""`msgcore migrate`, and the opening of a database with errors that an operator can act on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from msgcore.config import Settings
from msgcore.core.errors import StartupError
from msgcore.observability.logging import redactor_for
from msgcore.security.secrets import prepare_data_dir
from msgcore.store.database import Database
from msgcore.store.migrate import upgrade


async def migrate_database(settings: Settings) -> None:
    """Apply the revisions that are missing and print each.

    Raises StartupError when the database cannot be reached or is of a newer version.
    """
    async with open_database(settings) as database:
        applied = await upgrade(database)
    for revision in applied:
        print(f"applied {revision}")
    print("the database is up to date" if applied else "nothing to do, the database is up to date")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[Database]:
    """The database of these settings, connected once to see that it answers.

    Makes the data directory when the database is a file there. Raises StartupError when the
    database cannot be reached or refuses the connection.
    """
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
    database = Database.open(settings.resolved_database_url, synchronous=settings.sqlite_synchronous)
    try:
        await _connect(database, settings)
        yield database
    finally:
        await database.close()


async def _connect(database: Database, settings: Settings) -> None:
    try:
        async with database.read():
            return
    except (SQLAlchemyError, asyncpg.PostgresError, OSError) as error:
        variable = "MSGCORE_DATABASE_URL" if settings.database_url else "MSGCORE_DATA_DIR"
        reason = redactor_for(settings).text(str(getattr(error, "orig", None) or error).partition("\n")[0])
        raise StartupError(f"{variable}: the database cannot be opened ({reason})") from None
