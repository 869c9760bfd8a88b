"""Discord by its HTTP API and its gateway (https://docs.discord.com/developers), version 10."""
