"""Fallbacks: deliveries that stand by until another of their message cannot be sent.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")

INDEXES = (
    ("ix_deliveries_standby", ["id"], "state = 'standby'"),
    ("ix_deliveries_fallback", ["fallback_at", "id"], "state = 'standby' AND fallback_at IS NOT NULL"),
)


def upgrade() -> None:
    """Add columns that deliveries without fallbacks leave empty, and indexes over those that stand by."""
    op.add_column("deliveries", sa.Column("fallback_rank", sa.SmallInteger))
    op.add_column("deliveries", sa.Column("fallback_after", sa.Integer))
    op.add_column("deliveries", sa.Column("fallback_at", MOMENT))
    for name, columns, condition in INDEXES:
        where = sa.text(condition)
        op.create_index(name, "deliveries", columns, postgresql_where=where, sqlite_where=where)
