"""Live connections: which accounts want one, how far it is, and which process holds it.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")


def upgrade() -> None:
    """Add two tables; the first process that holds connections finds out which accounts want one."""
    op.create_table(
        "connections",
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("is_wanted", sa.Boolean, nullable=False),
        sa.Column("version", MOMENT, nullable=False),
        sa.Column("holder", ID),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("state", sa.Text),
    )
    wanted = sa.text("is_wanted = true")
    op.create_index("ix_connections_wanted", "connections", ["until"], postgresql_where=wanted, sqlite_where=wanted)
    op.create_index("ix_connections_holder", "connections", ["holder"])
    op.create_table(
        "connection_holders",
        sa.Column("id", ID, primary_key=True),
        sa.Column("until", MOMENT, nullable=False),
    )
