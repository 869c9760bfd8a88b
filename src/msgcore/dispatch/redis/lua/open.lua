-- Begins a new epoch: the shard is empty, and what is enqueued is kept back until `settle`.
-- Gives the new epoch and the one before.

local time = call('TIME')
local fresh = time[1] .. string.format('%06d', tonumber(time[2]))
-- Tokens go on from the time, so that none of an earlier epoch comes again.
call('HSET', shard, 'state', 'loading', 'epoch', fresh, 'run', run, 'token', fresh)
call('PUBLISH', CHANNEL, shard .. ':epoch')
return {fresh, epoch}
