"""Keys, tokens, secrets, and the guard on what user-given addresses may reach."""
