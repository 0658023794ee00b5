-- Takes rows off, all of them or none, and keeps what is said of each.
local before, random = ARGV[1], ARGV[2]
if tag() ~= before then return {now, 'others'} end
for place = 3, #ARGV - 1, 2 do
  if redis.call('HEXISTS', key, ARGV[place]) == 0 then return {now, 'others'} end
end
for place = 3, #ARGV - 1, 2 do
  redis.call('HDEL', key, ARGV[place])
  redis.call('HSET', resolved, ARGV[place], ARGV[place + 1])
end
if #ARGV > 2 then redis.call('PEXPIRE', resolved, month) end
return {now, 'resolved', change_tag(random)}
