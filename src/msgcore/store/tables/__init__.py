"""The data model, on SQLAlchemy Core, one file a subject.

The same tables serve SQLite and PostgreSQL. Hot tables (`messages`, `deliveries`, `attempts`)
have no foreign keys: they are written in one transaction by one function, and on PostgreSQL their
partitions can be dropped by age.
"""

from msgcore.store.tables.accounts import (
    acquaintances,
    api_key_scopes,
    api_key_usage,
    api_keys,
    invites,
    project_members,
    projects,
    sessions,
    sign_in_attempts,
    users,
)
from msgcore.store.tables.base import metadata
from msgcore.store.tables.connections import connection_holders, connections
from msgcore.store.tables.events import (
    audit_logs,
    event_sequences,
    events,
    platform_logs,
    webhook_cursors,
    webhook_deliveries,
    webhooks,
)
from msgcore.store.tables.identities import chats, identities, identity_aliases, opt_outs
from msgcore.store.tables.inbound import (
    blobs,
    inbound_requests,
    inbound_seen,
    message_attachments,
    pending_receipts,
    received_messages,
    received_reactions,
)
from msgcore.store.tables.messages import attempts, batches, deliveries, delivery_counts, idempotency_keys, messages
from msgcore.store.tables.platforms import project_platforms, sandbox_inbox
from msgcore.store.tables.system import system_state

__all__ = [
    "acquaintances",
    "api_key_scopes",
    "api_key_usage",
    "api_keys",
    "attempts",
    "audit_logs",
    "batches",
    "blobs",
    "chats",
    "connection_holders",
    "connections",
    "deliveries",
    "delivery_counts",
    "event_sequences",
    "events",
    "idempotency_keys",
    "identities",
    "identity_aliases",
    "inbound_requests",
    "inbound_seen",
    "invites",
    "message_attachments",
    "messages",
    "metadata",
    "opt_outs",
    "pending_receipts",
    "platform_logs",
    "project_members",
    "project_platforms",
    "projects",
    "received_messages",
    "received_reactions",
    "sandbox_inbox",
    "sessions",
    "sign_in_attempts",
    "system_state",
    "users",
    "webhook_cursors",
    "webhook_deliveries",
    "webhooks",
]
