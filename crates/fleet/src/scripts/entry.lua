-- One token key's entry, a hash of short fields:
--   c  the highest number given to a lease        h, l  who holds the lease, and until when
--   n  the number of the published value          f, q  why no token came, sealed; for which proof of the client
--   v  that value, sealed                         a, b  until when nobody asks who waits; who does not wait
--   i, e  when its token was issued, and ends     u     its refresh token is being used, or was
-- Instants are milliseconds of this server's clock.
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What somebody else left here is nothing.
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', key) end
if redis.call('HSTRLEN', key, 'v') > 65536 then redis.call('HDEL', key, 'n', 'v') end
if redis.call('HSTRLEN', key, 'f') > 4096 then redis.call('HDEL', key, 'f', 'a', 'b') end

-- More digits than that Lua does not write down.
local function number(text)
  local value = tonumber(text or '')
  if value and value >= 0 and value < 1e14 then return math.floor(value) end
  return 0
end

local fields = redis.call('HMGET', key, 'c', 'n', 'i', 'e', 'h', 'l', 'a', 'b', 'q')
local given, published = number(fields[1]), number(fields[2])
local issued, ends = number(fields[3]), number(fields[4])
local holder, lease_ends = fields[5], number(fields[6])
local awaited_until, background_until, refused_proof = number(fields[7]), number(fields[8]), fields[9]

-- A number above another one. Its last digits are those of whoever takes it: where this server has lost what it gave
-- somebody else, both count from the same number and get different ones.
local function above(value, digits) return (math.floor(value / 65536) + 1) * 65536 + digits end

-- It lives as long as its value, and long enough for everybody to have seen its number.
local function keep(milliseconds)
  local left = redis.call('PTTL', key)
  local least = math.max(milliseconds, 3600000)
  if left < least then redis.call('PEXPIRE', key, least) end
end
