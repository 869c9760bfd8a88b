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
local FAILURES, COOLDOWN, UNTIL, PROBING, READY, BUDGET, ROUTED, PACED, TENANT = 10, 11, 12, 13, 14, 17, 18, 19, 20
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
    a = {0, 0, 0, 0, call('SISMEMBER', P .. 'paused', id), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {}, 0, 0, ''}
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
