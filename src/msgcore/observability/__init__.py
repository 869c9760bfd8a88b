"""Logs that can be searched, and that hold no secrets."""
