-- Writes a value where there is none under its number or a higher one, gives the lease back, and tells everybody.
local instance, value_number, sealed = ARGV[1], number(ARGV[2]), ARGV[3]
local age, lifetime, kept_for = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local channel, name = ARGV[7], ARGV[8]

local was_held = holder == instance
if was_held then redis.call('HDEL', key, 'h', 'l') end
if published >= value_number then
  return {now, 'older', published, now - issued, redis.call('HGET', key, 'v') or ''}
end
redis.call('HDEL', key, 'f', 'q', 'a', 'b', 'u')
redis.call('HSET', key, 'c', math.max(given, value_number), 'n', value_number, 'v', sealed,
  'i', now - age, 'e', now - age + lifetime)
keep(kept_for)
redis.call('PUBLISH', channel, table.concat({'value', name, value_number, age, now, ''}, ' ') .. sealed)
return {now, was_held and 'published' or 'lost'}
