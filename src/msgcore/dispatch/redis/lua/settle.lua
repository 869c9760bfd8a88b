-- Ends the loading of ARGV[2], the epoch: what was kept back joins the queues, then the shard is live.
-- Gives 1 when it is, 0 when more must be taken first, and -1 when another epoch began meanwhile.

if not state or epoch ~= ARGV[2] then return -1 end
for _ = 1, 20 do
  local limits = call('LPOP', P .. 'held')
  if not limits then break end
  add_all(limits, call('LPOP', P .. 'held'))
end
save()
wake()
if call('EXISTS', P .. 'held') == 1 then return 0 end
call('HSET', shard, 'state', 'live')
return 1
