"""Live connections to platforms: which accounts want one, and which process holds it."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Table, text

from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

# The condition of a partial index: queries repeat it to the letter.
IS_WANTED = text("is_wanted = true")

connections = Table(
    "connections",
    metadata,
    Column("platform_id", Id, cascade("project_platforms.id"), primary_key=True),
    # Whether the account asks for a connection, as it was at its `updated_at` of then.
    Column("is_wanted", Boolean, nullable=False),
    Column("version", UtcDateTime, nullable=False),
    # The process that holds it, until when unless it says so again; free since then if that is over.
    Column("holder", Id),
    Column("until", UtcDateTime, nullable=False),
    # How far the connection is, in the platform's own terms.
    Column("state", Json),
    Index("ix_connections_wanted", "until", postgresql_where=IS_WANTED, sqlite_where=IS_WANTED),
    Index(None, "holder"),
)

connection_holders = Table(
    "connection_holders",
    metadata,
    # The processes that hold connections, or would: those share them that are there.
    Column("id", Id, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
)
