-- Whether all other members have been heard of in that time, and there are some: then they have written again what this
-- server had lost, if it had lost anything.
local own, silence, elapsed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local function count(from, to)
  local heard = tonumber(redis.call('ZSCORE', alive, own) or '') or 0
  local is_counted = heard >= from and heard < to
  return redis.call('ZCOUNT', alive, from, '(' .. to) - (is_counted and 1 or 0)
end
local began = now - elapsed
local are_all = count(now - silence, began) == 0 and count(began, now + ahead) > 0
return {now, are_all and time_to_settle() == 0 and 1 or 0}
