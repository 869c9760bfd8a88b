-- Gives the state ('' while the shard is closed), the epoch, the paused accounts, and for each account
-- its id, deliveries, leases, delayed ones, whether it is paused, and 0, 1 or 2 for a breaker that is
-- closed, open or half-open.

if not state then return {'', epoch, {}, {}} end
local reply = {}
local all = call('HGETALL', P .. 'a')
for i = 1, #all, 2 do
  local a = cmsgpack.unpack(all[i + 1])
  local breaker = a[PROBING] == 0 and 0 or now < a[UNTIL] and 1 or 2
  reply[#reply + 1] = {all[i], a[SIZE], a[LEASED], a[DELAYED], a[PAUSED], breaker}
end
return {state, epoch, call('SMEMBERS', P .. 'paused'), reply}
