-- Token calls of all instances to one provider: a rate limiter (generic cell rate algorithm) that they have in common.
--   KEYS[1]:calls   a hash: for each provider when its next call would be due at an even pace
-- In its own key, because what members have is taken away when all are silent, and calls that were made still count then.
-- Instants are microseconds of this server's clock.
local key = KEYS[1] .. ':calls'
local interval, tolerance, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ahead, unreported = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- What somebody else left here is nothing.
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end

-- A provider has a name under each of the fleet's keys. What this server has forgotten, the instance may know.
local names = {unpack(ARGV, 6)}
local stored, due = redis.call('HMGET', key, unpack(names)), now + ahead
-- Further ahead than this no quota can be: this clock was put back, and what was counted by it before is forgotten.
local believed = now + 120000000
for _, text in ipairs(stored) do
  local known = tonumber(text or '') or 0
  if known > due and known <= believed then due = known end
end
-- Where calls seem to be further ahead than they can be, another instance may make fewer.
due = math.min(due + unreported, now + longest)
local wait = math.max(due - now - tolerance, 0)
if wait == 0 then due = due + interval end
local is_changed = false
for _, text in ipairs(stored) do is_changed = is_changed or tonumber(text or '') ~= due end
if is_changed then
  local row = {}
  for _, name in ipairs(names) do
    row[#row + 1] = name
    row[#row + 1] = string.format('%.0f', due)
  end
  redis.call('HSET', key, unpack(row))
  redis.call('PEXPIRE', key, 3600000)
end
return {math.floor(now / 1000), wait == 0 and 1 or 0, math.ceil(wait), math.ceil(due - now)}
