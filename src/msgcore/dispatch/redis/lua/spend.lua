-- What processes spent of budgets that they share.
-- ARGV: name of a budget and microseconds of it that were spent, and so on. Gives for each in how many microseconds it
-- is whole again, which is also how long its key lives.

local call = redis.call
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local answer = {}
for i = 1, #ARGV, 2 do
  local key = KEYS[1] .. ':' .. ARGV[i]
  local whole = math.max(now, tonumber(call('GET', key)) or 0) + tonumber(ARGV[i + 1])
  answer[#answer + 1] = whole - now
  call('SET', key, string.format('%.0f', whole), 'PX', math.max(1, math.ceil((whole - now) / 1000)))
end
return answer
