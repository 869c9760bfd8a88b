"""Configured platforms (accounts), and the inbox of the sandbox."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, String, Table, Text, select, text

from msgcore.store.tables.accounts import IS_PAUSED, projects
from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

# The condition of a partial index: queries repeat it to the letter.
IS_HELD = text("(paused_at IS NOT NULL OR is_active = false)")

project_platforms = Table(
    "project_platforms",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("credentials_encrypted", Text, nullable=False),
    Column("webhook_token", Id, nullable=False, unique=True),
    Column("is_active", Boolean, nullable=False, default=True),
    Column("test_mode", Boolean, nullable=False, default=False),
    # While it is set, deliveries wait. By `user`: until somebody resumes it. By `credentials`, which the
    # platform refused: also until those are changed.
    Column("paused_at", UtcDateTime),
    Column("paused_by", String(16)),
    Column("paused_reason", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "project_id", "platform"),
    # The few whose deliveries must wait.
    Index("ix_project_platforms_held", "id", postgresql_where=IS_HELD, sqlite_where=IS_HELD),
)

# A condition on platforms, beside `IS_HELD`.
IS_OF_PAUSED_PROJECT = project_platforms.c.project_id.in_(select(projects.c.id).where(IS_PAUSED))

sandbox_inbox = Table(
    "sandbox_inbox",
    metadata,
    # The delivery's id, so that a redelivery is seen as the same message.
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("message_id", Id, nullable=False),
    Column("target_type", String(16), nullable=False),
    Column("target_id", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("reply_to", Text),
    Column("received_at", UtcDateTime, nullable=False),
    Index(None, "platform_id", "id"),
)
