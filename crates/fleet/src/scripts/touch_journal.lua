-- A journal's rows are as they should be. Replies with the journals that there are, where they are others than are known.
local journal, value, silence, random = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local known, untold, was_there = ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local version_before, silent_before, heard_before = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local epoch = redis.call('HGET', key, 'epoch')
if not epoch or #epoch ~= #random or string.find(epoch, '%X') then
  epoch = random
  redis.call('DEL', key, seen)
  redis.call('HSET', key, 'epoch', epoch, 'since', now)
elseif epoch == known then
  -- An older copy of its data knows less than it has told before.
  local heard = tonumber(redis.call('ZSCORE', seen, journal) or 0) or 0
  if heard < heard_before or version < version_before then
    epoch = random
    redis.call('HDEL', key, 'lost', 'back', 'whole')
    redis.call('HSET', key, 'epoch', epoch, 'since', now, 'version', math.max(version, version_before))
  end
end
-- What was lost is said by those who know it.
if known ~= '' and known ~= epoch then
  local lost = tonumber(redis.call('HGET', key, 'lost') or '') or 0
  if untold > lost then redis.call('HSET', key, 'lost', untold) end
  if untold == 0 and was_there then redis.call('HSET', key, 'whole', '1') end
  if not redis.call('ZSCORE', seen, journal) then redis.call('HINCRBY', key, 'back', 1) end
  for place = 11, #ARGV - 2, 3 do
    local name, told, heard = ARGV[place], ARGV[place + 1], now - tonumber(ARGV[place + 2])
    local there = tonumber(redis.call('ZSCORE', seen, name) or 0) or 0
    local is_older = there + 1000 < heard or there > now + ahead or redis.call('HEXISTS', key, name) == 0
    if name ~= journal and is_older then
      -- Whoever has its rows has them in its journal.
      redis.call('HSET', key, name, (string.gsub(told, '^1', '2')))
      redis.call('ZADD', seen, heard, name)
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
-- Somebody else has touched it since: two instances have one journal.
local before = redis.call('HGET', key, journal) or ''
local by = string.sub(before, 2, 17)
local is_shared = known == epoch and heard_before > 0 and #before > 17 and by ~= string.sub(value, 2, 17)
  and by ~= string.rep('0', 16)
redis.call('HSET', key, journal, is_shared and '3' .. string.sub(value, 2) or value)

version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local silent = redis.call('ZCOUNT', seen, '-inf', '(' .. now - silence)
  + redis.call('ZCOUNT', seen, '(' .. now + ahead, '+inf')
local reply = {now, 'touched', epoch, version, silent, redis.call('ZCARD', seen), now, is_shared and 1 or 0}
if version ~= version_before or silent ~= silent_before or known ~= epoch then
  local found = redis.call('ZRANGE', seen, 0, 255, 'WITHSCORES')
  for place = 1, #found, 2 do
    reply[#reply + 1] = found[place]
    reply[#reply + 1] = redis.call('HGET', key, found[place]) or ''
    reply[#reply + 1] = math.max(now - math.floor(tonumber(found[place + 1])), 0)
  end
end
return reply
