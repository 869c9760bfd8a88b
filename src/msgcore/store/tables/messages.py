"""Messages out: what was accepted, where it goes, and what became of it.

`messages` is one accepted request (a job), `deliveries` one target each, `attempts` the timeline
of a delivery. Ids are UUIDv7, so on PostgreSQL the three are partitioned by ranges of their id,
which are ranges of time.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, SmallInteger, String, Table, Text, text

from msgcore.store.tables.base import Id, Json, UtcDateTime, metadata

# Conditions of partial indexes. Queries must repeat them to the letter, with literals instead of
# bound values: neither database can prove from a parameter that a partial index applies.
IS_OPEN = text("state IN ('queued', 'retrying', 'scheduled', 'sending')")
IS_SCHEDULED = text("state = 'scheduled'")
IS_DEAD = text("state = 'failed'")
IS_EXPIRING = text("state IN ('queued', 'retrying', 'scheduled') AND expires_at IS NOT NULL")
IS_RESCHEDULED = text("state IN ('queued', 'scheduled') AND rescheduled_at IS NOT NULL")
IS_STANDBY = text("state = 'standby'")
IS_STANDBY_TO_LOOK_AT = text("state = 'standby' AND fallback_at IS NOT NULL")
IS_OF_BATCH = text("batch_id IS NOT NULL")
IS_KNOWN_TO_PLATFORM = text("provider_message_id IS NOT NULL")
# Ids of chats have 255 characters at most; of PostgreSQL's rows of an index, longer ones might be beyond the limit.
IS_TO_CHAT = text("platform <> 'event-webhook' AND length(target_id) <= 255")

BY_ID_RANGE = "RANGE (id)"

messages = Table(
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("content", Json, nullable=False),
    Column("options", Json),
    Column("metadata", Json),
    Column("created_by", Id),
    Column("created_at", UtcDateTime, nullable=False),
    Column("batch_id", Id),
    Index(None, "project_id", "id"),
    Index("ix_messages_batch", "batch_id", "id", postgresql_where=IS_OF_BATCH, sqlite_where=IS_OF_BATCH),
    postgresql_partition_by=BY_ID_RANGE,
)

batches = Table(
    "batches",
    metadata,
    # Messages that were accepted together, in one transaction. No foreign key: it is written with them.
    Column("id", Id, primary_key=True),
    Column("project_id", String(64), nullable=False),
    Column("messages", Integer, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("created_by", Id),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "project_id", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    Column("message_id", Id, nullable=False, index=True),
    # That of its message, so that a batch's progress is one query of one index.
    Column("batch_id", Id),
    Column("project_id", String(64), nullable=False),
    Column("platform_id", Id, nullable=False),
    Column("platform", String(32), nullable=False),
    Column("target_type", String(16), nullable=False),
    Column("target_id", Text, nullable=False),
    # What it does to a message that is there already (react, edit, delete ...); null for a message.
    Column("action", String(16)),
    Column("lane", Text),
    Column("rank", SmallInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("throttles", Integer, nullable=False, default=0),
    # When it was first due: its age for the retry policy.
    Column("first_due_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    # When its due time was changed last: who knows it from before must learn of it.
    Column("rescheduled_at", UtcDateTime),
    Column("expires_at", UtcDateTime),
    # An earlier attempt may have reached the platform, and what to do then.
    Column("uncertain", Boolean, nullable=False, default=False),
    Column("on_uncertain", String(8), nullable=False, default="resend"),
    Column("started_at", UtcDateTime),
    Column("provider_message_id", Text),
    # The platform's ids of the parts that it took so far, one a line, where a message goes out in several calls.
    Column("part_ids", Text),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("sent_at", UtcDateTime),
    # What the platform told afterwards.
    Column("delivered_at", UtcDateTime),
    Column("read_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    # Of messages with `options.fallback` only: the place in their order (0 is the target itself), after how many
    # seconds a fallback takes over, and when to look whether it must.
    Column("fallback_rank", SmallInteger),
    Column("fallback_after", Integer),
    Column("fallback_at", UtcDateTime),
    Index(None, "project_id", "id"),
    # The work that is left: small however large the table grows.
    Index(
        "ix_deliveries_open",
        "id",
        postgresql_where=IS_OPEN,
        sqlite_where=IS_OPEN,
    ),
    Index(
        "ix_deliveries_scheduled",
        "due_at",
        postgresql_where=IS_SCHEDULED,
        sqlite_where=IS_SCHEDULED,
    ),
    Index(
        "ix_deliveries_dead",
        "project_id",
        "id",
        postgresql_where=IS_DEAD,
        sqlite_where=IS_DEAD,
    ),
    Index(
        "ix_deliveries_expiring",
        "expires_at",
        postgresql_where=IS_EXPIRING,
        sqlite_where=IS_EXPIRING,
    ),
    Index(
        "ix_deliveries_rescheduled",
        "rescheduled_at",
        "id",
        postgresql_where=IS_RESCHEDULED,
        sqlite_where=IS_RESCHEDULED,
    ),
    Index("ix_deliveries_standby", "id", postgresql_where=IS_STANDBY, sqlite_where=IS_STANDBY),
    Index(
        "ix_deliveries_fallback",
        "fallback_at",
        "id",
        postgresql_where=IS_STANDBY_TO_LOOK_AT,
        sqlite_where=IS_STANDBY_TO_LOOK_AT,
    ),
    Index(
        "ix_deliveries_chat",
        "platform_id",
        "target_id",
        "id",
        postgresql_where=IS_TO_CHAT,
        sqlite_where=IS_TO_CHAT,
    ),
    Index(
        "ix_deliveries_batch",
        "batch_id",
        "state",
        postgresql_where=IS_OF_BATCH,
        sqlite_where=IS_OF_BATCH,
    ),
    # What a platform tells of, or is told of, by its own id.
    Index(
        "ix_deliveries_provider_message",
        "platform_id",
        "provider_message_id",
        postgresql_where=IS_KNOWN_TO_PLATFORM,
        sqlite_where=IS_KNOWN_TO_PLATFORM,
    ),
    postgresql_partition_by=BY_ID_RANGE,
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("delivery_id", Id, nullable=False, index=True),
    # 0 for entries that do not count as an attempt (a part, throttled, released).
    Column("number", Integer, nullable=False),
    # sent, part, retry, throttled, failed, uncertain, authentication, released, expired, cancelled, activated
    Column("outcome", String(16), nullable=False),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("reached", String(8)),
    Column("retry_at", UtcDateTime),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    postgresql_partition_by=BY_ID_RANGE,
)

delivery_counts = Table(
    "delivery_counts",
    metadata,
    # Deliveries by state, kept in the transaction that changes the state, so that counting never
    # scans. `slot` spreads writers over rows (each process has its own), so they do not wait for
    # each other; a count is the sum over slots.
    Column("project_id", String(64), primary_key=True),
    Column("platform_id", Id, primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("slot", SmallInteger, primary_key=True),
    Column("platform", String(32), nullable=False),
    Column("count", Integer, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # Who used the key (API key or user), so that tenants cannot meet each other's keys.
    Column("principal_id", Id, primary_key=True),
    Column("project_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    # The message, or the batch, that it was used for.
    Column("message_id", Id, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)
