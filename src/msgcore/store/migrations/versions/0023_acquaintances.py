"""Whom somebody has let in themselves, and therefore knows.

Revision ID: 0023
Revises: 0022
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")
ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Add a table. It begins empty: who let in whom until now cannot be told from addresses."""
    op.create_table(
        "acquaintances",
        sa.Column("user_id", ID, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("known_to", ID, primary_key=True),
        sa.Column("created_at", MOMENT, nullable=False),
    )
