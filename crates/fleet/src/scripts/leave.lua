-- A member ends: what it used of the limits is free for others at once.
forget(ARGV[1])
store_sums()
redis.call('ZADD', seen, now, ARGV[1])
return {now, 'left'}
