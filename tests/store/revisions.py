"""What the tests of migrations share: rows for whatever tables there are, and revisions to come."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

from msgcore.core.ids import earliest_id
from msgcore.store import migrate
from msgcore.store.database import Database

NOW = datetime(2030, 5, 20, tzinfo=UTC)
LONG_AGO = datetime(2020, 2, 3, tzinfo=UTC)

Rows = dict[str, list[dict[str, Any]]]

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"

def upgrade():
    op.add_column("deliveries", sa.Column("note", sa.Text))
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("UPDATE deliveries SET note = 'old'")
    {then}
"""


def newest() -> str:
    """The newest revision that this MsgCore has."""
    return str(ScriptDirectory.from_config(migrate._config()).get_current_head())


async def upgrade_to(database: Database, revision: str) -> None:
    """Apply revisions up to this one only."""

    def run(connection: sa.Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with database.write() as connection:
        await connection.run_sync(run)


def future_config(folder: Path, then: str = "pass") -> Config:
    """The configuration of a MsgCore that has one more revision, which ends with this statement."""
    (folder / "next.py").write_text(REVISION.format(then=then, head=newest()))
    config = Config()
    config.set_main_option("script_location", "msgcore.store:migrations")
    config.set_main_option("path_separator", "os")
    here = Path(migrate.__file__).parent / "migrations/versions"
    config.set_main_option("version_locations", f"{here}{os.pathsep}{folder}")
    return config


async def reflect(connection: AsyncConnection) -> sa.MetaData:
    """The tables as they are in the database, whatever the code says."""
    found = sa.MetaData()
    await connection.run_sync(found.reflect)
    return found


async def fill(database: Database) -> None:
    """Two rows in every table there is, one of long ago and one of the month of NOW."""
    async with database.write() as connection:
        tables = [table for table in (await reflect(connection)).sorted_tables if table.name != "alembic_version"]
        partitions = {name for table in tables for name in (f"{table.name}_default", f"{table.name}_2030_05")}
        for moment in (LONG_AGO, NOW):
            made: dict[str, dict[str, Any]] = {}
            for table in tables:
                if table.name in partitions or table.name[:-8] in {"messages", "deliveries", "attempts"}:
                    continue
                made[table.name] = {column.name: _value(column, made, moment) for column in table.columns}
                await connection.execute(sa.insert(table), made[table.name])


def _value(column: sa.Column[Any], made: dict[str, dict[str, Any]], moment: datetime) -> Any:
    for key in column.foreign_keys:
        return made[key.column.table.name][key.column.name]
    if column.name == "id" and not (isinstance(column.type, sa.String) and column.type.length == 64):
        identifier = UUID(earliest_id(moment))
        return identifier if isinstance(column.type, sa.Uuid) else str(identifier)
    match column.type:
        case sa.Uuid():
            return uuid4()
        case sa.String():
            return str(uuid4())[: column.type.length]
        case sa.DateTime():
            return moment if column.type.timezone else moment.replace(tzinfo=None)
        case sa.Boolean():
            return True
        case sa.LargeBinary():
            return b"\x00body"
        case _:
            return moment.year  # another one in each row


async def rows(database: Database) -> Rows:
    """All rows of all tables, each table's in a fixed order."""
    async with database.read() as connection:
        tables = (await reflect(connection)).sorted_tables
        return {
            table.name: sorted(map(dict, (await connection.execute(sa.select(table))).mappings()), key=str)
            for table in tables
        }
