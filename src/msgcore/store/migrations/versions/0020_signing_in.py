"""Signing in: who made an invitation.

Revision ID: 0020
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0011"
branch_labels = None
depends_on = None

ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Add a column and an index."""
    op.add_column("invites", sa.Column("invited_by", ID))
    op.create_index("ix_invites_project_id", "invites", ["project_id"])
