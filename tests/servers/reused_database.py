"""One database of PostgreSQL for many tests, emptied in between: to copy one costs ten times as much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import asyncpg

from servers.postgres import PostgresServer

MOST_BYTES = 1_000_000
"""Of one table. What was deleted still takes room in it, and whoever reads it all would pass that."""

_CUT_CONNECTIONS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_SHAPE = """
SELECT count(*), hashtext(string_agg(attrelid::regclass || attname, ',' ORDER BY attrelid, attnum)),
    (SELECT count(*) FROM pg_db_role_setting), (SELECT count(*) FROM pg_statistic WHERE starelid >= 16384)
FROM pg_attribute WHERE attrelid >= 16384
"""
_SIZE = "SELECT max(pg_relation_size(oid)) FROM pg_class WHERE oid >= 16384 AND relkind = 'r'"
# As a replica, for there are triggers that refuse it, and the order of what points to what does not matter.
_EMPTY = """
DO $$
DECLARE each regclass;
BEGIN
  SET LOCAL session_replication_role = replica;
  FOR each IN SELECT oid FROM pg_class
      WHERE oid >= 16384 AND relkind = 'r' AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0
  LOOP
    EXECUTE 'DELETE FROM ' || each;
  END LOOP;
  FOR each IN SELECT oid FROM pg_class WHERE oid >= 16384 AND relkind = 'S' LOOP
    EXECUTE 'ALTER SEQUENCE ' || each || ' RESTART';
  END LOOP;
END $$
"""


class ReusedDatabase:
    """A copy of a template, for one test after the other; another copy once one has changed it too much.

    That is when its tables, its settings or what PostgreSQL knows about what is in them are others than the template's,
    or one has grown large.
    """

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._name: str | None = None
        self._url = ""
        self._shape: object = None

    @contextmanager
    def lend(self) -> Iterator[str]:
        """The URL of a database that is as new."""
        if self._name is None:
            self._name = f"reused_{uuid4().hex}"
            self._url = self._server.create_database(self._name, template=self._template)
            self._shape = self._server.run(self._url, _shape)
        yield self._url
        if not self._server.run(self._url, self._is_as_new):
            self._server.drop_database(self._name)
            self._name = None

    async def _is_as_new(self, connection: asyncpg.Connection) -> bool:
        await connection.execute(_CUT_CONNECTIONS)
        if await _shape(connection) != self._shape or await connection.fetchval(_SIZE) > MOST_BYTES:
            return False
        await connection.execute(_EMPTY)
        return True


async def _shape(connection: asyncpg.Connection) -> object:
    return tuple(await connection.fetchrow(_SHAPE) or ())
