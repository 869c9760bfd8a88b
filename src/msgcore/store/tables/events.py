"""What happened: the event log, customers' webhooks, platform logs and the audit log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, false, text

from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

# The condition of a partial index: queries repeat it to the letter.
IS_OFF = text("is_active = false")

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("type", String(64), nullable=False),
    Column("platform_id", Id),
    Column("data", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    # Its place in the project's log: 1, 2, 3 ... in the order of the commits.
    Column("sequence", BigInteger, nullable=False),
    Index("ix_events_project_id_sequence", "project_id", "sequence", unique=True),
)

event_sequences = Table(
    "event_sequences",
    metadata,
    # Whoever appends to a project's log holds its row until the commit, so that no reader meets a gap.
    Column("project_id", String(64), cascade("projects.id"), primary_key=True),
    Column("last", BigInteger, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("secret_encrypted", Text, nullable=False),
    Column("is_active", Boolean, nullable=False, default=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # After a rotation the old secret signs as well, until then.
    Column("previous_secret_encrypted", Text),
    Column("previous_secret_until", UtcDateTime),
    Column("is_ordered", Boolean, nullable=False, default=False, server_default=false()),
    # Since when nothing got through, and why it was switched off for that.
    Column("failing_since", UtcDateTime),
    Column("disabled_reason", Text),
    Index(None, "project_id", "is_active"),
    # The few whose deliveries must wait.
    Index("ix_webhooks_off", "id", postgresql_where=IS_OFF, sqlite_where=IS_OFF),
)

webhook_cursors = Table(
    "webhook_cursors",
    metadata,
    # Up to where a webhook's deliveries were made from the project's log. Apart from the webhook, which is
    # changed seldom.
    Column("webhook_id", Id, cascade("webhooks.id"), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # That of the ledger's delivery, and of its message.
    Column("id", Id, primary_key=True),
    Column("webhook_id", Id, cascade("webhooks.id"), nullable=False),
    Column("event", String(64), nullable=False),
    Column("payload", Json, nullable=False),
    Column("response_code", Integer),
    Column("response_body", Text),
    Column("error", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("status", String(16), nullable=False),
    Column("delivered_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    # The same for all deliveries of an event.
    Column("event_id", Id),
    # How long the last attempt took, and when the next one is due.
    Column("duration_ms", Integer),
    Column("next_attempt_at", UtcDateTime),
    Index(None, "webhook_id", "id"),
)

platform_logs = Table(
    "platform_logs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    # No foreign key: what was logged of a platform outlives it.
    Column("platform_id", Id),
    Column("platform", String(32), nullable=False),
    Column("level", String(8), nullable=False),
    Column("category", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("metadata", Json),
    Column("error", Text),
    Column("timestamp", UtcDateTime, nullable=False),
    Index(None, "project_id", "id"),
    Index(None, "project_id", "platform_id", "id"),
)

# Triggers of the migrations refuse whatever is no insertion, see `store.audit`.
audit_logs = Table(
    "audit_logs",
    metadata,
    Column("id", Id, primary_key=True),
    # No foreign keys: the log outlives what it speaks of.
    Column("project_id", String(64)),
    Column("actor_kind", String(16), nullable=False),
    Column("actor_id", Id),
    Column("action", String(64), nullable=False),
    Column("subject_type", String(32), nullable=False),
    Column("subject_id", String(64)),
    Column("before", Json),
    Column("after", Json),
    Column("ip_address", String(45)),
    Column("sequence", BigInteger),
    Column("created_at", UtcDateTime, nullable=False),
    Column("user_agent", String(512)),
    Column("request_id", String(128)),
    Index(None, "project_id", "id"),
    Index(None, "project_id", "action", "id"),
    Index(None, "project_id", "actor_id", "id"),
    Index(None, "action", "id"),
    Index(None, "actor_id", "id"),
    Index(None, "subject_id", "id"),
)
