-- Takes rows off, all of them or none, and keeps what is said of each.
for place = 1, #ARGV - 1, 2 do
  if redis.call('HEXISTS', key, ARGV[place]) == 0 then return {now, 'absent', 0} end
end
for place = 1, #ARGV - 1, 2 do
  redis.call('HDEL', key, ARGV[place])
  redis.call('HSET', resolved, ARGV[place], ARGV[place + 1])
end
if #ARGV > 0 then redis.call('PEXPIRE', resolved, month) end
return {now, 'resolved', redis.call('HLEN', key)}
