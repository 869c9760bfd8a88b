-- ARGV[2]: how many at most. ARGV[3]: share of an account, or ''. ARGV[4]: account ids and how many leases the caller
-- has of each. ARGV[5]: how many a tenant may have more, or ''. ARGV[6]: tenants that differ, each with its number.
-- Gives the epoch ('' while the shard is closed), seconds until something becomes ready ('' if nothing will), how many
-- accounts took turns, the moment of the claim, whether shares held some back, and id, token, record, seconds to wait
-- and tenant of each lease.

if not state then return {'', '', 0, '0', 0} end

local DELIVERY = byte('d')
local limit = tonumber(ARGV[2])

local function read_numbers(packed, form)
  local numbers, position = {}, 1
  while position <= #packed do
    local id, number
    id, number, position = struct.unpack(form, packed, position)
    numbers[id] = number
  end
  return numbers
end

local share, held = tonumber(ARGV[3]), read_numbers(ARGV[4], '<c16I4')
local most, allowed = tonumber(ARGV[5]), read_numbers(ARGV[6], '<c8I4')

-- What was leased until then and is neither finished nor renewed goes back.
local function give_up(id)
  local record = call('HGET', P .. 'd', id)
  local account, lane = account_in(record), lane_in(record)
  unlease(id, account, account_of(account))
  if lane then lane_of(account, lane).state[BUSY] = 0 end
  give_back(id, record, due_in(record))
end

-- Gives how many entries it went through.
local gone = {}
local function expire(name)
  local ids = call('LPOP', P .. 'g' .. name, STEPS) or {}
  if #ids < STEPS then call('ZREM', P .. 'leases', name) end
  if #ids == 0 then return 0 end
  for i, packed in ipairs(call('HMGET', P .. 'tokens', unpack(ids))) do
    -- What was leased or renewed more than once stands there as often.
    if packed and not gone[ids[i]] then
      local _, deadline = struct.unpack('<dd', packed)
      if deadline <= now then
        gone[ids[i]] = true
        give_up(ids[i])
      end
    end
  end
  return #ids
end

local function expire_leases()
  local steps = 0
  for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, STEPS)) do
    if steps < STEPS then steps = steps + expire(name) end
  end
end

-- The rank of what a parked runnable stands for; nil if that is gone.
local function rank_of(id, runnable)
  if byte(runnable) == DELIVERY then
    local record = call('HGET', P .. 'd', sub(runnable, 2, 17))
    return record and generation_in(record) == sub(runnable, 18) and rank_in(record) or nil
  end
  local l = lane_of(id, sub(runnable, 2))
  local head = head_of(l)
  if head then return rank_in(call('HGET', P .. 'd', head)) end
  l.state[OFFERED] = 0
  return nil
end

local function unpark(r)
  local s, id = r.state, r.account
  s[2] = 0
  local moment = math.max(s[1], free_at(s[3]))
  if moment <= reach then
    local runnable = call('LPOP', r.parked)
    local rank = runnable and rank_of(id, runnable)
    while runnable and not rank do
      runnable = call('LPOP', r.parked)
      rank = runnable and rank_of(id, runnable)
    end
    if rank then
      local a = account_of(id)
      call('LPUSH', READY_QUEUE[rank] .. id, runnable)
      a[READY + rank] = a[READY + rank] + 1
      join_ring(id, a)
    end
    moment = moment + interval(s[3])
  end
  if call('EXISTS', r.parked) == 1 then
    s[2] = moment
    alarm(moment, 'r' .. id .. r.route)
  end
end

local function fire(member)
  local kind, id = sub(member, 1, 1), sub(member, 2, 17)
  if kind == 'd' then
    local record = call('HGET', P .. 'd', id) -- due by then, and `take` says when
    end_delay(record)
    make_ready(id, record)
  elseif kind == 'l' then
    local l = lane_of(id, sub(member, 18))
    l.state[ALARM] = 0
    offer_lane(l)
  elseif kind == 'r' then
    unpark(route_of(id, sub(member, 18)))
  else
    local a = account_of(id)
    a[TIMER] = 0
    join_ring(id, a)
  end
