-- ARGV[2]: delivery ids, one after the other. Gives which were removed (a byte each).

local removed = {}
for position = 1, #ARGV[2], 16 do
  local id = sub(ARGV[2], position, position + 15)
  local record = state and call('HGET', P .. 'd', id)
  if record and call('HEXISTS', P .. 'tokens', id) == 0 then
    removed[#removed + 1] = '1'
    local account, lane = account_in(record), lane_in(record)
    if call('ZREM', P .. 'timers', 'd' .. id) == 1 then
      end_delay(record)
    elseif lane then
      local l = lane_of(account, lane)
      -- The lane may be parked for a route that is not the next one's, and would cost that route a turn.
      if route_in(record) and head_of(l) == id then
        l.state[OFFERED] = 0
        call('LREM', route_of(account, route_in(record)).parked, 1, 'l' .. lane)
      end
      call('LREM', l.queue, 1, place(id, record))
      offer_lane(l)
    end
    call('HDEL', P .. 'd', id)
    local a = account_of(account)
    a[SIZE] = a[SIZE] - 1
  else
    removed[#removed + 1] = '0'
  end
end
if state then
  save()
  wake()
end
return table.concat(removed)
