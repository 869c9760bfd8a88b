"""`msgcore migrate`."""

from __future__ import annotations

from msgcore.config import Settings
from msgcore.security.secrets import prepare_data_dir
from msgcore.store.database import Database
from msgcore.store.migrate import upgrade


async def migrate_database(settings: Settings) -> None:
    """Apply the revisions that are missing and print each.

    Raises StartupError when the database cannot be reached or is of a newer version.
    """
    if settings.database_url is None:
        prepare_data_dir(settings.data_dir)
    database = Database.open(settings.resolved_database_url, synchronous=settings.sqlite_synchronous)
    try:
        applied = await upgrade(database)
    finally:
        await database.close()
    for revision in applied:
        print(f"applied {revision}")
    print("the database is up to date" if applied else "nothing to do, the database is up to date")
