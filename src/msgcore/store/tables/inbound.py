"""Messages in: requests of platforms as they came, what people wrote, and how they reacted."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint, text

from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

# The conditions of partial indexes: queries repeat them to the letter.
IS_WAITING = text("failed_at IS NULL")
IS_PENDING = text("state = 'pending'")

inbound_requests = Table(
    "inbound_requests",
    metadata,
    # What a platform sent, verified and not looked into yet; gone once it is. By the order in which it was stored.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    # Given when it came, so that storing it again after a doubtful commit changes nothing.
    Column("id", Id, nullable=False, unique=True),
    Column("project_id", String(64), nullable=False),
    Column("platform_id", Id, nullable=False),
    Column("platform", String(32), nullable=False),
    Column("headers", Json, nullable=False),
    Column("query", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    # It could not be read: kept for whoever looks into it.
    Column("failed_at", UtcDateTime),
    Column("error", Text),
    Index("ix_inbound_requests_waiting", "platform_id", "number", postgresql_where=IS_WAITING, sqlite_where=IS_WAITING),
)

inbound_seen = Table(
    "inbound_seen",
    metadata,
    # The platforms' own ids of what they sent of late: most send again what they think was not taken.
    Column("platform_id", Id, cascade("project_platforms.id"), primary_key=True),
    Column("provider_event_id", String(255), primary_key=True),
    Column("received_at", UtcDateTime, nullable=False, index=True),
)

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
    # The platform's id of the message that it answers.
    Column("reply_to", String(255)),
    Column("edited_at", UtcDateTime),
    Column("deleted_at", UtcDateTime),
    UniqueConstraint("platform_id", "provider_message_id"),
    Index(None, "project_id", "id"),
    Index(None, "project_id", "platform", "id"),
    Index(None, "platform_id", "id"),
    Index(None, "platform_id", "provider_chat_id", "id"),
    Index(None, "platform_id", "provider_user_id", "id"),
)

pending_receipts = Table(
    "pending_receipts",
    metadata,
    # What platforms told of messages whose sending is not recorded yet, for a minute: it may just be on its way.
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("chat_id", String(255), nullable=False),
    Column("provider_message_id", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("error", Text),
    Column("told_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    # What its event has apart from the delivery.
    Column("data", Json, nullable=False),
    Index(None, "platform_id", "id"),
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
    # One of core.attachments.AttachmentState, and why where the file cannot be had.
    Column("state", String(16), nullable=False, server_default="failed"),
    Column("reason", Text),
    # For fetching it: by whom, as what the platform knows it, how often it was tried, and when it is next (while
    # somebody tries: when another may).
    Column("platform_id", Id),
    Column("provider_file_id", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", UtcDateTime),
    Index(
        "ix_message_attachments_pending",
        "platform_id",
        "due_at",
        postgresql_where=IS_PENDING,
        sqlite_where=IS_PENDING,
    ),
)

blobs = Table(
    "blobs",
    metadata,
    # What is in the blob store, or was about to be put there: by the id of its attachment, which may be gone by now.
    Column("id", Id, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
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
    Index(None, "platform_id", "provider_user_id", "id"),
)
