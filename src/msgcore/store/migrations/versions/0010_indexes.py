"""Indexes of lists that had to look through more than their page: what was sent to a chat, people, and what they said.

Revision ID: 0010
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

ADDED = (
    ("received_messages", "project_id", "platform", "id"),
    ("received_messages", "platform_id", "id"),
    ("received_reactions", "platform_id", "provider_user_id", "id"),
    ("identities", "project_id", "id"),
    ("chats", "project_id", "last_message_at", "id"),
    ("platform_logs", "project_id", "platform_id", "id"),
)
REMOVED = (
    ("received_reactions", "platform_id", "provider_user_id"),
    ("chats", "project_id", "last_message_at"),
    ("platform_logs", "platform_id", "id"),
)


def upgrade() -> None:
    """Add indexes; some take the place of others."""
    to_chat = sa.text("platform <> 'event-webhook' AND length(target_id) <= 255")
    op.create_index(
        "ix_deliveries_chat",
        "deliveries",
        ["platform_id", "target_id", "id"],
        postgresql_where=to_chat,
        sqlite_where=to_chat,
    )
    for table, *columns in ADDED:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
    for table, *columns in REMOVED:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)
