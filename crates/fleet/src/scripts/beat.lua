-- A member is alive, and says what it wants of the limits that it uses; it is told its parts of them.
local member, random, silence, description = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local month, hour, most_seen = 2592000000, 3600000, 4096

local epoch = redis.call('HGET', key, 'epoch')
local is_lost = not epoch or #epoch ~= #random or string.find(epoch, '%X') ~= nil
-- Nobody was heard of: what they use is not known, and they may still use it.
if is_lost or redis.call('ZCOUNT', alive, now - silence, now + ahead) == 0 then
  epoch = is_lost and random or epoch
  redis.call('DEL', key)
  redis.call('HSET', key, 'epoch', epoch, 'fresh', now + silence)
end
forget_silent(silence)
local is_back = is_fresh(silence)

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

-- All parts together are a quarter above the limit at most, while they move from one to the other; another quarter are
-- the reserves of those who use nothing. A part counts until its member says that it does not use it any more.
local most_parts = 1250000
withdraw(member)
local limits, row, reply = {}, {}, {}
for place = 5, #ARGV - 2, 3 do limits[#limits + 1] = ARGV[place] end
load_sums(limits)
for place = 5, #ARGV - 2, 3 do
  local limit, demand, held = ARGV[place], tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  local of = sums[limit]
  of.demand = of.demand + demand
  local part = 0
  if of.demand > 0 then
    part = math.min(math.floor(demand * 1000000 / of.demand), math.max(most_parts - of.parts, 0))
  end
  if is_back then part = math.min(part, held) end
  local counted = math.max(part, held)
  of.parts = of.parts + counted
  if demand + counted > 0 then row[#row + 1] = string.format('%s %d %d', limit, demand, counted) end
  reply[#reply + 1] = part
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
return {now, epoch, members, freezes, is_described, is_back and 1 or 0, unpack(reply)}
