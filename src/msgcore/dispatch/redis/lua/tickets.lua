-- Tickets: id (16 bytes), flags (1 delay, 2 keeps its place), number of its limits (1 byte), length of the record
-- (1 byte), record, and the delay (a double) where the flags say so.
-- Limits: a list of {account budgets, lane budgets, route budgets, in flight}.

local function set_limits(record, spec)
  local account = account_in(record)
  local a = account_of(account)
  a[BUDGET] = adopt(a[BUDGET], spec[1])
  a[IN_FLIGHT] = spec[4]
  local lane, route = lane_in(record), route_in(record)
  if lane and (#spec[2] > 0 or a[PACED] == 1) then
    a[PACED] = 1
    local s = lane_of(account, lane).state
    s[PACE] = adopt(s[PACE], spec[2])
  end
  if route then
    a[ROUTED] = 1
    local s = route_of(account, route).state
    s[3] = adopt(s[3], spec[3])
  end
end

local function add(id, record, wait, keeps_place)
  local a = account_of(account_in(record))
  a[SIZE] = a[SIZE] + 1
  if wait > 0 then
    record = with_due(record, now + wait)
    call('HSET', P .. 'd', id, record)
  end
  if wait > 0 and not (keeps_place and lane_in(record)) then
    delay(id, record)
  else
    make_ready(id, record)
  end
end

local function add_all(packed_limits, tickets)
  local limits = cmsgpack.unpack(packed_limits)
  local position, added = 1, 0
  while position <= #tickets do
    local id = sub(tickets, position, position + 15)
    local flags, number, length = byte(tickets, position + 16, position + 18)
    local record = sub(tickets, position + 19, position + 18 + length)
    position = position + 19 + length
    local wait = 0
    if flags % 2 == 1 then wait, position = struct.unpack('<d', tickets, position) end
    if call('HSETNX', P .. 'd', id, record) == 1 then
      set_limits(record, limits[number])
      add(id, record, wait, flags >= 2)
      added = added + 1
    end
  end
  return added
end
