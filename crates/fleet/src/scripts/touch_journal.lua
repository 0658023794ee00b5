-- A journal's rows are what its value says. Replies with the journals that there are, where they are others than are
-- known. Those that are known are told where the store has not all of them; 'tell' asks for them, and nothing is changed.
local journal, value, silence, random = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local known, is_whole, telling = ARGV[5], ARGV[6] == '1', ARGV[7]
local version_before, silent_before = tonumber(ARGV[8]), tonumber(ARGV[9])
local own, last, longest_gap, processes = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
local pause, known_first, first_told = tonumber(ARGV[14]), ARGV[15], 16

if not has_epoch() then
  if telling == 'later' then return {now, 'tell'} end
  redis.call('DEL', key, seen)
  begin(random)
  redis.call('HSET', key, 'first', '')
end
local epoch = redis.call('HGET', key, 'epoch')
local at, before = heard(journal), redis.call('HGET', key, journal) or ''
local process = string.sub(before, 3, 18)
-- Earlier versions say nothing of their processes.
if #process < 16 or string.find(process, '%X') then process = '' end
local is_own = process == string.sub(value, 3, 18)

-- Somebody else writes for it who does not come before this process, or may not have ended yet.
if process ~= '' and not string.find(processes, process, 1, true) then return {now, 'by another'} end
if is_own and known == epoch and own > 0 and at and at > own and at <= now then return {now, 'by another'} end
if process ~= '' and not is_own and string.sub(before, 2, 2) == '0' and not is_silent(journal, pause) then
  return {now, 'not yet'}
end

-- An older copy of what this server had knows less than it has told before, or is of an epoch that began before the
-- journal was heard of in another one, by a clock that was not put back since.
local version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local begun = tonumber(redis.call('HGET', key, 'since') or '') or now
local is_older
if known == epoch then
  is_older = version < version_before or (own > 0 and (not at or at < own))
else
  is_older = known ~= '' and begun < last and last <= now
end
if telling == 'later' and (is_older or known ~= epoch) then return {now, 'tell'} end
if is_older then
  epoch = begin(random)
  redis.call('HSET', key, 'version', math.max(version, version_before))
end
-- This server's clock was set back: since when it has what it has is counted anew, so that it does not seem new until the
-- clock is there again.
if (tonumber(redis.call('HGET', key, 'since') or '') or 0) > now then redis.call('HSET', key, 'since', now) end
-- What was lost is said by those who know it. Whoever was there until then, and knows all, knows that this is all of his
-- epoch, and of what that was known to have all of.
if known ~= '' and known ~= epoch then
  local first, others = redis.call('HGET', key, 'first'), redis.call('HGET', key, 'others') or ''
  local is_all = is_whole and last > 0 and now - last <= longest_gap
  if is_all and (known_first == 'said' or not first) then
    redis.call('HDEL', key, 'first', 'others', 'lost')
  elseif is_all then
    first = join(first, join(known_first, known .. ' '))
    redis.call('HSET', key, 'first', first, 'others', without(others, first))
    if without(others, first) == '' then redis.call('HDEL', key, 'others', 'lost') end
  elseif is_older or (first and not string.find(first, known, 1, true)) then
    -- Where they are too many, one that nobody was in stays.
    local other = #others < 17 * most_epochs and known or string.rep('0', 16)
    redis.call('HSET', key, 'others', without(others, other .. ' ') .. other .. ' ')
    redis.call('HSETNX', key, 'lost', now)
  end
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

-- Who may not write this is not heard of either: a script that is refused a command ends there.
redis.call('HSET', key, journal, value)
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
    redis.call('HDEL', key, journal)
    redis.call('HSETNX', key, 'dropped', now)
    return {now, 'full'}
  end
end

if not is_own or string.sub(before, 2, 2) ~= string.sub(value, 2, 2) then redis.call('HINCRBY', key, 'version', 1) end
version = tonumber(redis.call('HGET', key, 'version') or '') or 0
local silent = redis.call('ZCOUNT', seen, '-inf', '(' .. now - silence) + redis.call('ZCOUNT', seen, '(' .. now, '+inf')
local is_lost = redis.call('HEXISTS', key, 'lost') + redis.call('HEXISTS', key, 'dropped') > 0
local first = redis.call('HGET', key, 'first') or 'said'
local reply = {now, 'touched', epoch, version, silent, redis.call('ZCARD', seen), now, is_lost and 1 or 0, first}
if version ~= version_before or silent ~= silent_before or known ~= epoch or telling == 'nothing' then
  local found = redis.call('ZRANGE', seen, 0, 255, 'WITHSCORES')
  for place = 1, #found, 2 do
    local age = now - math.floor(tonumber(found[place + 1]))
    reply[#reply + 1] = found[place]
    reply[#reply + 1] = redis.call('HGET', key, found[place]) or ''
    reply[#reply + 1] = age < 0 and silence + 1 or age
  end
end
return reply
