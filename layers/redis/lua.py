"""The Lua functions that the scripts of the Redis layers share.

A script is put together from these pieces and a body of its own, since Redis has no libraries that a script could load.
What they know of a shard is the beginning of its keys (``S``), the server's time (``now``, in milliseconds), and the
mailbox stream's length (``MAXLEN``). How a parcel reaches a mailbox is one function, ``post``, of which there is one
version per layer; everything else is the same for all.
"""

from typing import Final

from sealane.layers.redis.leasing_lua import FLOWING, HANDING

__all__ = [
    "BROADCAST_TO_NOBODY",
    "FIRST_WRITE",
    "HELD",
    "LINEAGE",
    "LIVING_BY_LEASE",
    "POST_TO_STREAM",
    "SHARD",
    "SWEEP",
]

#: The keys of a shard begin with the last key that the caller names.
SHARD: Final = """
local S = KEYS[#KEYS]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

#: Where the server's memory is full the first write fails, and with it the script, before it has done anything. For a
#: numbered call the first write is its link's; this one is for a call without a number.
FIRST_WRITE: Final = """
if ARGV[1] == '' then redis.call('INCR', S .. ':n') end
"""

#: post(mailbox, address, payload) returns the entry's number, or nil where the mailbox is not there.
#: Entries are numbered one by one, so that a reader can tell how many it has missed. A number that starts at 1 means
#: that the lease is gone, and with it the mailbox. pcall: keys that others spoilt must not keep a message from all the
#: others; a stream into which somebody put an entry with a later id is made anew.
POST_TO_STREAM: Final = """
local function post(mailbox, address, payload)
  local lease = S .. ':l:' .. mailbox
  local number = redis.pcall('INCR', lease)
  if type(number) ~= 'number' then return nil end
  if number == 1 then
    redis.call('DEL', lease)
    return nil
  end
  local stream = S .. ':m:' .. mailbox
  local id = string.format('%d-%d', number, now)
  local added = redis.pcall('XADD', stream, 'MAXLEN', '~', MAXLEN, id, address, payload)
  if type(added) ~= 'string' then
    redis.call('DEL', stream)
    redis.call('XADD', stream, id, address, payload)
  end
  return number
end
"""

#: living(mailbox) returns whether a mailbox is there.
LIVING_BY_LEASE: Final = """
local function living(mailbox)
  return redis.call('EXISTS', S .. ':l:' .. mailbox) == 1
end
"""

#: broadcast(group, payload) sends to all of a group's mailboxes at once, where a layer can do that.
BROADCAST_TO_NOBODY: Final = """
local function broadcast()
  return 0
end
"""

#: lineage() returns which course of writes the server has taken part in, for ``sealane.layers.redis.lineage``. What the
#: user may not ask for, or the server does not know, is empty.
LINEAGE: Final = """
local function ask(...)
  local reply = redis.pcall(...)
  return type(reply) == 'string' and reply or ''
end

local function lineage()
  local replication = ask('INFO', 'replication')
  return table.concat({
    string.match(replication, 'master_replid:(%x+)') or '',
    string.match(replication, 'master_replid2:(%x+)') or '',
    string.match(ask('INFO', 'server'), 'run_id:(%x+)') or '',
    string.find(S, '{', 1, true) and ask('CLUSTER', 'MYSHARDID') or '',
    string.match(ask('INFO', 'persistence'), 'aof_enabled:(%d)') or '',
  }, ',')
end
"""

#: purge(key) drops what has waited too long at the front of a plain channel, and returns how many.
#: sweep(count) does so for plain channels whose time has come, at most ``count`` of them.
SWEEP: Final = """
local function purge(key)
  local count = 0
  while true do
    local oldest = redis.pcall('ZRANGE', key, 0, 0)
    -- Somebody else has written there.
    if oldest.err then redis.call('DEL', key) end
    oldest = oldest[1]
    if not oldest then return count, nil end
    local sent = tonumber(string.sub(oldest, 17, 29))
    if sent and sent + EXPIRY > now then return count, sent end
    -- Where deliveries were asked for it becomes a dead letter, when somebody asks again.
    if count == 0 and redis.call('EXISTS', S .. ':q:' .. string.sub(key, #S + 4)) == 1 then return 0, nil end
    redis.call('ZREMRANGEBYRANK', key, 0, 0)
    count = count + 1
  end
end

local function sweep(limit)
  local dues = S .. ':e'
  local count = 0
  for _, channel in ipairs(redis.call('ZRANGEBYSCORE', dues, '-inf', now, 'LIMIT', 0, limit)) do
    local dropped, oldest = purge(S .. ':c:' .. channel)
    count = count + dropped
    if oldest then
      redis.call('ZADD', dues, oldest + EXPIRY, channel)
    else
      redis.call('ZREM', dues, channel)
    end
  end
  return count
end
"""

#: put(channel, stamp, payload, capacity, policy, shift) gives a message of a plain channel to somebody who waits for
#: one or owns the channel, or stores it. Without a stamp it is a new one, and lives for so many milliseconds longer
#: than EXPIRY. Without a capacity it is stored in any case.
#: Returns what became of it (GIVEN, STORED, FULL, CLOSED), how many were dropped for it, and how many expired.
HELD: Final = (
    SWEEP
    + HANDING
    + """
local GIVEN, STORED, FULL, CLOSED = 0, 1, 2, 3

put = function(channel, stamp, payload, capacity, policy, shift)
  if string.find(channel, '!', 1, true) and redis.call('EXISTS', S .. ':x:' .. channel) == 1 then
    return CLOSED, 0, 0
  end
  local returns = stamp
  stamp = stamp or string.format('%016d%013d', redis.call('INCR', S .. ':n'), now + (shift or 0))
  local again, held = due(channel, false)
  while again and hand_over(channel, again, held.payload, held) do again, held = due(channel, false) end
  if hand_over(channel, stamp, payload) then return GIVEN, 0, 0 end
  local key = S .. ':c:' .. channel
  local dropped = 0
  local expired = sweep(2)
  local count = redis.pcall('ZCARD', key)
  if type(count) ~= 'number' then
    -- Somebody else has written there.
    redis.call('DEL', key)
    count = 0
  end
  if capacity then
    -- What is leased counts.
    capacity = capacity - redis.call('ZCARD', S .. ':k:' .. channel)
    if count >= capacity then
      expired = expired + purge(key)
      if redis.call('ZCARD', key) >= capacity then
        if policy ~= 'drop_oldest' or not redis.call('ZPOPMIN', key)[1] then return FULL, 1, expired end
        dropped = 1
      end
    end
  end
  redis.call('ZADD', key, 0, stamp .. payload)
  local ends = tonumber(string.sub(stamp, 17)) + EXPIRY
  if returns then ends = math.max(ends, now + EXPIRY) end
  redis.call('ZADD', S .. ':e', 'NX', ends, channel)
  -- Long enough for a sweep to count what expires here; short enough to free it where nobody sweeps any more.
  local life = ends - now + EXPIRY + 60000
  if redis.call('EXISTS', S .. ':q:' .. channel) == 1 then life = math.max(life, KEPT) end
  live(key, life)
  live(S .. ':e', life)
  return STORED, dropped, expired
end
"""
    + FLOWING
)
