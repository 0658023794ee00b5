-- Writes rows, and takes others off: first those, each a name and nothing more. Nothing, where the rows have another tag
-- than whoever writes believes.
local before, random, removed = ARGV[1], ARGV[2], tonumber(ARGV[3])
if tag() ~= before then return {now, 'others'} end
if #ARGV == 3 then
  local count = redis.call('HLEN', key)
  return {now, 'written', before == '' and count or count - 1, before}
end
for place = 4, removed + 3 do redis.call('HDEL', key, ARGV[place]) end
for place = removed + 4, #ARGV - 1, 2 do
  if redis.call('HLEN', key) >= most and redis.call('HEXISTS', key, ARGV[place]) == 0 then return {now, 'full'} end
  redis.call('HSET', key, ARGV[place], ARGV[place + 1])
end
return {now, 'written', change_tag(random)}
