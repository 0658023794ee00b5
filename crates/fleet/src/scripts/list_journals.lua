-- All journals.
local since = tonumber(redis.call('HGET', key, 'since') or '') or now
local lost, back = redis.call('HGET', key, 'lost'), redis.call('HGET', key, 'back')
local is_told = redis.call('HEXISTS', key, 'whole') == 1
  or (tonumber(lost or '') or 0) <= (tonumber(back or '') or 0)
local is_lost = not is_told and now - since < month
local reply = {now, math.max(now - since, 0), is_lost and 1 or 0}
local found = redis.call('ZRANGE', seen, 0, most - 1, 'WITHSCORES')
for place = 1, #found, 2 do
  local journal = found[place]
  local value = redis.call('HSTRLEN', key, journal) <= 4096 and redis.call('HGET', key, journal) or ''
  reply[#reply + 1] = journal
  reply[#reply + 1] = value
  reply[#reply + 1] = math.max(now - math.floor(tonumber(found[place + 1])), 0)
end
return reply
