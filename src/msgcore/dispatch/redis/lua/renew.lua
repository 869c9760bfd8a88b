-- ARGV[2]: leases: id, token. Gives which were lost (a byte each); none while the shard is closed, which knows nothing.

local lost, ids, tokens, position = {}, {}, {}, 1
while position <= #ARGV[2] do
  local id, token
  id, token, position = struct.unpack('<c16d', ARGV[2], position)
  if not state then
    lost[#lost + 1] = '0'
  elseif token_in(call('HGET', P .. 'tokens', id)) == token then
    ids[#ids + 1], tokens[#tokens + 1] = id, token
    lost[#lost + 1] = '0'
  else
    lost[#lost + 1] = '1'
  end
end
lease_all(ids, tokens)
return table.concat(lost)
