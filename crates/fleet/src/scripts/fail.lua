-- Gives the lease back, and says why no token came and for how long nobody need ask.
local instance, awaited, background = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local sealed, proof, unused = ARGV[4], ARGV[5], number(ARGV[6])
local channel, name = ARGV[7], ARGV[8]

if holder ~= instance then return {now, 'lost'} end
redis.call('HDEL', key, 'h', 'l')
-- Its refresh token was certainly not sent.
if unused > 0 and unused == published then redis.call('HDEL', key, 'u') end
if background > 0 then
  redis.call('HSET', key, 'f', sealed, 'q', proof, 'a', now + awaited, 'b', now + background)
  keep(background)
end
redis.call('PUBLISH', channel, table.concat({'free', name}, ' '))
return {now, 'given back'}
