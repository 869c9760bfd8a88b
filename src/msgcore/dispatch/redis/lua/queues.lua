-- Lanes, routes, deliveries and leases in their queues, and how all of it is written at the end of a script.
-- Comes after common.lua, which says what each key holds.

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
  local plain = s[BUSY] == 0 and s[ALARM] == 0 and s[LATER] == 0
  if plain then
    local holds, fresh = call('EXISTS', l.queue), math.max(s[REST], fresh_at(s[PACE]))
    plain = s[OFFERED] == holds and s[REST] <= now and (#s[PACE] == 0 or holds == 0)
    if holds == 0 and fresh > now then
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
