-- Calls each command that the other scripts call, on keys that nobody uses: a user who may not use one of them, and a
-- server that takes no writes, say so here. Ends at the first that fails; where a channel is named, tries all of them,
-- publishes there, and replies with those that fail and with what is said.
local hash, zset, channel = KEYS[1], KEYS[1] .. ':seen', ARGV[1]
local tries = {
  -- A script that has written is not refused more memory: what takes some comes before anything else that writes.
  {'TIME'}, {'TYPE', hash}, {'HSET', hash, 'a', '1', 'b', '1'},
  {'HSETNX', hash, 'c', '1'}, {'HINCRBY', hash, 'c', '1'}, {'HGET', hash, 'a'}, {'HMGET', hash, 'a', 'b'},
  {'HGETALL', hash}, {'HKEYS', hash}, {'HLEN', hash}, {'HEXISTS', hash, 'a'}, {'HSTRLEN', hash, 'a'},
  {'HDEL', hash, 'a'}, {'PEXPIRE', hash, '1000'}, {'PTTL', hash},
  {'ZADD', zset, '1', 'a'}, {'ZCARD', zset}, {'ZCOUNT', zset, '-inf', '+inf'}, {'ZSCORE', zset, 'a'},
  {'ZRANGE', zset, '0', '-1'}, {'ZRANGEBYSCORE', zset, '-inf', '+inf'}, {'ZREVRANGE', zset, '0', '-1'},
  {'ZREM', zset, 'a'}, {'PEXPIRE', zset, '1000'},
  {'PUBLISH', channel or hash, channel and 'rehearsal' or ''}, {'DEL', hash, zset},
}
local call = channel and redis.pcall or redis.call
local reply, failed = {0}, {}
for _, try in ipairs(tries) do
  local result = call(unpack(try))
  local said = type(result) == 'table' and result.err
  if said and not failed[try[1]] then
    failed[try[1]] = true
    reply[#reply + 1] = try[1]
    reply[#reply + 1] = tostring(said)
  elseif try[1] == 'TIME' and not said then
    reply[1] = result[1] * 1000 + math.floor(result[2] / 1000)
  end
end
return reply
