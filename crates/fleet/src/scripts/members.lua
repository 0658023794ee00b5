-- The members of a fleet, and their shares of its limits, in one hash slot:
--   KEYS[1]            a hash: 'epoch'         a random text, for as long as nothing was lost
--                              'settled'       from when on parts are granted: until then everybody has what it had
--                              'i' .. member   for each limit that it uses: name, demand and part
--                              's' .. limit    demand and parts of all members, who has waited longest for more, and since when
--   KEYS[1]:alive      a sorted set: who is heard of, and when it was last
--   KEYS[1]:seen       a sorted set: the same, of all that were heard of in 30 days
--   KEYS[1]:instances  a hash: what each of those says of itself, sealed
--   KEYS[1]:decisions  a hash: what operators have frozen and thawed; its 'n' grows with each decision
-- Demands and parts are millionths of a limit; instants are milliseconds of this server's clock.
local key = KEYS[1]
local alive, seen, instances = key .. ':alive', key .. ':seen', key .. ':instances'
local decisions = key .. ':decisions'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What somebody else left here is nothing.
local kinds = {[key] = 'hash', [alive] = 'zset', [seen] = 'zset', [instances] = 'hash'}
for name, kind in pairs(kinds) do
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', name) end
end

-- Demand and parts of all, by limit: read for as many limits at once, and written by store_sums.
local sums = {}
local function load_sums(limits)
  if #limits == 0 then return end
  local names = {}
  for place, limit in ipairs(limits) do names[place] = 's' .. limit end
  local texts = redis.call('HMGET', key, unpack(names))
  for place, limit in ipairs(limits) do
    local demand, parts, first, since = string.match(texts[place] or '', '^(%d+) (%d+) ?(%x*) ?(%d*)$')
    sums[limit] = sums[limit] or {
      demand = tonumber(demand or 0), parts = tonumber(parts or 0),
      first = first ~= '' and first or nil, since = tonumber(since or '') or 0,
    }
  end
end

local function store_sums()
  local kept, gone = {}, {}
  for limit, of in pairs(sums) do
    if of.demand + of.parts > 0 then
      kept[#kept + 1] = 's' .. limit
      local first = of.first and string.format(' %s %d', of.first, of.since) or ''
      kept[#kept + 1] = string.format('%d %d', of.demand, of.parts) .. first
    else
      gone[#gone + 1] = 's' .. limit
    end
  end
  if #kept > 0 then redis.call('HSET', key, unpack(kept)) end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
end

-- A member uses no limit any more.
local function withdraw(member)
  local text = redis.call('HGET', key, 'i' .. member)
  if not text or #text > 131072 then text = '' end
  local limits, row = {}, {}
  -- From the beginning of a word: else a long one that is nothing of ours holds the server for a minute.
  for limit, demand, part in string.gmatch(text, '%f[%w](%w+) (%d+) (%d+)') do
    limits[#limits + 1] = limit
    row[limit] = {demand = tonumber(demand), parts = tonumber(part)}
  end
  load_sums(limits)
  for limit, own in pairs(row) do
    local of = sums[limit]
    of.demand = math.max(of.demand - own.demand, 0)
    of.parts = math.max(of.parts - own.parts, 0)
    if of.first == member then of.first = nil end
  end
  redis.call('HDEL', key, 'i' .. member)
end

-- How long some members may take to come back, because nobody was heard of, or all was lost; 0: all are known.
local function time_to_settle()
  local settled = tonumber(redis.call('HGET', key, 'settled') or 0) or 0
  return math.max(settled - now, 0)
end

local function forget(member)
  withdraw(member)
  redis.call('ZREM', alive, member)
end

-- Those who were not heard of for so long, and those who were heard of by a clock that was that far ahead. A few at a
-- time: the next heartbeat takes the next ones.
local ahead = 10000
local function forget_silent(silence)
  local ranges = {{'-inf', '(' .. now - silence}, {now + ahead, '+inf'}}
  for _, range in ipairs(ranges) do
    local silent = redis.call('ZRANGEBYSCORE', alive, range[1], range[2], 'LIMIT', 0, 32)
    for _, member in ipairs(silent) do forget(member) end
  end
end
