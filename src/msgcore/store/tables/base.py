"""Shared column types and the naming of constraints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import DateTime, ForeignKey, MetaData, Text, TypeDecorator, Uuid
from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = Uuid(as_uuid=False)
"""An id: native uuid on PostgreSQL, 32 hex digits on SQLite, canonical text in Python."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on both databases (SQLite keeps no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Everything is written in UTC; SQLite gets it without the zone. Raises ValueError for a naive value."""
        if value is None:
            return None
        if value.tzinfo is None:  # astimezone would take it for local time
            raise ValueError("a naive datetime")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite's naive values are UTC."""
        del dialect
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


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
