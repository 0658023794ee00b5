-- What operators have decided on providers, a hash in the hash slot of the members:
--   n                  a number that grows with each decision that is written; there is none where all was lost
--   any other field    a provider by its keyed name: the number of the last decision on it, a space, and it, sealed
-- It never expires. Instants are milliseconds of this server's clock.
local key = KEYS[1] .. ':decisions'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most_rows = 1024

-- What somebody else left here is nothing: instances write again what they know.
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end
if redis.call('HLEN', key) > most_rows + 1 then redis.call('DEL', key) end
local version = tonumber(redis.call('HGET', key, 'n') or '')
if not version or version < 0 or version >= 1e14 then version = 0 end
