-- ARGV[2]: outcomes: id, token, kind, delay, flags (1 answered, 2 trouble), scope, scope of the pace + 1, its delay.
-- Gives which were lost (a byte each; none while the shard is closed, the ledger has them all), and the accounts whose breaker opened and closed.

local DONE, RETRY, WAIT = 0, 1, 2
local LANE, ROUTE, ACCOUNT = 1, 2, 3
local lost, opened, closed, final = {}, {}, {}, {}

-- Lets nothing of the scope out before then; gives until when the delivery itself must wait.
local function silence(record, scope, until_then)
  local account, lane, route = account_in(record), lane_in(record), route_in(record)
  if scope == ACCOUNT then
    local a = account_of(account)
    a[ASLEEP] = math.max(a[ASLEEP], until_then)
  elseif scope == ROUTE and route then
    local s = route_of(account, route).state
    s[1] = math.max(s[1], until_then)
  elseif scope == LANE and lane then
    local s = lane_of(account, lane).state
    s[REST] = math.max(s[REST], until_then)
  else
    return until_then
  end
  return 0
end

local function answered(id, a)
  if a[PROBING] == 1 then closed[#closed + 1] = id end
  a[FAILURES], a[COOLDOWN], a[UNTIL], a[PROBING] = 0, 0, 0, 0
  join_ring(id, a)
end

local function trouble(id, a)
  a[FAILURES] = a[FAILURES] + 1
  if now < a[UNTIL] or (a[PROBING] == 0 and a[FAILURES] < BREAKER_FAILURES) then return end
  a[COOLDOWN] = a[COOLDOWN] > 0 and math.min(BREAKER_LONGEST, a[COOLDOWN] * 2) or BREAKER_COOLDOWN
  a[UNTIL] = now + a[COOLDOWN]
  a[PROBING] = 1
  opened[#opened + 1] = id
end

local function settle(id, record, kind, wait, flags, scope, pace_scope, pace_wait)
  local account, lane = account_in(record), lane_in(record)
  local a = account_of(account)
  unlease(id, account, a)
  if kind == WAIT or (kind == DONE and flags % 2 == 1) then
    answered(account, a)
  elseif kind == RETRY and flags >= 2 then
    trouble(account, a)
  end
  if kind == DONE then
    if pace_scope > 0 then silence(record, pace_scope - 1, now + pace_wait) end
    final[#final + 1] = id
    a[SIZE] = a[SIZE] - 1
    if lane then go_on(account, lane) end
    return
  end
  if lane then lane_of(account, lane).state[BUSY] = 0 end
  local due = due_in(record)
  if kind == RETRY then due = now + wait end
  if kind == WAIT then due = math.max(due, silence(record, scope, now + wait)) end
  give_back(id, record, due)
end

local OUTCOME, outcomes, ids = 44, ARGV[2], {}
for position = 1, #outcomes, OUTCOME do ids[#ids + 1] = sub(outcomes, position, position + 15) end
if not state then return {string.rep('0', #ids), opened, closed} end

local leases, records, over = get_all(P .. 'tokens', ids), get_all(P .. 'd', ids), {}
read_marks_of(records)
for i, id in ipairs(ids) do
  local _, token, kind, wait, flags, scope, pace_scope, pace_wait =
    struct.unpack('<c16dBdBBBd', outcomes, (i - 1) * OUTCOME + 1)
  if over[id] or token_in(leases[i]) ~= token then
    lost[i] = '1'
  else
    lost[i], over[id] = '0', true
    settle(id, records[i], kind, wait, flags, scope, pace_scope, pace_wait)
  end
end
call_all('HDEL', P .. 'd', final)
save()
wake()
return {table.concat(lost), opened, closed}
