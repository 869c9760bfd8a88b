"""Messages that go out in several calls.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column."""
    op.add_column("deliveries", sa.Column("part_ids", sa.Text))
