"""What Alembic runs to apply revisions, in the transaction of whoever calls it (`msgcore.store.migrate`)."""

from __future__ import annotations

from alembic import context

from msgcore.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,  # names constraints
)
context.run_migrations()
