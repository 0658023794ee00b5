-- Some rows; those that are not there, or too long to be any, are empty.
local from = ARGV[1] == 'resolved' and resolved or key
local reply = {now}
for place = 2, #ARGV do
  local is_long = redis.call('HSTRLEN', from, ARGV[place]) > 16384
  reply[#reply + 1] = not is_long and redis.call('HGET', from, ARGV[place]) or ''
end
return reply
