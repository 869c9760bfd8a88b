-- What every script of the scheduler begins with: the shard's state, its keys, and the steps they share.
-- KEYS[1] is the shard's key, such as {mc:1:0}; all keys of a shard begin with it, so they share one slot.
-- ARGV[1] is '' or, in tests, the time. Times are seconds, on this server's clock.
--
-- Keys of an epoch (a new one begins whenever the shard is loaded anew):
--   d        hash   delivery id -> record (see below)
--   a        hash   account id -> state (see the numbers below)
--   paused   set    account ids that are held
--   ring     list   accounts with something ready, in turn
--   r<n><a>  list   ready runnables of account a with rank n: d<id><generation> or l<lane>
--   q<a><l>  list   deliveries of a lane, in order: id, or id and due time
--   L<a>     hash   lane -> state: none while it is offered if it holds something, 'b' while it is
--                   only busy, else packed
--   R<a>     hash   route -> state; p<a><route> is the list of what waits for it
--   timers   zset   what becomes ready when: d<id>, l<a><lane>, r<a><route>, a<a>
--   tokens   hash   delivery id -> token and deadline of its lease
--   leases   zset   deadlines; g<deadline> is the list of deliveries that were leased until then
--   held     list   what was enqueued while the shard was being loaded

local shard = KEYS[1]
local call, byte, sub = redis.call, string.byte, string.sub
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local meta = call('HMGET', shard, 'state', 'epoch', 'run', 'passed')
local state, epoch = meta[1], meta[2] or '0'
-- A server that was restarted or took over may have lost the last moments: what it holds is not trusted.
local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')
if meta[3] ~= run then state = false end
local P = shard .. ':' .. epoch .. ':'
local QUEUE, LANES, READY_QUEUE = P .. 'q', P .. 'L', {[0] = P .. 'r0', P .. 'r1', P .. 'r2'}

local SIZE, LEASED, DELAYED, RING, PAUSED, ASLEEP, TURN, TIMER, IN_FLIGHT = 1, 2, 3, 4, 5, 6, 7, 8, 9
local FAILURES, COOLDOWN, UNTIL, PROBING, READY, BUDGET, ROUTED, PACED = 10, 11, 12, 13, 14, 17, 18, 19
local BUSY, OFFERED, REST, ALARM, PACE, LATER = 1, 2, 3, 4, 5, 6
local ROUNDING = 0.000001
local STEPS = 500

-- What was read is kept, and written at the end of the script: calls cost more than all else.
local accounts, lanes, routes = {}, {}, {}
local marks, marked, offers, ended = {}, {}, {}, {}
local joined, alarms = 0, {}

