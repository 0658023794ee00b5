-- Writes rows, and takes others off: first those, each a name and nothing more. Replies with how many there are then.
local removed = tonumber(ARGV[1])
for place = 2, removed + 1 do redis.call('HDEL', key, ARGV[place]) end
for place = removed + 2, #ARGV - 1, 2 do
  if redis.call('HLEN', key) >= most and redis.call('HEXISTS', key, ARGV[place]) == 0 then return {now, 'full', most} end
  redis.call('HSET', key, ARGV[place], ARGV[place + 1])
end
return {now, 'written', redis.call('HLEN', key)}
