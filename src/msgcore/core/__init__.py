"""The nouns of MsgCore. Nothing here does I/O or imports another msgcore package."""
