-- Who is alive, or was in the last 30 days; those who were heard of last come first.
local of, silence, most = ARGV[1] == 'alive' and alive or seen, tonumber(ARGV[2]), tonumber(ARGV[3])
local reply = {now, redis.call('ZCARD', of)}
local found = redis.call('ZREVRANGE', of, 0, most - 1, 'WITHSCORES')
for place = 1, #found, 2 do
  local member = found[place]
  local heard = tonumber(redis.call('ZSCORE', alive, member) or 0) or 0
  reply[#reply + 1] = member
  reply[#reply + 1] = heard >= now - silence and 1 or 0
  reply[#reply + 1] = now - math.floor(tonumber(found[place + 1]))
  local is_long = redis.call('HSTRLEN', instances, member) > 1024
  reply[#reply + 1] = not is_long and redis.call('HGET', instances, member) or ''
end
return reply
