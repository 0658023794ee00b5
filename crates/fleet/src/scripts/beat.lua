-- A member is alive, and says what it wants of the limits that it uses; it is told its parts of them.
local member, random, silence, settling, description = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local month, hour, most_seen = 2592000000, 3600000, 4096

local epoch = redis.call('HGET', key, 'epoch')
local is_lost = not epoch or #epoch ~= #random or string.find(epoch, '%X') ~= nil
-- Who was heard of is silent, all of them: they may still use what they had. Where there is nobody, all have left it.
local is_anybody = redis.call('ZCARD', alive) > 0
local function is_heard(within)
  return redis.call('ZCOUNT', alive, now - within, now + ahead) > 0
end
if is_lost or is_anybody and not is_heard(silence) then
  epoch = is_lost and random or epoch
  redis.call('DEL', key)
  redis.call('HSET', key, 'epoch', epoch, 'settled', now + settling)
elseif not is_heard(silence / 2) and redis.call('ZCARD', alive) > 1 then
  -- This server stood still, or its clock was put forward: who seems to be silent may be alive.
  redis.call('HSET', key, 'settled', now + settling)
end
forget_silent(silence)
local settles_in = time_to_settle()
-- Its clock was put back.
if settles_in > settling then
  settles_in = settling
  redis.call('HSET', key, 'settled', now + settling)
end

redis.call('ZADD', alive, now, member)
if redis.call('ZADD', seen, now, member) == 1 then
  local old = redis.call('ZRANGEBYSCORE', seen, '-inf', now - month, 'LIMIT', 0, 32)
  local surplus = redis.call('ZCARD', seen) - most_seen
  if surplus > 0 then old = redis.call('ZRANGE', seen, 0, math.min(surplus, 32) - 1) end
  for _, gone in ipairs(old) do
    redis.call('ZREM', seen, gone)
    redis.call('HDEL', instances, gone)
  end
end
if description ~= '' then redis.call('HSET', instances, member, description) end

-- All parts together are the limit at most. A part counts until its member says that it does not use it any more. Who
-- wants what others have is given it when they do without; one grain is kept for who has waited longest. Until the fleet
-- is settled all keep what they have, which is more than the limit where they were started without this server.
local most_parts = 1000000
withdraw(member)
local limits, row, reply = {}, {}, {}
for place = 6, #ARGV - 5, 6 do limits[#limits + 1] = ARGV[place] end
load_sums(limits)
for place = 6, #ARGV - 5, 6 do
  local limit, demand, held = ARGV[place], tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  local want, grain, waited = tonumber(ARGV[place + 3]), tonumber(ARGV[place + 4]), tonumber(ARGV[place + 5])
  local of, since = sums[limit], now - waited
  local waits_longer = waited >= 0 and since < of.since
  local is_behind = of.first and not waits_longer
  local free = math.max(most_parts - of.parts, 0)
  local part = math.min(want, free)
  if is_behind then part = math.min(part, math.max(held, free - grain)) end
  if settles_in > 0 then part = math.min(want, held) end
  if part < want then
    part = part - part % grain
    if waited >= 0 and not is_behind then of.first, of.since = member, since end
  end
  reply[#reply + 1] = part
  reply[#reply + 1] = of.demand
  reply[#reply + 1] = of.first and of.first ~= member and 1 or 0
  local counted = math.max(part, held)
  of.demand, of.parts = of.demand + demand, of.parts + counted
  if demand + counted > 0 then row[#row + 1] = string.format('%s %d %d', limit, demand, counted) end
end
if #row > 0 then redis.call('HSET', key, 'i' .. member, table.concat(row, ';')) end
store_sums()

redis.call('PEXPIRE', key, hour)
redis.call('PEXPIRE', alive, hour)
redis.call('PEXPIRE', seen, month)
redis.call('PEXPIRE', instances, month)
local members = redis.call('ZCOUNT', alive, now - silence, '+inf')
local has_decisions = redis.call('TYPE', decisions).ok == 'hash'
local freezes = has_decisions and tonumber(redis.call('HGET', decisions, 'n') or 0) or 0
local is_described = redis.call('HEXISTS', instances, member)
return {now, epoch, members, freezes, is_described, settles_in, unpack(reply)}
