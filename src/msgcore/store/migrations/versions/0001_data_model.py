"""The whole data model of the first version.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")
JSON = sa.Text()

PARTITIONED = ("messages", "deliveries", "attempts")


def upgrade() -> None:
    """Make every table; on PostgreSQL, the big ones with a partition for what has no other."""
    _accounts()
    _platforms()
    _messages()
    _inbound()
    _identities()
    _events()
    _system()
    if op.get_context().dialect.name == "postgresql":
        for table in PARTITIONED:
            op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def where(condition: str) -> dict[str, Any]:
    """Arguments of an index that holds only some rows."""
    return {"postgresql_where": sa.text(condition), "sqlite_where": sa.text(condition)}


def _accounts() -> None:
    op.create_table(
        "users",
        sa.Column("id", ID, primary_key=True),
        sa.Column("auth0_id", sa.String(255), unique=True),
        sa.Column("email", sa.String(320), nullable=False, unique=True),
        sa.Column("name", sa.String(100)),
        sa.Column("password_hash", sa.Text),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("environment", sa.String(16), nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("settings", JSON),
        sa.Column("owner_id", ID, sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("paused_at", MOMENT),
        sa.Column("paused_reason", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Index("ix_projects_paused", "id", **where("paused_at IS NOT NULL")),
    )
    op.create_table(
        "project_members",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("user_id", ID, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.UniqueConstraint("project_id", "user_id"),
    )
    op.create_table(
        "invites",
        sa.Column("id", ID, primary_key=True),
        sa.Column("email", sa.String(320), nullable=False, index=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("accepted_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", ID, primary_key=True),
        sa.Column(
            "project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("key_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("key_prefix", sa.String(16), nullable=False),
        sa.Column("key_suffix", sa.String(8), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("created_by", ID, sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "api_key_scopes",
        sa.Column("api_key_id", ID, sa.ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("scope", sa.String(64), primary_key=True),
    )
    op.create_table(
        "api_key_usage",
        sa.Column("id", ID, primary_key=True),
        sa.Column("api_key_id", ID, sa.ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
        sa.Column("endpoint", sa.String(255), nullable=False),
        sa.Column("method", sa.String(8), nullable=False),
        sa.Column("status_code", sa.Integer, nullable=False),
        sa.Column("response_time_ms", sa.Integer, nullable=False),
        sa.Column("timestamp", MOMENT, nullable=False),
        sa.Column("ip_address", sa.String(45), nullable=False),
        sa.Index(None, "api_key_id", "timestamp"),
    )


def _platforms() -> None:
    op.create_table(
        "project_platforms",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("credentials_encrypted", sa.Text, nullable=False),
        sa.Column("webhook_token", ID, nullable=False, unique=True),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("test_mode", sa.Boolean, nullable=False),
        sa.Column("paused_at", MOMENT),
        sa.Column("paused_by", sa.String(16)),
        sa.Column("paused_reason", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Index(None, "project_id", "platform"),
        sa.Index("ix_project_platforms_held", "id", **where("(paused_at IS NOT NULL OR is_active = false)")),
    )
    op.create_table(
        "sandbox_inbox",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("target_type", sa.String(16), nullable=False),
        sa.Column("target_id", sa.Text, nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("reply_to", sa.Text),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Index(None, "platform_id", "id"),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("options", JSON),
        sa.Column("metadata", JSON),
        sa.Column("created_by", ID),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("batch_id", ID),
        sa.Index(None, "project_id", "id"),
        sa.Index("ix_messages_batch", "batch_id", "id", **where("batch_id IS NOT NULL")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_table(
        "batches",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("messages", sa.Integer, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False),
        sa.Column("created_by", ID),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Index(None, "project_id", "id"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", ID, primary_key=True),
        sa.Column("message_id", ID, nullable=False, index=True),
        sa.Column("batch_id", ID),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("platform_id", ID, nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("target_type", sa.String(16), nullable=False),
        sa.Column("target_id", sa.Text, nullable=False),
        sa.Column("lane", sa.Text),
        sa.Column("rank", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("throttles", sa.Integer, nullable=False),
        sa.Column("first_due_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("rescheduled_at", MOMENT),
        sa.Column("expires_at", MOMENT),
        sa.Column("uncertain", sa.Boolean, nullable=False),
        sa.Column("on_uncertain", sa.String(8), nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("provider_message_id", sa.Text),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text),
        sa.Column("sent_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Index("ix_deliveries_dead", "project_id", "id", **where("state = 'failed'")),
        sa.Index(
            "ix_deliveries_expiring",
            "expires_at",
            **where("state IN ('queued', 'retrying', 'scheduled') AND expires_at IS NOT NULL"),
        ),
        sa.Index(
            "ix_deliveries_rescheduled",
            "rescheduled_at",
            "id",
            **where("state IN ('queued', 'scheduled') AND rescheduled_at IS NOT NULL"),
        ),
        sa.Index("ix_deliveries_batch", "batch_id", "state", **where("batch_id IS NOT NULL")),
        sa.Index("ix_deliveries_scheduled", "due_at", **where("state = 'scheduled'")),
        sa.Index("ix_deliveries_open", "id", **where("state IN ('queued', 'retrying', 'scheduled', 'sending')")),
        sa.Index(None, "project_id", "id"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_table(
        "attempts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("delivery_id", ID, nullable=False, index=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.Text),
        sa.Column("reached", sa.String(8)),
        sa.Column("retry_at", MOMENT),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=False),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_table(
        "delivery_counts",
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("platform_id", ID, primary_key=True),
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("slot", sa.SmallInteger, primary_key=True),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal_id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("message_id", ID, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False, index=True),
    )


def _inbound() -> None:
    op.create_table(
        "received_messages",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("provider_message_id", sa.String(255), nullable=False),
        sa.Column("provider_chat_id", sa.String(255), nullable=False),
        sa.Column("provider_user_id", sa.String(255), nullable=False),
        sa.Column("user_display", sa.Text),
        sa.Column("message_text", sa.Text),
        sa.Column("message_type", sa.String(16), nullable=False),
        sa.Column("raw_data", JSON, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.UniqueConstraint("platform_id", "provider_message_id"),
        sa.Index(None, "platform_id", "provider_chat_id", "id"),
        sa.Index(None, "platform_id", "provider_user_id", "id"),
        sa.Index(None, "project_id", "id"),
    )
    op.create_table(
        "message_attachments",
        sa.Column("id", ID, primary_key=True),
        sa.Column(
            "message_id", ID, sa.ForeignKey("received_messages.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("filename", sa.String(255)),
        sa.Column("size", sa.BigInteger),
        sa.Column("mime_type", sa.String(255)),
    )
    op.create_table(
        "received_reactions",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("provider_message_id", sa.String(255), nullable=False),
        sa.Column("provider_chat_id", sa.String(255), nullable=False),
        sa.Column("provider_user_id", sa.String(255), nullable=False),
        sa.Column("user_display", sa.Text),
        sa.Column("emoji", sa.String(255), nullable=False),
        sa.Column("reaction_type", sa.String(8), nullable=False),
        sa.Column("raw_data", JSON, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Index(None, "platform_id", "provider_message_id"),
        sa.Index(None, "platform_id", "provider_user_id"),
        sa.Index(None, "project_id", "id"),
    )


def _identities() -> None:
    op.create_table(
        "identities",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("display_name", sa.Text),
        sa.Column("email", sa.String(320)),
        sa.Column("metadata", JSON),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Index(None, "project_id", "display_name"),
        sa.Index(None, "project_id", "email"),
    )
    op.create_table(
        "identity_aliases",
        sa.Column("id", ID, primary_key=True),
        sa.Column("identity_id", ID, sa.ForeignKey("identities.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("provider_user_id", sa.String(255), nullable=False),
        sa.Column("provider_user_display", sa.Text),
        sa.Column("link_method", sa.String(16), nullable=False),
        sa.Column("linked_at", MOMENT, nullable=False),
        sa.UniqueConstraint("platform_id", "provider_user_id"),
        sa.Index(None, "project_id", "provider_user_id"),
    )
    op.create_table(
        "chats",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("provider_chat_id", sa.String(255), nullable=False),
        sa.Column("chat_type", sa.String(16), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("avatar_url", sa.Text),
        sa.Column("metadata", JSON),
        sa.Column("last_message_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.UniqueConstraint("platform_id", "provider_chat_id"),
        sa.Index(None, "project_id", "last_message_at"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("platform_id", ID),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Index(None, "project_id", "id"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("secret_encrypted", sa.Text, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Index(None, "project_id", "is_active"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", ID, primary_key=True),
        sa.Column("webhook_id", ID, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("response_code", sa.Integer),
        sa.Column("response_body", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("delivered_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Index(None, "webhook_id", "id"),
    )
    op.create_table(
        "platform_logs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("category", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("metadata", JSON),
        sa.Column("error", sa.Text),
        sa.Column("timestamp", MOMENT, nullable=False),
        sa.Index(None, "platform_id", "id"),
        sa.Index(None, "project_id", "id"),
    )
    op.create_table(
        "audit_logs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64)),
        sa.Column("actor_kind", sa.String(16), nullable=False),
        sa.Column("actor_id", ID),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject_type", sa.String(32), nullable=False),
        sa.Column("subject_id", sa.String(64)),
        sa.Column("before", JSON),
        sa.Column("after", JSON),
        sa.Column("ip_address", sa.String(45)),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Index(None, "project_id", "id"),
    )


def _system() -> None:
    op.create_table(
        "system_state",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
