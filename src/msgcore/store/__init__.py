"""The ledger: tables, migrations and every query."""
