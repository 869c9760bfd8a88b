"""People: who opted out, and where an identity is sent to first.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")


def upgrade() -> None:
    """Add a table and a column."""
    op.create_table(
        "opt_outs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform_id", ID, sa.ForeignKey("project_platforms.id", ondelete="CASCADE"), nullable=False),
        sa.Column("platform", sa.String(32), nullable=False),
        sa.Column("provider_user_id", sa.String(255), nullable=False),
        sa.Column("provider_chat_id", sa.String(255)),
        sa.Column("opted_out_at", MOMENT, nullable=False),
        sa.Column("word", sa.String(64)),
        sa.UniqueConstraint("platform_id", "provider_user_id", name="uq_opt_outs_platform_id_provider_user_id"),
    )
    op.create_index("ix_opt_outs_platform_id_provider_chat_id", "opt_outs", ["platform_id", "provider_chat_id"])
    op.create_index("ix_opt_outs_project_id_id", "opt_outs", ["project_id", "id"])
    op.add_column("identities", sa.Column("preferred_platform_id", ID))
