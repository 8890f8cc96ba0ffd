"""The Lua functions and the scripts about messages under a lease.

A message that is leased, or is to be delivered again, is in no channel: ``S:d:<channel>`` has its record by its stamp,
and ``S:k:<channel>`` says when it is due. Whoever is to get it takes it from there, before all that waits.
"""

from typing import Final

__all__ = ["ACK", "EXTEND", "FLOWING", "HANDING", "LEASE", "LOOK", "REJECT", "RETRY"]

#: give(waiter, channel, stamp, payload, held) posts a message to somebody who waits for it, under a lease where that
#: was asked for: then ``waiter`` is ``<mailbox> <token> <visibility, ms> <terms>``, otherwise a mailbox. ``held`` is
#: the record of what was leased before. The terms are ``<deliveries or 0> <dead-letter channel> <its capacity> <how
#: much longer than EXPIRY a dead letter is kept, ms>``.
#: hand_over() does so with whoever waits, or owns the channel; it returns whether there is such.
#: due(channel, may_put_aside) returns stamp and record of what is to be delivered again now. What was delivered too
#: often is put aside before that, where that may be; otherwise nothing is returned for it.
HANDING: Final = """
-- Two weeks.
local KEPT = 1209600000
local aside, overflowed, gone = 0, 0, {}
local put

-- What others need for longer keeps its time.
local function live(key, life)
  if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
end

local function record(channel, stamp)
  local text = redis.pcall('HGET', S .. ':d:' .. channel, stamp)
  if type(text) ~= 'string' then return nil end
  local lease, attempts, first, terms, start = string.match(text, '^(%d+) (%d+) (%d+) (%d+ %S+ %d+ %-?%d+) ()')
  if not lease then return nil end
  return {
    lease = lease, attempts = tonumber(attempts), first = tonumber(first), terms = terms,
    payload = string.sub(text, start)
  }
end

local function leased(channel, stamp, lease)
  local held = record(channel, stamp)
  return held and held.lease == lease and held or nil
end

local function forget(channel, stamp)
  redis.pcall('HDEL', S .. ':d:' .. channel, stamp)
  redis.pcall('ZREM', S .. ':k:' .. channel, stamp)
end

local function keep(channel, stamp, held, due)
  local text = string.format('%s %d %d %s ', held.lease, held.attempts, held.first, held.terms) .. held.payload
  for key, write in pairs({[':d:'] = {'HSET', stamp, text}, [':k:'] = {'ZADD', due, stamp}}) do
    key = S .. key .. channel
    local written = redis.pcall(write[1], key, write[2], write[3])
    if type(written) ~= 'number' then
      -- Somebody else has written there.
      redis.call('DEL', key)
      redis.call(write[1], key, write[2], write[3])
    end
    live(key, math.max(due - now, 0) + KEPT)
  end
end

local function give(waiter, channel, stamp, payload, held)
  local mailbox, token, visibility, terms = string.match(waiter, '^(%S+) (%S+) (%d+) (.+)$')
  if not mailbox then
    -- It keeps its place. Its time begins anew: what was leased does not expire.
    local place = held and string.sub(stamp, 1, 16) .. string.format('%013d', now) or stamp
    if not post(waiter, 'p' .. place .. channel, payload) then return false end
    if held then forget(channel, stamp) end
    return true
  end
  local lease = string.format('%d', redis.call('INCR', S .. ':n'))
  local again = held and held.attempts > 0
  local attempts, first = again and held.attempts + 1 or 1, again and held.first or now
  local due = now + visibility
  local address = string.format('a%s %s %s %d %d %d %s', token, stamp, lease, attempts, first, due, channel)
  if not post(mailbox, address, payload) then
    gone[waiter] = true
    return false
  end
  keep(channel, stamp, {lease = lease, attempts = attempts, first = first, terms = terms, payload = payload}, due)
  return true
end

local function hand_over(channel, stamp, payload, held)
  local waiters = S .. ':w:' .. channel
  local waiter = redis.call('LPOP', waiters)
  while waiter do
    if give(waiter, channel, stamp, payload, held) then return true end
    waiter = redis.call('LPOP', waiters)
  end
  local owners = S .. ':o:' .. channel
  local mailbox = redis.call('RPOPLPUSH', owners, owners)
  while mailbox do
    if give(mailbox, channel, stamp, payload, held) then return true end
    redis.call('LREM', owners, 0, mailbox)
    mailbox = redis.call('RPOPLPUSH', owners, owners)
  end
  return false
end

local function put_aside(channel, stamp, held, reason)
  forget(channel, stamp)
  local about = string.format('%d %d %s %s %d ', held.attempts, held.first, stamp, channel, #reason)
  local letter = '\\193sealane.dead\\193' .. about .. reason .. held.payload
  local dead, capacity, shift = string.match(held.terms, ' (%S+) (%d+) (%-?%d+)$')
  local _, dropped = put(dead, nil, letter, tonumber(capacity), 'drop_oldest', tonumber(shift))
  aside, overflowed = aside + 1, overflowed + dropped
end

local function exhausted(held)
  local most = tonumber(string.match(held.terms, '^%d+'))
  return most > 0 and held.attempts >= most
end

local function due(channel, may_put_aside)
  local key = S .. ':k:' .. channel
  while true do
    local found = redis.pcall('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 1)
    -- Somebody else has written there.
    if found.err then redis.call('DEL', key) end
    local stamp = found[1]
    if not stamp then return nil end
    local held = record(channel, stamp)
    if not held then
      forget(channel, stamp)
    elseif not exhausted(held) then
      return stamp, held
    elseif may_put_aside then
      put_aside(channel, stamp, held, 'max_deliveries')
    else
      return nil
    end
  end
end
"""

