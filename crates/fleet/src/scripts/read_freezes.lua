-- All decisions.
local reply = {now, now, version}
local fields = redis.call('HGETALL', key)
for place = 1, #fields, 2 do
  local field, value = fields[place], fields[place + 1]
  if #value > 8192 then
    redis.call('HDEL', key, field)
  elseif field ~= 'n' then
    reply[#reply + 1] = field
    reply[#reply + 1] = value
  end
end
return reply
