"""The revisions of the data model, for Alembic. `msgcore.store.migrate` applies them.

Revisions spell out what they do and never import the tables, so that they still mean the same when
the tables have changed. A test compares what they make with the tables, on both databases.
"""
