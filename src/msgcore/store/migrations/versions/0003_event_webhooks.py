"""Posting events to webhooks: how far each webhook's are handed over, and what its endpoint said.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")

BEGIN_NOW = """
    INSERT INTO webhook_cursors (webhook_id, sequence)
    SELECT webhooks.id, coalesce(event_sequences.last, 0)
    FROM webhooks LEFT JOIN event_sequences ON event_sequences.project_id = webhooks.project_id
"""


def upgrade() -> None:
    """Add a table and columns; webhooks that are there begin with the next event."""
    op.create_table(
        "webhook_cursors",
        sa.Column("webhook_id", ID, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.execute(BEGIN_NOW)
    off = sa.text("is_active = false")
    op.create_index("ix_webhooks_off", "webhooks", ["id"], postgresql_where=off, sqlite_where=off)
    op.add_column("webhook_deliveries", sa.Column("event_id", ID))
    op.add_column("webhook_deliveries", sa.Column("duration_ms", sa.Integer))
    op.add_column("webhook_deliveries", sa.Column("next_attempt_at", MOMENT))
