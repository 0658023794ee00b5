-- All journals, or the one that is named.
local one, unheard = ARGV[1], tonumber(ARGV[2])
local since = tonumber(redis.call('HGET', key, 'since') or '') or now
local lost = tonumber(redis.call('HGET', key, 'lost') or '') or tonumber(redis.call('HGET', key, 'dropped') or '')
local reply = {
  now, math.max(now - since, 0), lost and math.max(now - lost, 0) + 1 or 0, redis.call('HGET', key, 'epoch') or '',
  redis.call('HGET', key, 'said') or '',
}
local function tell(journal)
  local is_short = redis.call('HSTRLEN', key, journal) <= 4096
  local at = heard(journal)
  reply[#reply + 1] = journal
  reply[#reply + 1] = is_short and redis.call('HGET', key, journal) or ''
  reply[#reply + 1] = at or 0
  reply[#reply + 1] = at and at <= now and now - at or unheard
end
if one ~= '' then
  if redis.call('HEXISTS', key, one) == 1 then tell(one) end
  return reply
end
local count = 0
for _, journal in ipairs(redis.call('HKEYS', key)) do
  if #journal == name_length and count < most then
    count = count + 1
    tell(journal)
  end
end
-- One of the two may be lost alone.
for _, journal in ipairs(redis.call('ZRANGE', seen, 0, most - 1)) do
  if redis.call('HEXISTS', key, journal) == 0 then tell(journal) end
end
return reply
