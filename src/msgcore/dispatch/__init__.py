"""The dispatch core: what is due, who works on it, and what becomes of it."""
