"""What a run and the hooks that Schemathesis loads have to agree about."""

PLAN_VARIABLE = "MSGCORE_FUZZ_PLAN"
"""The environment variable with the name of the file that says what is to be done."""

FOUND = "found.json"
"""The file beside it that says what came of it."""

NEW = "$new"
"""Stands in bodies for a name that nothing has yet."""
