-- ARGV[2]: account id. ARGV[3]: '1' to hold it, '0' to let it go on.

if not state then return 0 end
local id, paused = ARGV[2], tonumber(ARGV[3])
call(paused == 1 and 'SADD' or 'SREM', P .. 'paused', id)
if call('HEXISTS', P .. 'a', id) == 1 then
  local a = account_of(id)
  a[PAUSED] = paused
  join_ring(id, a)
  save()
  wake()
end
return 1
