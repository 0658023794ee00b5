-- The journals of a fleet's instances, in one hash slot:
--   KEYS[1]         a hash: 'epoch'          a random text, for as long as nothing was lost
--                           'since'          when that was made
--                           'lost'           so many there were before, and whoever says so does not know which
--                           'back'           so many have come back since
--                           'whole'          somebody who was there all the time has told all that there were before
--                           'version'        grows whenever there is one more or one less
--                           any other field  a journal by its keyed name: '1' or '0', whether it has rows, or '2': it
--                                            had some, which were lost, or '3': two instances have it; who has
--                                            written that, 16 digits, 0 for a command; and whose it is, sealed
--   KEYS[1]:seen    a sorted set: when each of them was heard of last
-- They never expire: a journal with rows stays until somebody takes it off. Instants are milliseconds of this server's clock.
local key = KEYS[1]
local seen = key .. ':seen'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, month = 4096, 2592000000
-- Whoever was heard of by a clock that was further ahead is not heard of, until he is again.
local ahead = 1000

-- What somebody else left here is nothing.
for name, kind in pairs({[key] = 'hash', [seen] = 'zset'}) do
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', name) end
end

local function is_silent(journal, silence)
  local heard = tonumber(redis.call('ZSCORE', seen, journal) or 0) or 0
  return heard < now - silence or heard > now + ahead
end
