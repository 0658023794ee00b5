-- What there is for somebody who needs a token, or leave to ask the token endpoint.
local instance, lease, known, floor = ARGV[1], tonumber(ARGV[2]), ARGV[3], number(ARGV[4])
local wants_refresh, is_awaited, proof = ARGV[5] == '1', ARGV[6] == '1', ARGV[7]

-- What this server's clock, or another one before it, has put too far ahead is not believed.
-- Others may take longer leases than whoever asks.
local longest_lease = math.max(2 * lease, 120000)
local longest_refusal = 900000
if issued > now + 1000 then published = 0 end

local is_known = string.find(known, ' ' .. published .. ' ', 1, true) ~= nil
if published > 0 and not is_known and ends > now then
  return {now, 'value', published, now - issued, redis.call('HGET', key, 'v') or ''}
end
local is_held = holder and holder ~= instance and lease_ends > now and lease_ends <= now + longest_lease
if lease == 0 and not is_held then
  return {now, is_known and 'same' or 'absent', published, is_known and redis.call('HGET', key, 'v') or ''}
end
local refused_until = is_awaited and awaited_until or background_until
if lease > 0 and refused_until > now and refused_until <= now + longest_refusal and refused_proof == proof then
  local failure = redis.call('HGET', key, 'f') or ''
  return {now, 'failed', math.max(awaited_until - now, 0), math.max(background_until - now, 0), failure}
end
if is_held then
  return {now, 'held', lease_ends - now}
end
given = above(math.max(given, published, floor), number(ARGV[10]) % 65536)
redis.call('HSET', key, 'c', given, 'h', instance, 'l', now + lease)
keep(lease)
local is_marked = 0
if wants_refresh and published > 0 and redis.call('HSETNX', key, 'u', '1') == 1 then
  is_marked = 1
  -- A store that starts again may have forgotten the mark; whoever heard of it has not.
  redis.call('PUBLISH', ARGV[8], table.concat({'used', ARGV[9], published, instance}, ' '))
end
local value = is_marked == 1 and redis.call('HGET', key, 'v') or ''
return {now, 'won', given, published, now - issued, value}
