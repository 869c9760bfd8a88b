"""What platforms tell of sent messages, and actions on messages that are there already.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")


def upgrade() -> None:
    """Add columns, an index and a table."""
    op.add_column("deliveries", sa.Column("action", sa.String(16)))
    op.add_column("deliveries", sa.Column("delivered_at", MOMENT))
    op.add_column("deliveries", sa.Column("read_at", MOMENT))
    known = sa.text("provider_message_id IS NOT NULL")
    op.create_index(
        "ix_deliveries_provider_message",
        "deliveries",
        ["platform_id", "provider_message_id"],
        postgresql_where=known,
        sqlite_where=known,
    )
    op.create_table(
        "pending_receipts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("chat_id", sa.String(255), nullable=False),
        sa.Column("provider_message_id", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("told_at", MOMENT, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("ix_pending_receipts_platform_id_id", "pending_receipts", ["platform_id", "id"])
