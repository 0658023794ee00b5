-- One journal's rows, in one hash slot:
--   KEYS[1]            a hash: a request by its keyed name: what there is to know of it, sealed; and 'tag', a random text
--                      that no other state of the rows has
--   KEYS[1]:resolved   a hash: the same for those that somebody has taken off, with his note, sealed
-- Only the second one expires.
local key = KEYS[1]
local resolved = key .. ':resolved'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, month, name_length = 16384, 2592000000, 32

-- What somebody else left here is nothing.
for _, name in ipairs({key, resolved}) do
  local found = redis.call('TYPE', name).ok
  if found ~= 'hash' and found ~= 'none' then redis.call('DEL', name) end
end

local function tag() return redis.call('HGET', key, 'tag') or '' end

-- Gives the rows their tag; where there are none, they have none. Replies with how many there are, and with that.
local function change_tag(to)
  redis.call('HSET', key, 'tag', to)
  local count = redis.call('HLEN', key) - 1
  if count == 0 then redis.call('DEL', key) end
  return count, tag()
end
