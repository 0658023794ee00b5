-- Writes a decision where nobody has written another one since it was read, and tells everybody. Without a name it only
-- sees to it that the hash is there.
local name, seen, value, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if name == '' then
  if version == 0 then redis.call('HSET', key, 'n', now) end
  return {now, 'written'}
end
local found = redis.call('HGET', key, name) or ''
if found ~= seen then return {now, 'changed'} end
if found == '' and redis.call('HLEN', key) > most_rows then return {now, 'full'} end
redis.call('HSET', key, name, value, 'n', math.max(version + 1, now))
redis.call('PUBLISH', channel, 'changed')
return {now, 'written'}
