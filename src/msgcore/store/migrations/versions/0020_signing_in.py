"""Signing in: who made an invitation, from when on tokens are valid, and who guesses passwords.

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

MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")
ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Add columns, an index and a table."""
    op.add_column("invites", sa.Column("invited_by", ID))
    op.create_index("ix_invites_project_id", "invites", ["project_id"])
    op.add_column("users", sa.Column("oidc_issuer", sa.Text))
    op.add_column("users", sa.Column("tokens_valid_from", MOMENT))
    op.add_column("users", sa.Column("spared_token", sa.String(64)))
    op.create_table(
        "sign_in_attempts",
        sa.Column("subject", sa.String(64), primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("blocked_until", MOMENT),
        sa.Column("forget_at", MOMENT, nullable=False),
    )
    op.create_index("ix_sign_in_attempts_forget_at", "sign_in_attempts", ["forget_at"])
