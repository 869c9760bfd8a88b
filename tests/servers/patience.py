"""How long tests wait for what will come."""

PATIENCE = 90.0
"""Seconds until a wait fails. Only a failing test waits so long, so a slow machine makes no test fail."""
