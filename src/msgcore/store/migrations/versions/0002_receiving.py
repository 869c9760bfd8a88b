"""Receiving: requests of platforms as they came, what was seen before, events in order, secrets that overlap.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")
JSON = sa.Text()
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

NUMBER_EVENTS = """
    UPDATE events SET sequence = (
        SELECT count(*) FROM events AS earlier
        WHERE earlier.project_id = events.project_id AND earlier.id <= events.id
    )
"""
COUNT_EVENTS = """
    INSERT INTO event_sequences (project_id, last)
    SELECT project_id, max(sequence) FROM events GROUP BY project_id
"""


def upgrade() -> None:
    """Add tables and columns; events that are there get their place in the order."""
    _inbound()
    _events()
    _webhooks()


def _inbound() -> None:
    op.create_table(
        "inbound_requests",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", ID, nullable=False, unique=True),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("platform_id", ID, nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("headers", JSON, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("failed_at", MOMENT),
        sa.Column("error", sa.Text),
    )
    waiting = sa.text("failed_at IS NULL")
    op.create_index(
        "ix_inbound_requests_waiting",
        "inbound_requests",
        ["platform_id", "number"],
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    op.create_table(
        "inbound_seen",
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("provider_event_id", sa.String(255), primary_key=True),
        sa.Column("received_at", MOMENT, nullable=False),
    )
    op.create_index("ix_inbound_seen_received_at", "inbound_seen", ["received_at"])
    op.add_column("received_messages", sa.Column("reply_to", sa.String(255)))
    op.add_column("received_messages", sa.Column("edited_at", MOMENT))
    op.add_column("received_messages", sa.Column("deleted_at", MOMENT))


def _events() -> None:
    op.create_table(
        "event_sequences",
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.add_column("events", sa.Column("sequence", sa.BigInteger))
    op.execute(NUMBER_EVENTS)
    op.execute(COUNT_EVENTS)
    # SQLite makes the table anew, and what points to a table goes with it: nothing points to this one.
    with op.batch_alter_table("events") as table:
        table.alter_column("sequence", existing_type=sa.BigInteger(), nullable=False)
    op.create_index("ix_events_project_id_sequence", "events", ["project_id", "sequence"], unique=True)
    op.drop_index("ix_events_project_id_id", "events")
    op.create_index("ix_events_created_at", "events", ["created_at"])


def _webhooks() -> None:
    op.add_column("webhooks", sa.Column("previous_secret_encrypted", sa.Text))
    op.add_column("webhooks", sa.Column("previous_secret_until", MOMENT))
    op.add_column("webhooks", sa.Column("is_ordered", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("webhooks", sa.Column("failing_since", MOMENT))
    op.add_column("webhooks", sa.Column("disabled_reason", sa.Text))