#: clear(channel) makes dead letters of what has waited too long, where deliveries were asked for, and drops it
#: elsewhere; it returns how many were dropped. flow(channel) gives what is due, and what waits, to those who wait.
#: next_due(channel) returns in how many milliseconds something is due, -1 where nothing is.
#: undo(channel, stamp, lease) ends a lease as if there had been no delivery.
FLOWING: Final = """
local function clear(channel)
  local key = S .. ':c:' .. channel
  local dropped, oldest = purge(key)
  if oldest then return dropped end
  local terms = redis.call('GET', S .. ':q:' .. channel)
  while terms do
    local member = redis.call('ZRANGE', key, 0, 0)[1]
    local sent = member and tonumber(string.sub(member, 17, 29))
    if not member or sent and sent + EXPIRY > now then break end
    redis.call('ZREMRANGEBYRANK', key, 0, 0)
    local held = {attempts = 0, first = 0, terms = terms, payload = string.sub(member, 30)}
    put_aside(channel, string.sub(member, 1, 29), held, 'expired')
  end
  return dropped
end

local function flow(channel)
  local key = S .. ':c:' .. channel
  while true do
    local stamp, held = due(channel, true)
    if stamp then
      if not hand_over(channel, stamp, held.payload, held) then return end
    else
      local member = redis.call('ZRANGE', key, 0, 0)[1]
      if not member or not hand_over(channel, string.sub(member, 1, 29), string.sub(member, 30)) then return end
      redis.call('ZREM', key, member)
    end
  end
end

local function next_due(channel)
  local first = redis.call('ZRANGE', S .. ':k:' .. channel, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, tonumber(first[2]) - now) or -1
end

local function undo(channel, stamp, lease)
  local held = leased(channel, stamp, lease)
  if not held then return false end
  held.lease, held.attempts = '0', held.attempts - 1
  keep(channel, stamp, held, 0)
  return true
end
"""

LEASE: Final = """
local channel, waiter, ttl, most = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local mailbox, terms = string.match(waiter, '^(%S+) %S+ %d+ (.+)$')
if not living(mailbox) then return {3, -1, 0, 0, 0, 0} end
local waiters = S .. ':w:' .. channel
-- It may have been asked before. And a server whose memory is full lets a script go on that has written something which
-- takes none.
redis.call('LREM', waiters, 0, waiter)
redis.call('SET', S .. ':q:' .. channel, terms, 'PX', KEPT)
live(S .. ':c:' .. channel, KEPT)
local expired = clear(channel)
for _ = 1, most do redis.call('RPUSH', waiters, waiter) end
redis.call('PEXPIRE', waiters, ttl)
flow(channel)
local given = 0
if most > 1 then
  given = most - redis.call('LREM', waiters, 0, waiter)
  -- Where nothing is there it waits for one.
  if given == 0 then
    redis.call('RPUSH', waiters, waiter)
    redis.call('PEXPIRE', waiters, ttl)
  end
end
return {gone[waiter] and 3 or 0, next_due(channel), expired, aside, overflowed, given}
"""

LOOK: Final = """
local channel, ttl = ARGV[3], ARGV[4]
local waiters = S .. ':w:' .. channel
local expired = clear(channel)
local there, absent = {}, {}
for _, waiter in ipairs(#ARGV > 4 and redis.call('LRANGE', waiters, 0, -1) or {}) do there[waiter] = true end
for index = 5, #ARGV do
  -- It was given something, or the server has forgotten it.
  if not there[ARGV[index]] then absent[#absent + 1] = index - 5 end
end
redis.call('PEXPIRE', waiters, ttl)
if #ARGV > 4 then redis.call('PEXPIRE', S .. ':q:' .. channel, KEPT) end
flow(channel)
local state = 0
for index = 5, #ARGV do
  if gone[ARGV[index]] then state = 3 end
end
if #absent == 0 then return {state, next_due(channel), expired, aside, overflowed} end
local number = redis.pcall('GET', S .. ':l:' .. string.match(ARGV[5], '^%S+'))
return {
  state, next_due(channel), expired, aside, overflowed, type(number) == 'string' and tonumber(number) or 0, absent
}
"""

ACK: Final = """
local channel, stamp = ARGV[2], ARGV[3]
if not leased(channel, stamp, ARGV[4]) then return 0 end
forget(channel, stamp)
return 1
"""

EXTEND: Final = """
local channel, stamp = ARGV[2], ARGV[3]
local held = leased(channel, stamp, ARGV[4])
if not held then return 0 end
keep(channel, stamp, held, now + ARGV[5])
return 1
"""

RETRY: Final = """
local channel, stamp, lease, delay = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
if delay < 0 then
  if not undo(channel, stamp, lease) then return {0, -1, 0, 0, 0} end
else
  local held = leased(channel, stamp, lease)
  if not held then return {0, -1, 0, 0, 0} end
  if exhausted(held) then
    put_aside(channel, stamp, held, 'max_deliveries')
  else
    held.lease = '0'
    keep(channel, stamp, held, now + delay)
  end
end
flow(channel)
return {1, next_due(channel), 0, aside, overflowed}
"""

REJECT: Final = """
local channel, stamp = ARGV[4], ARGV[5]
local held = leased(channel, stamp, ARGV[6])
if not held then return {0, -1, 0, 0, 0} end
put_aside(channel, stamp, held, ARGV[7])
return {1, next_due(channel), 0, aside, overflowed}
"""
