-- A journal's rows are what its value says. Replies with the journals that there are, where they are others than are
-- known.
local journal, value, silence, random = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local known, is_whole, wants_all = ARGV[5], ARGV[6] == '1', ARGV[7] == '1'
local version_before, silent_before = tonumber(ARGV[8]), tonumber(ARGV[9])
local own, last, longest_gap, processes = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
local pause, first_told = tonumber(ARGV[14]), 15

if not has_epoch() then
  redis.call('DEL', key, seen)
  begin(random)
  -- For a journal that was in no fleet before, this may well be the first start of all.
  redis.call('HSET', key, known == '' and 'first' or 'lost', now)
end
local epoch = redis.call('HGET', key, 'epoch')
local at, before = heard(journal), redis.call('HGET', key, journal) or ''
local process = string.sub(before, 3, 18)
local is_own = process == string.sub(value, 3, 18)

-- Somebody else writes for it who does not come before this process, or may not have ended yet.
if #process == 16 and not string.find(processes, process, 1, true) then return {now, 'by another'} end
if is_own and known == epoch and own > 0 and at and at > own and at <= now then return {now, 'by another'} end
if #process == 16 and not is_own and string.sub(before, 2, 2) == '0' and not is_silent(journal, pause) then
  return {now, 'not yet'}
end

-- An older copy of what this server had knows less than it has told before.
local version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local is_older = version < version_before or (own > 0 and (not at or at < own))
if known == epoch and is_older then
  epoch = begin(random)
  redis.call('HSETNX', key, 'lost', now)
  redis.call('HDEL', key, 'first')
  redis.call('HSET', key, 'version', math.max(version, version_before))
end
-- What was lost is said by those who know it. Whoever was there until then, and knows all, knows that this is all.
if known ~= '' and known ~= epoch then
  if is_whole and last > 0 and now - last <= longest_gap then
    redis.call('HDEL', key, 'lost')
  elseif redis.call('HEXISTS', key, 'first') == 1 then
    redis.call('HSETNX', key, 'lost', now)
  end
  redis.call('HDEL', key, 'first')
  local since = tonumber(redis.call('HGET', key, 'since') or '') or now
  for place = first_told, #ARGV - 2, 3 do
    local name, told, told_at = ARGV[place], ARGV[place + 1], now - tonumber(ARGV[place + 2])
    local there = heard(name)
    local is_worse = not there or there > now or (there < since and there < told_at)
    if name ~= journal and (is_worse or redis.call('HEXISTS', key, name) == 0) then
      redis.call('HSET', key, name, told)
      redis.call('ZADD', seen, told_at, name)
      redis.call('HINCRBY', key, 'version', 1)
    end
  end
end

if redis.call('ZADD', seen, now, journal) == 1 then
  local surplus = redis.call('ZCARD', seen) - most
  if surplus > 0 then
    for _, gone in ipairs(redis.call('ZRANGE', seen, 0, 255)) do
      local flags = string.sub(redis.call('HGET', key, gone) or '00', 1, 2)
      if string.sub(flags, 1, 1) == '0' and gone ~= journal then
        redis.call('ZREM', seen, gone)
        redis.call('HDEL', key, gone)
        -- Its journal may have what was too young to be written here.
        if flags ~= '01' then redis.call('HSETNX', key, 'dropped', now) end
      end
    end
  end
  if redis.call('ZCARD', seen) > most then
    redis.call('ZREM', seen, journal)
    redis.call('HSETNX', key, 'dropped', now)
    return {now, 'full'}
  end
end
if not is_own or string.sub(before, 2, 2) ~= string.sub(value, 2, 2) then redis.call('HINCRBY', key, 'version', 1) end
redis.call('HSET', key, journal, value)

version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local silent = redis.call('ZCOUNT', seen, '-inf', '(' .. now - silence) + redis.call('ZCOUNT', seen, '(' .. now, '+inf')
local is_lost = redis.call('HEXISTS', key, 'lost') + redis.call('HEXISTS', key, 'dropped') > 0
local reply = {now, 'touched', epoch, version, silent, redis.call('ZCARD', seen), now, is_lost and 1 or 0}
if version ~= version_before or silent ~= silent_before or known ~= epoch or wants_all then
  local found = redis.call('ZRANGE', seen, 0, 255, 'WITHSCORES')
  for place = 1, #found, 2 do
    local age = now - math.floor(tonumber(found[place + 1]))
    reply[#reply + 1] = found[place]
    reply[#reply + 1] = redis.call('HGET', key, found[place]) or ''
    reply[#reply + 1] = age < 0 and silence + 1 or age
  end
end
return reply
