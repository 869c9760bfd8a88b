"""Shared column types and the naming of constraints."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import DateTime, ForeignKey, MetaData, String, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Id(TypeDecorator[str]):
    """An id: a native uuid on PostgreSQL, its canonical text on SQLite and in Python."""

    impl = String(36)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The driver for PostgreSQL takes text and gives its own class; neither needs Python's UUID."""
        return dialect.type_descriptor(String(36) if dialect.name == "sqlite" else postgresql.UUID(as_uuid=True))

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        """Text, whatever the driver gave."""
        return value if value is None or dialect.name == "sqlite" else str(value)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases.

    SQLite, which has no type for it, gets text that sorts by time: `2030-01-31 12:00:00.000000`.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLAlchemy's own type for SQLite writes the same text, several times slower."""
        return dialect.type_descriptor(String(26) if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Everything is written in UTC. Raises ValueError for a naive value."""
        if value is None:
            return None
        if value.tzinfo is None:  # astimezone would take it for local time
            raise ValueError("a naive datetime")
        return _as_text(value) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware, whatever the database keeps."""
        if value is None or dialect.name != "sqlite":
            return value
        return datetime.fromisoformat(value).replace(tzinfo=UTC)


@lru_cache(maxsize=1024)  # the rows of a batch share few moments
def _as_text(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


class Json(TypeDecorator[Any]):
    """A JSON document kept as text and read by msgspec.

    Text rather than jsonb: the ledger writes documents far more often than it reads them and never
    searches inside them, and encoding once with msgspec is cheaper than a parse by the server.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode anything msgspec can encode."""
        del dialect
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode to plain Python objects."""
        del dialect
        return None if value is None else msgspec.json.decode(value)


def cascade(column: str) -> ForeignKey:
    """A foreign key whose row goes when the row it points to goes."""
    return ForeignKey(column, ondelete="CASCADE")
