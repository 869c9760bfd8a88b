"""What MsgCore knows about itself."""

from __future__ import annotations

from sqlalchemy import Column, String, Table, Text

from msgcore.store.tables.base import metadata

system_state = Table(
    "system_state",
    metadata,
    # For example `encryption_check`: a ciphertext that shows whether the key is still the right one.
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
