-- All journals.
local since = tonumber(redis.call('HGET', key, 'since') or '') or now
local lost, back = redis.call('HGET', key, 'lost'), redis.call('HGET', key, 'back')
local is_told = redis.call('HEXISTS', key, 'whole') == 1
  or (tonumber(lost or '') or 0) <= (tonumber(back or '') or 0)
local is_lost = not is_told and now - since < month
local reply = {now, math.max(now - since, 0), is_lost and 1 or 0}
local function add(journal, age)
  local value = redis.call('HSTRLEN', key, journal) <= 4096 and redis.call('HGET', key, journal) or ''
  reply[#reply + 1] = journal
  reply[#reply + 1] = value
  reply[#reply + 1] = age
end
local long_ago, is_heard = 86400000, {}
local found = redis.call('ZRANGE', seen, 0, most - 1, 'WITHSCORES')
for place = 1, #found, 2 do
  local age = now - math.floor(tonumber(found[place + 1]))
  is_heard[found[place]] = true
  add(found[place], age < -ahead and long_ago or math.max(age, 0))
end
-- Where the set alone was lost, nobody knows when they were heard of.
for place, field in ipairs(redis.call('HKEYS', key)) do
  if place > 2 * most then break end
  if #field == 32 and not is_heard[field] then add(field, long_ago) end
end
return reply
