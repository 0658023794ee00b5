-- Somebody knows what there was before, or that there was nothing.
local epoch, said, random = ARGV[1], ARGV[2], ARGV[3]
if (redis.call('HGET', key, 'epoch') or '') ~= epoch then return {now, 'changed'} end
if not has_epoch() then
  redis.call('DEL', key, seen)
  begin(random)
end
redis.call('HDEL', key, 'first', 'others', 'lost', 'dropped')
redis.call('HSET', key, 'said', said)
return {now, 'settled'}
