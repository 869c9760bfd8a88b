"""The audit log knows from where, is found by its filters and only appended to; the use of API keys is counted by hour.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

INDEXES = (
    ("project_id", "action", "id"),
    ("project_id", "actor_id", "id"),
    ("action", "id"),
    ("actor_id", "id"),
    ("subject_id", "id"),
)
COUNTED = ("api_key_id", "timestamp", "endpoint", "method", "status_code")

# Entries from before a moment may go, which whoever purges them puts there.
KEPT_FROM = "SELECT 1 FROM system_state WHERE key = 'audit_kept_from' AND OLD.created_at <"
SQLITE = f"""
CREATE TRIGGER audit_logs_update BEFORE UPDATE ON audit_logs
BEGIN SELECT RAISE(ABORT, 'audit_logs is only appended to'); END;;
CREATE TRIGGER audit_logs_delete BEFORE DELETE ON audit_logs WHEN NOT EXISTS ({KEPT_FROM} value)
BEGIN SELECT RAISE(ABORT, 'audit_logs is only appended to'); END;;
CREATE TRIGGER audit_logs_replace BEFORE INSERT ON audit_logs -- REPLACE deletes without telling the one above
WHEN EXISTS (SELECT 1 FROM audit_logs WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'audit_logs is only appended to'); END
"""  # noqa: S608 - of constants
POSTGRESQL = f"""
CREATE FUNCTION audit_logs_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS ({KEPT_FROM} (value || '+00')::timestamptz) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit_logs is only appended to';
END $$;;
CREATE TRIGGER audit_logs_rows BEFORE UPDATE OR DELETE ON audit_logs
FOR EACH ROW EXECUTE FUNCTION audit_logs_append_only();;
CREATE TRIGGER audit_logs_all BEFORE TRUNCATE ON audit_logs
FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only()
"""


def upgrade() -> None:
    """Add columns, indexes and triggers. Nothing was ever written to `api_key_usage` before."""
    op.add_column("audit_logs", sa.Column("user_agent", sa.String(512)))
    op.add_column("audit_logs", sa.Column("request_id", sa.String(128)))
    for columns in INDEXES:
        op.create_index(f"ix_audit_logs_{'_'.join(columns)}", "audit_logs", columns)
    triggers = SQLITE if op.get_context().dialect.name == "sqlite" else POSTGRESQL
    for statement in triggers.split(";;"):
        op.get_bind().exec_driver_sql(statement)
    op.add_column("api_key_usage", sa.Column("requests", sa.BigInteger, nullable=False, server_default="1"))
    op.add_column("api_key_usage", sa.Column("total_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("uq_api_key_usage_hour", "api_key_usage", COUNTED, unique=True)
    op.drop_index("ix_api_key_usage_api_key_id_timestamp", "api_key_usage")
