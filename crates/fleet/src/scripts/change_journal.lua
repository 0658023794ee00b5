-- Writes down something else of a journal that is not heard of, or takes it off where there is nothing to write. Its
-- own instance is always heard.
local journal, value, silence = ARGV[1], ARGV[2], tonumber(ARGV[3])
if silence > 0 and not is_silent(journal, silence) then return {now, 'alive'} end
if value == '' then
  if redis.call('HDEL', key, journal) + redis.call('ZREM', seen, journal) == 0 then return {now, 'changed'} end
else
  redis.call('HSET', key, journal, value)
end
redis.call('HINCRBY', key, 'version', 1)
return {now, 'changed'}