end

-- What one makes ready may be followed by another at the same moment: a route without a budget parks one behind another.
local function fire_timers()
  local left = STEPS
  repeat
    local due = call('ZRANGEBYSCORE', P .. 'timers', '-inf', reach, 'LIMIT', 0, left)
    if #due > 0 then call('ZREM', P .. 'timers', unpack(due)) end
    for _, member in ipairs(due) do fire(member) end
    left = left - #due
  until #due == 0 or left <= 0
end

-- When a delivery may go out that may do so from `at` on by all but its route; nil when it must wait and is parked.
local function pass(id, record, runnable, at)
  local name = route_in(record)
  if not name then return at end
  local route = route_of(id, name)
  local s = route.state
  at = math.max(at, s[1], free_at(s[3]))
  if at <= reach then
    charge(s[3], at)
    return at
  end
  call('RPUSH', route.parked, runnable)
  if s[2] == 0 then
    s[2] = at
    alarm(at, 'r' .. id .. name)
  end
  return nil
end

local function take_lane(id, a, runnable, at)
  local lane = sub(runnable, 2)
  local queue = QUEUE .. id .. lane
  if a[ROUTED] == 0 and not lanes[queue] and not mark_of(id, lane, queue) then
    -- The usual case: a lane without a state.
    local head = call('LPOP', queue)
    if not head then return nil end
    if #head > 16 then at = math.max(at, (struct.unpack('<d', head, 17))) end
    if at <= reach then
      set_mark(id, lane, queue, 'b')
      return sub(head, 1, 16), at
    end
    call('LPUSH', queue, head) -- the one before it was removed, and this one is due later
  end
  local l = lane_of(id, lane)
  local s = l.state
  s[OFFERED] = 0
  local head, due = head_of(l)
  if not head or s[BUSY] == 1 then return nil end
  local moment = math.max(s[REST], free_at(s[PACE]))
  if math.max(moment, due) > reach then
    s[REST] = moment
    offer_lane(l)
    return nil
  end
  at = math.max(at, moment, due)
  if a[ROUTED] == 1 then at = pass(id, call('HGET', P .. 'd', head), runnable, at) end
  if not at then
    s[OFFERED] = 1
    return nil
  end
  charge(s[PACE], at)
  s[BUSY] = 1
  call('LPOP', l.queue)
  return head, at
end

local function take(id, a, runnable, at)
  if byte(runnable) ~= DELIVERY then return take_lane(id, a, runnable, at) end
  local delivery = sub(runnable, 2, 17)
  local record = call('HGET', P .. 'd', delivery)
  -- Removed, and perhaps enqueued again: then this place in the queue is no longer its own.
  if not record or generation_in(record) ~= sub(runnable, 18) then return nil end
  at = pass(id, record, runnable, math.max(at, due_in(record)))
  if not at then return nil end
  return delivery, at
end

-- Ready queues, a piece at a time, by key. What is left over goes back to their heads.
local pieces, ahead = {}, 1

