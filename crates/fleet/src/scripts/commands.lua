-- Every command of the other scripts, on a key that nobody uses: a user who may not use one of them, and a server that
-- takes no writes, say so here.
local key = KEYS[1]
local now = redis.call('TIME')
if redis.call('TYPE', key).ok == 'zset' then redis.call('DEL', key) end
-- First, because a script that has written is not refused more memory.
redis.call('HSET', key, 'a', 1, 'b', 1)
redis.call('HSETNX', key, 'c', 1)
redis.call('HINCRBY', key, 'c', 1)
redis.call('HGET', key, 'a')
redis.call('HMGET', key, 'a', 'b')
redis.call('HGETALL', key)
redis.call('HKEYS', key)
redis.call('HLEN', key)
redis.call('HEXISTS', key, 'a')
redis.call('HSTRLEN', key, 'a')
redis.call('HDEL', key, 'a')
redis.call('PEXPIRE', key, 1000)
redis.call('PTTL', key)
redis.call('DEL', key)
redis.call('ZADD', key, 1, 'a')
redis.call('ZCARD', key)
redis.call('ZCOUNT', key, 0, 1)
redis.call('ZRANGE', key, 0, 0)
redis.call('ZRANGEBYSCORE', key, 0, 1)
redis.call('ZREVRANGE', key, 0, 0)
redis.call('ZSCORE', key, 'a')
redis.call('ZREM', key, 'a')
redis.call('DEL', key)
redis.call('PUBLISH', key, '')
return now
