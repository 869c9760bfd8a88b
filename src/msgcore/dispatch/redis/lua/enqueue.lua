-- ARGV[2]: the epoch that a loader fills, or ''. ARGV[3]: limits. ARGV[4]: tickets.
-- Gives how many were not known; none while the shard is closed, as whoever loads it meets them in the ledger.

if not state then return 0 end
if ARGV[2] ~= '' and ARGV[2] ~= epoch then return 0 end
if ARGV[2] == '' and state == 'loading' then
  call('RPUSH', P .. 'held', ARGV[3], ARGV[4])
  return 0
end
local added = add_all(ARGV[3], ARGV[4])
save()
wake()
return added
