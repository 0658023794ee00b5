-- A journal's rows are as they should be. Replies with the journals that there are, where they are others than are known.
local journal, value, silence, random = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local known, is_whole = ARGV[5], ARGV[6] == '1'
local version_before, silent_before = tonumber(ARGV[7]), tonumber(ARGV[8])

local epoch = redis.call('HGET', key, 'epoch')
if not epoch or #epoch ~= #random or string.find(epoch, '%X') then
  epoch = random
  redis.call('DEL', key, seen)
  redis.call('HSET', key, 'epoch', epoch, 'since', now)
end
-- What was lost is said by those who know it.
if known ~= '' and known ~= epoch then
  if not is_whole then redis.call('HSET', key, 'lost', '1') end
  for place = 9, #ARGV - 2, 3 do
    if redis.call('HSETNX', key, ARGV[place], ARGV[place + 1]) == 1 then
      redis.call('ZADD', seen, now - tonumber(ARGV[place + 2]), ARGV[place])
      redis.call('HINCRBY', key, 'version', 1)
    end
  end
end

if redis.call('ZADD', seen, now, journal) == 1 then
  local surplus = redis.call('ZCARD', seen) - most
  local old = redis.call('ZRANGEBYSCORE', seen, '-inf', now - month, 'LIMIT', 0, 64)
  if surplus > 0 then old = redis.call('ZRANGE', seen, 0, 255) end
  for _, gone in ipairs(old) do
    if string.sub(redis.call('HGET', key, gone) or '0', 1, 1) == '0' then
      redis.call('ZREM', seen, gone)
      redis.call('HDEL', key, gone)
    end
  end
  if redis.call('ZCARD', seen) > most then
    redis.call('ZREM', seen, journal)
    return {now, 'full'}
  end
  redis.call('HINCRBY', key, 'version', 1)
end
redis.call('HSET', key, journal, value)

local version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local silent = redis.call('ZCOUNT', seen, '-inf', '(' .. now - silence)
local reply = {now, 'touched', epoch, version, silent, redis.call('ZCARD', seen)}
if version ~= version_before or silent ~= silent_before or known ~= epoch then
  local found = redis.call('ZRANGE', seen, 0, 255, 'WITHSCORES')
  for place = 1, #found, 2 do
    reply[#reply + 1] = found[place]
    reply[#reply + 1] = redis.call('HGET', key, found[place]) or ''
    reply[#reply + 1] = math.max(now - math.floor(tonumber(found[place + 1])), 0)
  end
end
return reply
