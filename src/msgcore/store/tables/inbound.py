"""Messages in: what people wrote and how they reacted."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, UniqueConstraint

from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

received_messages = Table(
    "received_messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("platform", String(32), nullable=False),
    Column("provider_message_id", String(255), nullable=False),
    Column("provider_chat_id", String(255), nullable=False),
    Column("provider_user_id", String(255), nullable=False),
    Column("user_display", Text),
    Column("message_text", Text),
    Column("message_type", String(16), nullable=False, default="text"),
    Column("raw_data", Json, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    UniqueConstraint("platform_id", "provider_message_id"),
    Index(None, "project_id", "id"),
    Index(None, "platform_id", "provider_chat_id", "id"),
    Index(None, "platform_id", "provider_user_id", "id"),
)

message_attachments = Table(
    "message_attachments",
    metadata,
    Column("id", Id, primary_key=True),
    Column("message_id", Id, cascade("received_messages.id"), nullable=False, index=True),
    Column("type", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("filename", String(255)),
    Column("size", BigInteger),
    Column("mime_type", String(255)),
)

received_reactions = Table(
    "received_reactions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("platform", String(32), nullable=False),
    Column("provider_message_id", String(255), nullable=False),
    Column("provider_chat_id", String(255), nullable=False),
    Column("provider_user_id", String(255), nullable=False),
    Column("user_display", Text),
    Column("emoji", String(255), nullable=False),
    Column("reaction_type", String(8), nullable=False),
    Column("raw_data", Json, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Index(None, "project_id", "id"),
    Index(None, "platform_id", "provider_message_id"),
    Index(None, "platform_id", "provider_user_id"),
)
