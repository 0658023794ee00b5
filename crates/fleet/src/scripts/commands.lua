-- Calls each command that the other scripts call, on keys that nobody uses: a user who may not use one of them, and a
-- server that takes no writes, say so here. Replies with those that fail, and with what is said. Publishes on the channels
-- that are named. Where there are none, it does on one that nobody listens to, and may be refused that: whoever has
-- subscribed to the others may publish there.
local hash, zset = KEYS[1], KEYS[1] .. ':seen'
local tries = {
  -- A script that has written is not refused more memory: what takes some comes before anything else that writes.
  {'TIME'}, {'TYPE', hash}, {'HSET', hash, 'a', '1', 'b', '1'},
  {'HSETNX', hash, 'c', '1'}, {'HINCRBY', hash, 'c', '1'}, {'HGET', hash, 'a'}, {'HMGET', hash, 'a', 'b'},
  {'HGETALL', hash}, {'HKEYS', hash}, {'HLEN', hash}, {'HEXISTS', hash, 'a'}, {'HSTRLEN', hash, 'a'},
  {'HDEL', hash, 'a'}, {'PEXPIRE', hash, '1000'}, {'PTTL', hash},
  {'ZADD', zset, '1', 'a'}, {'PEXPIRE', zset, '1000'}, {'ZCARD', zset}, {'ZCOUNT', zset, '-inf', '+inf'},
  {'ZSCORE', zset, 'a'}, {'ZRANGE', zset, '0', '-1'}, {'ZRANGEBYSCORE', zset, '-inf', '+inf'},
  {'ZREVRANGE', zset, '0', '-1'}, {'ZREM', zset, 'a'},
}
for _, channel in ipairs(ARGV) do tries[#tries + 1] = {'PUBLISH', channel, 'rehearsal'} end
if #ARGV == 0 then tries[#tries + 1] = {'PUBLISH', hash, ''} end
tries[#tries + 1] = {'DEL', hash, zset}

local reply, failed = {0}, {}
for _, try in ipairs(tries) do
  local result = redis.pcall(unpack(try))
  local said = type(result) == 'table' and result.err
  -- It is another server's turn.
  if said and string.find(said, 'READONLY', 1, true) then return result end
  local name = try[1]
  if said and name == 'PUBLISH' then
    local is_of_channel = string.find(said, 'channel', 1, true) and not string.find(said, ' run th', 1, true)
    if is_of_channel and #ARGV == 0 then said = nil end
    if is_of_channel then name = 'PUBLISH on ' .. try[2] end
  end
  if said and not failed[name] then
    failed[name] = true
    reply[#reply + 1] = name
    reply[#reply + 1] = tostring(said)
  elseif name == 'TIME' and not said then
    reply[1] = result[1] * 1000 + math.floor(result[2] / 1000)
  end
end
return reply
