"""People, projects and API keys."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

# The condition of a partial index: queries repeat it to the letter.
IS_PAUSED = text("paused_at IS NOT NULL")

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    # What an OpenID Connect issuer calls them; without the issuer's name where it was written by another version.
    Column("auth0_id", String(255), unique=True),
    Column("oidc_issuer", Text),
    Column("email", String(320), nullable=False, unique=True),
    Column("name", String(100)),
    Column("password_hash", Text),
    Column("is_admin", Boolean, nullable=False, default=False),
    # Tokens from before it are of no use any more, but for the one with this SHA-256, which asked for that.
    Column("tokens_valid_from", UtcDateTime),
    Column("spared_token", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    # The SHA-256 of what is guarded: an account's e-mail address, or a network address.
    Column("subject", String(64), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("blocked_until", UtcDateTime),
    Column("forget_at", UtcDateTime, nullable=False, index=True),
)

# People who signed in with a browser.
sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, cascade("users.id"), nullable=False, index=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    # Those from before their user's `tokens_valid_from` have ended.
    Column("signed_in_at", UtcDateTime, nullable=False),
    # When it ends unless it is used before; never after `expires_at`, when it ends in any case.
    Column("idle_at", UtcDateTime, nullable=False, index=True),
    Column("expires_at", UtcDateTime, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("environment", String(16), nullable=False),
    Column("is_default", Boolean, nullable=False, default=False),
    Column("settings", Json),
    Column("owner_id", Id, ForeignKey("users.id"), nullable=False, index=True),
    # While it is set, the deliveries of all its platforms wait.
    Column("paused_at", UtcDateTime),
    Column("paused_reason", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_projects_paused", "id", postgresql_where=IS_PAUSED, sqlite_where=IS_PAUSED),
)

project_members = Table(
    "project_members",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("user_id", Id, cascade("users.id"), nullable=False, index=True),
    Column("role", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("project_id", "user_id"),
)

invites = Table(
    "invites",
    metadata,
    Column("id", Id, primary_key=True),
    Column("email", String(320), nullable=False, index=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False, index=True),
    Column("role", String(16), nullable=False, default="member"),
    # The user or the API key that made it.
    Column("invited_by", Id),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("accepted_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
)

# Whom somebody has let in themselves: the account of an address that accepted a link which they made for this address.
acquaintances = Table(
    "acquaintances",
    metadata,
    Column("user_id", Id, cascade("users.id"), primary_key=True),
    # The user or the API key that made the link.
    Column("known_to", Id, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False, index=True),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("key_prefix", String(16), nullable=False),
    Column("key_suffix", String(8), nullable=False),
    Column("name", String(255), nullable=False),
    Column("expires_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("created_by", Id, ForeignKey("users.id", ondelete="SET NULL")),
    Column("created_at", UtcDateTime, nullable=False),
)

api_key_scopes = Table(
    "api_key_scopes",
    metadata,
    Column("api_key_id", Id, cascade("api_keys.id"), primary_key=True),
    Column("scope", String(64), primary_key=True),
)

# A row for each hour in which a key got a status from an endpoint.
api_key_usage = Table(
    "api_key_usage",
    metadata,
    Column("id", Id, primary_key=True),
    Column("api_key_id", Id, cascade("api_keys.id"), nullable=False),
    # As the router writes the path: /api/v1/projects/{project}/keys.
    Column("endpoint", String(255), nullable=False),
    Column("method", String(8), nullable=False),
    Column("status_code", Integer, nullable=False),
    # The longest of the hour.
    Column("response_time_ms", Integer, nullable=False),
    # When the hour began.
    Column("timestamp", UtcDateTime, nullable=False),
    # From where the last one came.
    Column("ip_address", String(45), nullable=False),
    Column("requests", BigInteger, nullable=False, server_default="1"),
    Column("total_ms", BigInteger, nullable=False, server_default="0"),
    Index("uq_api_key_usage_hour", "api_key_id", "timestamp", "endpoint", "method", "status_code", unique=True),
)
