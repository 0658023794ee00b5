-- The names of all rows and their tag, or of those that were taken off.
local is_resolved = ARGV[1] == 'resolved'
local reply = {now, is_resolved and '' or tag()}
for _, name in ipairs(redis.call('HKEYS', is_resolved and resolved or key)) do
  if #reply > most + 1 then break end
  if #name == name_length then reply[#reply + 1] = name end
end
return reply
