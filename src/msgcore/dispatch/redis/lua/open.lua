-- Begins a new epoch: the shard is empty, and what is enqueued is kept back until `settle`.
-- Gives the new epoch.

-- Epochs grow, whatever the clock does.
local time = call('TIME')
local fresh = string.format('%.0f', math.max(time[1] * 1000000 + time[2], tonumber(epoch) + 1))
-- Tokens go on from the time, so that none of an earlier epoch comes again.
call('HSET', shard, 'state', 'loading', 'epoch', fresh, 'run', run, 'token', fresh)
call('PUBLISH', CHANNEL, shard .. ':epoch')
return fresh
