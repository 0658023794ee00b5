-- Gives the lease back, and says why no token came and for how long nobody need ask.
local instance, awaited, background = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local sealed, proof = ARGV[4], ARGV[5]
local channel, name = ARGV[6], ARGV[7]

if holder ~= instance then return {now, 'lost'} end
redis.call('HDEL', key, 'h', 'l')
if background > 0 then
  redis.call('HSET', key, 'f', sealed, 'q', proof, 'a', now + awaited, 'b', now + background)
  keep(background)
end
redis.call('PUBLISH', channel, table.concat({'free', name}, ' '))
return {now, 'given back'}
