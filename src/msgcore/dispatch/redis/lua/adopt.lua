-- Tells a shard that begins a new epoch what is under way.
-- ARGV[2]...: id, token, last epoch that knew it, and record of each lease. One that this epoch knew is finished or lost.
-- Gives the epoch ('' while the shard is closed).

if not state then return '' end
local ids, tokens = {}, {}
for i = 2, #ARGV, 4 do
  local id, record = ARGV[i], with_due(ARGV[i + 3], 0)
  if ARGV[i + 2] ~= epoch and call('HEXISTS', P .. 'tokens', id) == 0 then
    local account, lane = account_in(record), lane_in(record)
    local a = account_of(account)
    local l = lane and lane_of(account, lane)
    local known = call('HGET', P .. 'd', id)
    -- It may be loaded already: out of the queue with it. A place without a lane is told by its generation.
    if not known then
      a[SIZE] = a[SIZE] + 1
    elseif call('ZREM', P .. 'timers', 'd' .. id) == 1 then
      end_delay(known)
    elseif l then
      call('LREM', l.queue, 1, place(id, known))
    end
    if route_in(record) then a[ROUTED] = 1 end
    call('HSET', P .. 'd', id, record)
    a[LEASED] = a[LEASED] + 1
    ids[#ids + 1], tokens[#tokens + 1] = id, tonumber(ARGV[i + 1])
    if l then l.state[BUSY] = 1 end
  end
end
lease_all(ids, tokens)
save()
return epoch
