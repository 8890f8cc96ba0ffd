"""The bodies of the scripts about plain channels; what they are called with, ``sealane.layers.redis.scripts`` tells."""

from typing import Final

__all__ = ["CLOSE", "GIVE_BACK", "JOIN", "LEAVE", "LEAVE_ALL", "LEAVE_GROUPS", "OWN", "TAKE", "UNWAIT"]

JOIN: Final = """
local group, channel, kind, capacity = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', S .. ':x:' .. channel) == 1 then return 0 end
local key = S .. ':g:' .. group
redis.call('HDEL', key, (kind == 'c' and 'r' or 'c') .. channel)
redis.call('HSET', key, kind .. channel, capacity)
redis.call('SADD', S .. ':j:' .. channel, group)
return 1
"""

LEAVE: Final = """
local group, channel = ARGV[2], ARGV[3]
redis.call('HDEL', S .. ':g:' .. group, 'c' .. channel, 'r' .. channel)
redis.call('SREM', S .. ':j:' .. channel, group)
return 1
"""

TAKE: Final = """
local channel, mailbox, ttl, most = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if not living(mailbox) then return {3, 0} end
if string.find(channel, '!', 1, true) and redis.call('EXISTS', S .. ':x:' .. channel) == 1 then return {2, 0} end
local key = S .. ':c:' .. channel
local expired = clear(channel)
local function told(state)
  if aside > 0 then return {state, expired, aside, overflowed} end
  if expired == 0 and state < 2 then return state end
  return {state, expired}
end
local again, held = due(channel, true)
if again then
  -- Those who came first get it.
  flow(channel)
  again, held = due(channel, true)
end
local given = 0
while given < most do
  if again then
    if not give(mailbox, channel, again, held.payload, held) then return told(3) end
  else
    local oldest = redis.call('ZPOPMIN', key)[1]
    if not oldest then break end
    if not post(mailbox, 'p' .. string.sub(oldest, 1, 29) .. channel, string.sub(oldest, 30)) then
      redis.call('ZADD', key, 0, oldest)
      return told(3)
    end
  end
  given = given + 1
  again, held = due(channel, true)
end
if given > 0 then return told(0) end
-- A server whose memory is full lets a script go on that has written something which takes none.
redis.call('PEXPIRE', S .. ':w:' .. channel, ttl)
redis.call('RPUSH', S .. ':w:' .. channel, mailbox)
redis.call('PEXPIRE', S .. ':w:' .. channel, ttl)
return told(1)
"""

UNWAIT: Final = """
return redis.call('LREM', S .. ':w:' .. ARGV[2], ARGV[4], ARGV[3])
"""

OWN: Final = """
local channel, mailbox, ttl = ARGV[3], ARGV[4], ARGV[5]
if not living(mailbox) then return {3, 0} end
if string.find(channel, '!', 1, true) and redis.call('EXISTS', S .. ':x:' .. channel) == 1 then return {2, 0} end
local owners, key = S .. ':o:' .. channel, S .. ':c:' .. channel
redis.call('LREM', owners, 0, mailbox)
redis.call('LPUSH', owners, mailbox)
redis.call('PEXPIRE', owners, ttl)
local expired = clear(channel)
local again, held = due(channel, true)
while again do
  if not give(mailbox, channel, again, held.payload, held) then return {3, expired, aside, overflowed} end
  again, held = due(channel, true)
end
local oldest = redis.call('ZPOPMIN', key)[1]
while oldest do
  if not post(mailbox, 'p' .. string.sub(oldest, 1, 29) .. channel, string.sub(oldest, 30)) then
    redis.call('ZADD', key, 0, oldest)
    return {3, expired, aside, overflowed}
  end
  oldest = redis.call('ZPOPMIN', key)[1]
end
if aside > 0 then return {0, expired, aside, overflowed} end
return {0, expired}
"""

GIVE_BACK: Final = """
local mailbox = ARGV[4]
local dropped, expired = 0, 0
-- Whoever gives a message back neither owns its channel nor waits for it now, and is not to get it again.
local marked = 0
for index = 5, #ARGV, 3 do
  redis.call('LREM', S .. ':w:' .. ARGV[index], 0, mailbox)
  redis.call('LREM', S .. ':o:' .. ARGV[index], 0, mailbox)
  if index == 5 and mailbox ~= '' then marked = post(mailbox, 'r' .. ARGV[index], '') or 0 end
end
for index = 5, #ARGV, 3 do
  local state, old, late = put(ARGV[index], ARGV[index + 1], ARGV[index + 2])
  expired = expired + late
  if state == CLOSED then dropped = dropped + 1 end
end
return {dropped, expired, marked}
"""

CLOSE: Final = """
local channel, own, remember = ARGV[4], ARGV[5], tonumber(ARGV[6])
local key, waiters, owners = S .. ':c:' .. channel, S .. ':w:' .. channel, S .. ':o:' .. channel
local expired = purge(key)
local leases = S .. ':k:' .. channel
local dropped = redis.call('ZCARD', key) + redis.call('ZCARD', leases)
local told = {[own] = true}
for _, list in ipairs({waiters, owners}) do
  for _, waiter in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local mailbox = string.match(waiter, '^%S+')
    if not told[mailbox] then
      told[mailbox] = true
      post(mailbox, 'x' .. channel, '')
    end
  end
end
redis.call('DEL', key, waiters, owners, leases, S .. ':d:' .. channel, S .. ':q:' .. channel)
redis.call('ZREM', S .. ':e', channel)
if remember > 0 then redis.call('SET', S .. ':x:' .. channel, '', 'PX', remember) end
leave_all(channel)
local marked = own ~= '' and post(own, 'X' .. channel, '') or 0
return {dropped, expired, marked}
"""

LEAVE_GROUPS: Final = """
local function leave_all(channel)
  local joined = S .. ':j:' .. channel
  for _, group in ipairs(redis.call('SMEMBERS', joined)) do
    redis.call('HDEL', S .. ':g:' .. group, 'c' .. channel, 'r' .. channel)
  end
  redis.call('DEL', joined)
end
"""

LEAVE_ALL: Final = """
leave_all(ARGV[2])
if ARGV[3] ~= '0' then redis.call('SET', S .. ':x:' .. ARGV[2], '', 'PX', ARGV[3]) end
return 1
"""
