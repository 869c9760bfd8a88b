"""Files of received messages are kept: what became of each, and which are in the blob store.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")


def upgrade() -> None:
    """Add a table and columns; files of earlier messages were never fetched, and are not any more."""
    op.create_table(
        "blobs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    add = op.add_column
    add("message_attachments", sa.Column("state", sa.String(16), nullable=False, server_default="failed"))
    add("message_attachments", sa.Column("reason", sa.Text))
    add("message_attachments", sa.Column("platform_id", ID))
    add("message_attachments", sa.Column("provider_file_id", sa.Text))
    add("message_attachments", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    add("message_attachments", sa.Column("due_at", MOMENT))
    op.execute("UPDATE message_attachments SET reason = 'it came before files were kept'")
    pending = sa.text("state = 'pending'")
    op.create_index(
        "ix_message_attachments_pending",
        "message_attachments",
        ["platform_id", "due_at"],
        postgresql_where=pending,
        sqlite_where=pending,
    )