local function read_piece(id, a, key)
  -- One that a budget holds back is likely to give one only.
  local paced = #a[BUDGET] > 0 or a[IN_FLIGHT] > 0
  local piece = call('LPOP', key, paced and 1 or ahead) or {}
  if #piece > 1 then
    local fields = {}
    for _, runnable in ipairs(piece) do
      if byte(runnable) ~= DELIVERY then fields[#fields + 1] = sub(runnable, 2) end
    end
    read_marks(id, fields)
  end
  piece.at = 1
  pieces[key] = piece
  return piece
end

local function next_ready(id, a, key)
  local piece = pieces[key]
  if not piece or piece.at > #piece then piece = read_piece(id, a, key) end
  piece.at = piece.at + 1
  return piece[piece.at - 1]
end

local function put_pieces_back()
  for key, piece in pairs(pieces) do
    local left = {}
    for i = #piece, piece.at, -1 do left[#left + 1] = piece[i] end
    call_all('LPUSH', key, left)
  end
end

local function pick(id, a)
  local rank = TURNS[a[TURN] + 1]
  a[TURN] = (a[TURN] + 1) % #TURNS
  if a[READY + rank] == 0 then
    rank = a[READY] > 0 and 0 or a[READY + 1] > 0 and 1 or 2
  end
  if a[READY + rank] == 0 then return nil end
  a[READY + rank] = a[READY + rank] - 1
  return next_ready(id, a, READY_QUEUE[rank] .. id)
end

local function next_delivery(id, a)
  if a[PAUSED] == 1 or is_full(a) then return nil end
  local at = math.max(a[ASLEEP], a[UNTIL], free_at(a[BUDGET]))
  if at > reach then
    if a[TIMER] ~= at then
      a[TIMER] = at
      alarm(at, 'a' .. id)
    end
    return nil
  end
  local runnable = pick(id, a)
  while runnable do
    local delivery, moment = take(id, a, runnable, at)
    if delivery then
      charge(a[BUDGET], moment)
      return delivery, moment
    end
    runnable = pick(id, a)
  end
  return nil
end

-- The ring, a piece at a time: accounts that were served go to the end of it.
local front, at, served = {}, 1, {}

local function next_account()
  if at > #front then
    front, at = call('LPOP', P .. 'ring', limit) or {}, 1
    if #front == 0 then front, served = served, {} end
  end
  at = at + 1
  return front[at - 1]
end

local function put_ring_back()
  for i = #front, at, -1 do call('LPUSH', P .. 'ring', front[i]) end
  for first = 1, #served, STEPS do
    call('RPUSH', P .. 'ring', unpack(served, first, math.min(#served, first + STEPS - 1)))
  end
end

expire_leases()
reach = now + AHEAD
fire_timers()
save_offers()
local ring = call('LLEN', P .. 'ring')
local reply, passed = {epoch, '', ring, string.format('%.6f', now), 0}, 0
local ids, tokens, waits, tenants = {}, {}, {}, {}

local function has_its_share(id, tenant, left)
  if not share then return false end
  return (held[id] or 0) >= share * left or (tenant ~= '' and (allowed[tenant] or most) <= 0)
end

local token = tonumber(call('HGET', shard, 'token'))
if ring > 0 then ahead = math.max(1, math.min(STEPS, math.ceil(limit / ring))) end
while #ids < limit and passed < ring do
  local id = next_account()
  local a = account_of(id)
  local tenant = a[TENANT] or ''
  if has_its_share(id, tenant, limit - #ids) then
    served[#served + 1] = id
    passed = passed + 1
  else
    local delivery, moment = next_delivery(id, a)
    if delivery then
      a[LEASED] = a[LEASED] + 1
      held[id] = (held[id] or 0) + 1
      if share and tenant ~= '' then allowed[tenant] = (allowed[tenant] or most) - 1 end
      ids[#ids + 1], tokens[#tokens + 1], waits[#waits + 1] = delivery, token + #tokens + 1, moment - now
      tenants[#tenants + 1] = tenant
      passed = 0
      served[#served + 1] = id
    else
      a[RING] = 0
      ring = ring - 1
    end
  end
end
put_ring_back()
put_pieces_back()
if passed > 0 and #ids < limit then
  reply[5] = 1
  if not meta[4] then call('HSET', shard, 'passed', 1) end
end
if #ids > 0 then
  call('HSET', shard, 'token', token + #ids)
  lease_all(ids, tokens)
  local records = get_all(P .. 'd', ids)
  for i, id in ipairs(ids) do
    local first = i * 5 + 1
    reply[first], reply[first + 1], reply[first + 2] = id, tokens[i], records[i]
    reply[first + 3], reply[first + 4] = waits[i] > 0 and tostring(waits[i]) or 0, tenants[i]
  end
end
save()

local soonest = math.huge
local timer = call('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')[2]
if timer then soonest = tonumber(timer) - AHEAD end
local deadline = call('ZRANGE', P .. 'leases', 0, 0, 'WITHSCORES')[2]
if deadline then soonest = math.min(soonest, tonumber(deadline)) end
if soonest < math.huge then reply[2] = tostring(math.max(0, soonest - now)) end
return reply
