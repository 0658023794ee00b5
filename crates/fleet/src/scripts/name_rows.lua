-- The names of all rows, or of those that were taken off.
local reply = {now}
for place, name in ipairs(redis.call('HKEYS', ARGV[1] == 'resolved' and resolved or key)) do
  if place > most then break end
  reply[#reply + 1] = name
end
return reply
