-- Tickets: id (16 bytes), flags (1 delay, 2 keeps its place, 4 tenant), number of its limits (1 byte), length of the
-- record (1 byte), record, and the tenant (8 bytes) and the delay (a double) where the flags say so.
-- Limits: a list of {account budgets, lane budgets, route budgets, in flight}.

local function limit_account(account, a, spec)
  local budget = adopt(a[BUDGET], spec[1])
  if budget ~= a[BUDGET] or spec[4] ~= a[IN_FLIGHT] then
    a[BUDGET], a[IN_FLIGHT] = budget, spec[4]
    join_ring(account, a)
  end
end

local function limit_lane_and_route(record, account, a, spec)
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

local limits_of = {}
local function add(id, record, keeps_place, spec, tenant)
  local account = account_in(record)
  local a = account_of(account)
  a[SIZE] = a[SIZE] + 1
  if tenant then a[TENANT] = tenant end
  if limits_of[account] ~= spec then
    limits_of[account] = spec
    limit_account(account, a, spec)
  end
  limit_lane_and_route(record, account, a, spec)
  if byte(record) >= 16 and not (keeps_place and lane_in(record)) then
    delay(id, record)
  else
    make_ready(id, record)
  end
end

local function read_all(tickets)
  local position, ids, records, flags, numbers, tenants = 1, {}, {}, {}, {}, {}
  while position <= #tickets do
    local i, length = #ids + 1
    ids[i] = sub(tickets, position, position + 15)
    flags[i], numbers[i], length = byte(tickets, position + 16, position + 18)
    records[i] = sub(tickets, position + 19, position + 18 + length)
    position = position + 19 + length
    if flags[i] >= 4 then
      tenants[i] = sub(tickets, position, position + 7)
      position = position + 8
    end
    if flags[i] % 2 == 1 then
      local wait
      wait, position = struct.unpack('<d', tickets, position)
      records[i] = with_due(records[i], now + wait)
    end
  end
  return ids, records, flags, numbers, tenants
end

local function add_all(packed_limits, tickets)
  local limits = cmsgpack.unpack(packed_limits)
  local ids, records, flags, numbers, tenants = read_all(tickets)
  local known, fresh, values = get_all(P .. 'd', ids), {}, {}
  for i, id in ipairs(ids) do
    if not known[i] and not fresh[id] then
      fresh[id] = i
      values[#values + 1] = id
      values[#values + 1] = records[i]
    end
  end
  call_all('HSET', P .. 'd', values)
  read_marks_of(records)
  for i, id in ipairs(ids) do
    if fresh[id] == i then
      add(id, records[i], flags[i] % 4 >= 2, limits[numbers[i]], tenants[i])
    end
  end
  return #values / 2
end