-- A command with any number of arguments, a piece at a time.
local function call_all(command, key, items)
  for first = 1, #items, STEPS do
    call(command, key, unpack(items, first, math.min(#items, first + STEPS - 1)))
  end
end

-- A value each for any number of fields.
local function get_all(key, fields)
  if #fields <= STEPS then return #fields > 0 and call('HMGET', key, unpack(fields)) or {} end
  local values = {}
  for first = 1, #fields, STEPS do
    for _, value in ipairs(call('HMGET', key, unpack(fields, first, math.min(#fields, first + STEPS - 1)))) do
      values[#values + 1] = value
    end
  end
  return values
end

-- What may go out by then is ready now; claims look further ahead than other scripts.
local reach = now

-- budgets: {interval, tolerance, arrival, interval, tolerance, arrival, ...}

local function adopt(budget, spec)
  local same = #budget == #spec / 2 * 3
  for i = 1, #spec / 2 do
    if same and (budget[i * 3 - 2] ~= spec[i * 2 - 1] or budget[i * 3 - 1] ~= spec[i * 2]) then same = false end
  end
  if same then return budget end
  local fresh = {}
  for i = 1, #spec, 2 do
    fresh[#fresh + 1] = spec[i]
    fresh[#fresh + 1] = spec[i + 1]
    fresh[#fresh + 1] = 0
  end
  return fresh
end

local function free_at(budget)
  local moment = now
  for i = 1, #budget, 3 do
    moment = math.max(moment, budget[i + 2] - budget[i + 1] - ROUNDING)
  end
  return moment
end

-- Count one call that is made at that moment; see Pacing in core/limits.py for the pause at a start.
local function charge(budget, at)
  for i = 1, #budget, 3 do
    local pause, arrival = 0, budget[i + 2]
    if budget[i + 1] == 0 and arrival < at - RESTED_SECONDS then
      pause = math.min(MOST_START, math.max(LEAST_START, budget[i] / 10))
    end
    budget[i + 2] = math.max(at, arrival) + budget[i] + pause
  end
end

local function fresh_at(budget)
  local moment = 0
  for i = 1, #budget, 3 do moment = math.max(moment, budget[i + 2]) end
  return moment
end

local function interval(budget)
  local longest = 0
  for i = 1, #budget, 3 do longest = math.max(longest, budget[i]) end
  return longest
end

local function alarm(when, member)
  call('ZADD', P .. 'timers', when, member)
  alarms[member] = true
end

-- records: a byte of flags (rank, 4 lane, 8 route, 16 due), account (16 bytes), generation (4), and, where the flags
-- say so, lane (8), route (8) and when it is due (8, a double). They are cut with string.sub: it is the quickest.

local function account_in(record) return sub(record, 2, 17) end
local function generation_in(record) return sub(record, 18, 21) end
local function rank_in(record) return byte(record) % 4 end
local function lane_in(record) return byte(record) % 8 >= 4 and sub(record, 22, 29) end

local function route_in(record)
  local flags = byte(record)
  if flags % 16 < 8 then return false end
  return flags % 8 >= 4 and sub(record, 30, 37) or sub(record, 22, 29)
end

local function due_in(record)
  if byte(record) < 16 then return 0 end
  return (struct.unpack('<d', record, #record - 7))
end

local function with_due(record, due)
  local flags = byte(record)
  if flags >= 16 then
    record = string.char(flags - 16) .. sub(record, 2, -9)
    flags = flags - 16
  end
  if due <= now then return record end
  return string.char(flags + 16) .. sub(record, 2) .. struct.pack('<d', due)
end

-- A delivery in its lane's queue.
local function place(id, record)
  if byte(record) < 16 then return id end
  return id .. sub(record, -8)
end

-- accounts

local function account_of(id)
  local a = accounts[id]
  if a then return a end
  local packed = call('HGET', P .. 'a', id)
  if packed then
    a = cmsgpack.unpack(packed)
  else
    a = {0, 0, 0, 0, call('SISMEMBER', P .. 'paused', id), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {}, 0, 0}
  end
  accounts[id] = a
  return a
end

local function is_full(a)
  local most = a[PROBING] == 1 and 1 or a[IN_FLIGHT]
  return most > 0 and a[LEASED] >= most
end

local function join_ring(id, a)
  if a[RING] == 0 and a[PAUSED] == 0 and a[READY] + a[READY + 1] + a[READY + 2] > 0 and not is_full(a) then
    a[RING] = 1
    joined = joined + 1
    call('RPUSH', P .. 'ring', id)
  end
end

local function offer(id, a, rank, runnable)
  local key = READY_QUEUE[rank] .. id
  local queue = offers[key]
  if queue then queue[#queue + 1] = runnable else offers[key] = {runnable} end
  a[READY + rank] = a[READY + rank] + 1
  join_ring(id, a)
end

-- Before ready queues are read.
local function save_offers()
  for key, queue in pairs(offers) do call_all('RPUSH', key, queue) end
  offers = {}
end

-- lanes

-- The state of a lane as it is stored; `queue` is its key.
local function mark_of(id, lane, queue)
  local mark = marks[queue]
  if mark == nil then
    mark = call('HGET', LANES .. id, lane)
    marks[queue] = mark
  end
  return mark
end

-- The same for many lanes of an account, ahead of time.
local function read_marks(account, fields)
  for i, mark in ipairs(get_all(LANES .. account, fields)) do
    local queue = QUEUE .. account .. fields[i]
    if marks[queue] == nil then marks[queue] = mark end
  end
end

-- The same for the lanes of deliveries; false stands for none.
local function read_marks_of(records)
  local lanes_in = {}
  for _, record in ipairs(records) do
    local lane = record and lane_in(record)
    if lane then
      local account = account_in(record)
      local fields = lanes_in[account]
      if fields then fields[#fields + 1] = lane else lanes_in[account] = {lane} end
    end
  end
  for account, fields in pairs(lanes_in) do read_marks(account, fields) end
end

-- That a lane is only busy ('b'), or has no state any more (false).
local function set_mark(id, lane, queue, mark)
  marks[queue] = mark
  local fields = marked[id]
  if not fields then
    fields = {}
    marked[id] = fields
  end
  fields[lane] = mark
end

local function save_marks(id, fields)
  local set, gone = {}, {}
  for lane, mark in pairs(fields) do
    if mark then
      set[#set + 1] = lane
      set[#set + 1] = mark
    else
      gone[#gone + 1] = lane
    end
  end
  call_all('HSET', LANES .. id, set)
  call_all('HDEL', LANES .. id, gone)
end

local function lane_of(id, lane)
  local queue = QUEUE .. id .. lane
  local l = lanes[queue]
  if l then return l end
  local packed = mark_of(id, lane, queue)
  l = {account = id, lane = lane, queue = queue, stored = packed}
  if packed == 'b' then
    l.state = {1, 0, 0, 0, {}, 0}
  elseif packed then
    l.state = cmsgpack.unpack(packed)
  else
    l.state = {0, call('EXISTS', l.queue), 0, 0, {}, 0}
  end
  lanes[queue] = l
  return l
end

local function head_of(l)
  local head = call('LINDEX', l.queue, 0)
  if not head then return nil end
  if #head == 16 then return head, 0 end
  return sub(head, 1, 16), (struct.unpack('<d', head, 17))
end

local function offer_lane(l)
  local s = l.state
  if s[BUSY] == 1 or s[OFFERED] == 1 then return end
  local id, due = head_of(l)
  if not id then return end
  due = math.max(s[REST], due)
  if due > reach then
    if s[ALARM] ~= due then
      s[ALARM] = due
      alarm(due, 'l' .. l.account .. l.lane)
    end
    return
  end
  s[OFFERED] = 1
  offer(l.account, account_of(l.account), rank_in(call('HGET', P .. 'd', id)), 'l' .. l.lane)
end

-- routes

local function route_of(id, route)
  local key = id .. route
  local r = routes[key]
  if r then return r end
  local packed = call('HGET', P .. 'R' .. id, route)
  r = {account = id, route = route, parked = P .. 'p' .. key}
  r.state = packed and cmsgpack.unpack(packed) or {0, 0, {}} -- asleep until, timer, budget
  routes[key] = r
  return r
end

-- deliveries

-- What joins a lane later is counted there: the lane's budget is kept for it.
local function count_delayed(record, by)
  local account, lane = account_in(record), lane_in(record)
  local a = account_of(account)
  a[DELAYED] = a[DELAYED] + by
  if lane then
    local s = lane_of(account, lane).state
    s[LATER] = s[LATER] + by
  end
end

local function delay(id, record)
  count_delayed(record, 1)
  alarm(due_in(record), 'd' .. id)
end

local function end_delay(record) count_delayed(record, -1) end

local function make_ready(id, record)
  local account, lane = account_in(record), lane_in(record)
  if not lane then
    offer(account, account_of(account), rank_in(record), 'd' .. id .. generation_in(record))
    return
  end
  local queue = QUEUE .. account .. lane
  if not lanes[queue] and not mark_of(account, lane, queue) then
    -- The usual case: a lane without a state, which is offered once it holds something.
    if call('RPUSH', queue, place(id, record)) == 1 then
      if byte(record) < 16 then
        offer(account, account_of(account), rank_in(record), 'l' .. lane)
      else
        local l = lane_of(account, lane)
        l.state[OFFERED] = 0
        offer_lane(l)
      end
    end
  else
    call('RPUSH', queue, place(id, record))
    offer_lane(lane_of(account, lane))
  end
end

-- To the head of its lane, or until `due`.
local function give_back(id, record, due)
  record = with_due(record, due)
  call('HSET', P .. 'd', id, record)
  local lane = lane_in(record)
  if lane then
    local l = lane_of(account_in(record), lane)
    call('LPUSH', l.queue, place(id, record))
    offer_lane(l)
  elseif due > reach then
    delay(id, record)
  else
    make_ready(id, record)
  end
end

-- A lane goes on after its head is gone for good.
local function go_on(account, lane)
  local queue = QUEUE .. account .. lane
  if not lanes[queue] and mark_of(account, lane, queue) == 'b' then
    local head = call('LINDEX', queue, 0)
    if not head or #head == 16 then
      set_mark(account, lane, queue, false)
      if head then offer(account, account_of(account), rank_in(call('HGET', P .. 'd', head)), 'l' .. lane) end
      return
    end
  end
  local l = lane_of(account, lane)
  l.state[BUSY] = 0
  offer_lane(l)
end

-- Before other leases are written.
local function end_leases()
  call_all('HDEL', P .. 'tokens', ended)
  ended = {}
end

-- Leases of a quarter of a second end together: one entry for all of them, however many there are.
local function lease_all(ids, tokens)
  if #ids == 0 then return end
  end_leases()
  local deadline = math.ceil((now + LEASE_SECONDS) * 4) / 4
  local name, values = string.format('%.2f', deadline), {}
  for i, id in ipairs(ids) do
    values[i * 2 - 1], values[i * 2] = id, struct.pack('<dd', tokens[i], deadline)
  end
  call_all('HSET', P .. 'tokens', values)
  call_all('RPUSH', P .. 'g' .. name, ids)
  call('ZADD', P .. 'leases', deadline, name)
end

local function token_in(lease) return lease and (struct.unpack('<d', lease)) end

local function unlease(id, account, a)
  ended[#ended + 1] = id
  a[LEASED] = a[LEASED] - 1
  join_ring(account, a)
end

-- the end of a script

local function save_lane(l)
  local s = l.state
  local plain = s[BUSY] == 0 and s[ALARM] == 0 and s[REST] <= now and s[LATER] == 0
  if plain then
    local holds = call('EXISTS', l.queue)
    plain = s[OFFERED] == holds and (#s[PACE] == 0 or holds == 0)
    local fresh = fresh_at(s[PACE])
    if plain and fresh > now then
      plain = false
      s[ALARM] = fresh + AHEAD
      alarm(s[ALARM], 'l' .. l.account .. l.lane)
    end
  end
  if not plain then
    call('HSET', LANES .. l.account, l.lane, cmsgpack.pack(s))
  elseif l.stored then
    call('HDEL', LANES .. l.account, l.lane)
  end
end

local function save_route(r)
  if accounts[r.account] or call('HEXISTS', P .. 'a', r.account) == 1 then
    call('HSET', P .. 'R' .. r.account, r.route, cmsgpack.pack(r.state))
  end
end

-- Gives whether it is still there.
local function save_account(id, a)
  -- A lane in its ready queues thinks that it is offered, even if nothing is left in it.
  if a[SIZE] == 0 and a[RING] == 0 and a[READY] + a[READY + 1] + a[READY + 2] == 0 then
    local fresh = math.max(a[ASLEEP], a[UNTIL], fresh_at(a[BUDGET]))
    for _, packed in ipairs(call('HVALS', P .. 'R' .. id)) do
      local s = cmsgpack.unpack(packed)
      fresh = math.max(fresh, s[1], fresh_at(s[3]))
    end
    if fresh <= now then
      call('HDEL', P .. 'a', id)
      call('DEL', P .. 'R' .. id, P .. 'r0' .. id, P .. 'r1' .. id, P .. 'r2' .. id)
      return false
    elseif a[TIMER] == 0 then
      a[TIMER] = fresh + AHEAD
      alarm(a[TIMER], 'a' .. id)
    end
  end
  return true
end

local function save()
  save_offers()
  end_leases()
  for id, fields in pairs(marked) do save_marks(id, fields) end
  for _, l in pairs(lanes) do save_lane(l) end
  for _, r in pairs(routes) do save_route(r) end
  local kept = {}
  for id, a in pairs(accounts) do
    if save_account(id, a) then
      kept[#kept + 1] = id
      kept[#kept + 1] = cmsgpack.pack(a)
    end
  end
  call_all('HSET', P .. 'a', kept)
end

-- Tell those who wait, if they wait for nothing now, or for something later, or left what they may not take.
local function wake()
  local news = joined > 0 and (meta[4] or call('LLEN', P .. 'ring') == joined)
  if news and meta[4] then call('HDEL', shard, 'passed') end
  if not news and next(alarms) then
    local first = call('ZRANGE', P .. 'timers', 0, 0)[1]
    news = first and alarms[first]
  end
  if news then call('PUBLISH', CHANNEL, shard) end
end
