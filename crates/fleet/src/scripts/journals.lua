-- The journals of a fleet's instances, in one hash slot:
--   KEYS[1]         a hash: 'epoch'          a random text, for as long as nothing was lost
--                           'since'          when that was made
--                           'lost'           since when there may have been something before that nobody here knows of
--                           'first'          nobody has said what there was before: the earlier epochs that this one is
--                                            known to have all of, each with a space after it, the latest last
--                           'others'         the same of those that somebody was in, and that this one may lack some of
--                           'dropped'        since when there were more than there is room for
--                           'said'           by whom that was settled last, sealed
--                           'version'        grows whenever there is one more, one less, or one begins or ends
--                           any other field  a journal by its keyed name: '1' or '0', whether it may have rows; '1' or
--                                            '0', whether it is signed off; 16 digits, the process that writes it; and
--                                            whose it is and what rows it has, sealed
--   KEYS[1]:seen    a sorted set: when each of them was heard of last
-- They never expire: a journal stays until it is signed off without rows, or somebody takes it off. Instants are
-- milliseconds of this server's clock, which may be set back: one that is ahead of it says nothing.
local key = KEYS[1]
local seen = key .. ':seen'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, name_length, most_epochs = 4096, 32, 16

-- What somebody else left here is nothing.
for name, kind in pairs({[key] = 'hash', [seen] = 'zset'}) do
  local found = redis.call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', name) end
end

local function heard(journal) return tonumber(redis.call('ZSCORE', seen, journal) or '') end

local function is_silent(journal, silence)
  local at = heard(journal)
  return not at or at < now - silence or at > now
end

-- What there was before is another fleet's, or lost.
local function begin(random)
  redis.call('HSET', key, 'epoch', random, 'since', now)
  return random
end

local function has_epoch()
  local epoch = redis.call('HGET', key, 'epoch')
  return epoch and #epoch == 16 and not string.find(epoch, '%X')
end

-- One list of epochs with another one that comes after it, and without one.
local function without(list, gone)
  local left = ''
  for epoch in string.gmatch(list, '%f[%x]%x+ ') do
    if not string.find(gone, epoch, 1, true) then left = left .. epoch end
  end
  return left
end
local function join(list, later) return string.sub(without(list, later) .. later, -17 * most_epochs) end
