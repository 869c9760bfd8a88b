"""`msgcore migrate`, and the database that commands without a gateway work on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from msgcore.config import Settings
from msgcore.security.secrets_file import prepare_data_dir
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
    """The database of these settings, closed at the end; it connects on first use.

    Makes the data directory when the database is a file there. Raises StartupError when it cannot.
    """
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
    database = Database.open(settings.resolved_database_url, synchronous=settings.sqlite_synchronous)
    try:
        yield database
    finally:
        await database.close()
