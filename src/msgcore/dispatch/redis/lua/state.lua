-- Gives the shard's state: 'loading', 'live', or '' while it is closed.

return state or ''
