"""People across platforms, and the chats they are in."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, Text, UniqueConstraint

from msgcore.store.tables.base import Id, Json, UtcDateTime, cascade, metadata

identities = Table(
    "identities",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("display_name", Text),
    Column("email", String(320)),
    Column("metadata", Json),
    # Where to send to first. No foreign key: of a platform that is gone nothing is left to be preferred.
    Column("preferred_platform_id", Id),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "project_id", "id"),
    Index(None, "project_id", "email"),
    Index(None, "project_id", "display_name"),
)

identity_aliases = Table(
    "identity_aliases",
    metadata,
    Column("id", Id, primary_key=True),
    Column("identity_id", Id, cascade("identities.id"), nullable=False, index=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("platform", String(32), nullable=False),
    Column("provider_user_id", String(255), nullable=False),
    Column("provider_user_display", Text),
    Column("link_method", String(16), nullable=False, default="manual"),
    Column("linked_at", UtcDateTime, nullable=False),
    UniqueConstraint("platform_id", "provider_user_id"),
    Index(None, "project_id", "provider_user_id"),
)

opt_outs = Table(
    "opt_outs",
    metadata,
    # Who wants nothing sent to them on a platform, whether they are known as an identity or not.
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("platform", String(32), nullable=False),
    # As the platform compares ids: in small letters where it ignores capitals.
    Column("provider_user_id", String(255), nullable=False),
    # The direct chat in which they said so: messages to it are messages to them.
    Column("provider_chat_id", String(255)),
    Column("opted_out_at", UtcDateTime, nullable=False),
    # What they wrote; none where it was entered through the API.
    Column("word", String(64)),
    UniqueConstraint("platform_id", "provider_user_id"),
    Index(None, "platform_id", "provider_chat_id"),
    Index(None, "project_id", "id"),
)

chats = Table(
    "chats",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), cascade("projects.id"), nullable=False),
    Column("platform_id", Id, cascade("project_platforms.id"), nullable=False),
    Column("platform", String(32), nullable=False),
    Column("provider_chat_id", String(255), nullable=False),
    Column("chat_type", String(16), nullable=False),
    Column("name", Text),
    Column("avatar_url", Text),
    Column("metadata", Json),
    Column("last_message_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("platform_id", "provider_chat_id"),
    Index(None, "project_id", "last_message_at", "id"),
)
