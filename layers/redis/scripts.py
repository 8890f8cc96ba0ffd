"""The scripts of the Redis layers: each decides one call, at once and for all shards' keys alike.

Every script has one key of the caller: ``{prefix}{tag}``, with which all keys of a shard begin (a numbered script's
link puts the sender's key before it). These are the keys, ``S`` being that beginning:

======================  ==========  =================================================================================
``S:l:<mailbox>``       string      a mailbox's lease: while it is there, the mailbox lives. Its value counts entries
``S:m:<mailbox>``       stream      what was posted to a mailbox; an id is ``<number>-<server's time, ms>``
``S:b:<mailbox>``       set         the groups that a mailbox is in
``S:r``                 sorted set  all mailboxes, by the time when the lease of each ends
``S:g:<group>``         hash        members: ``m<mailbox>``, where another has let it join with the number of the entry
                                    that tells it so; ``c<channel>`` a plain channel of this shard, with its capacity;
                                    ``r<channel>`` one of another shard
``S:j:<channel>``       set         the groups that a plain channel is in
``S:c:<channel>``       sorted set  what waits in a plain channel, all with the score 0: ``<number, 16 digits>
                                    <ms, 13 digits><payload>``. The time is when it was sent, or, in a channel with an
                                    expiry of its own, when it must have been to expire at its time
``S:k:<channel>``       sorted set  the stamps (number and time) of what is leased or to be delivered again, by the time
                                    when it is due
``S:d:<channel>``       hash        by stamp: ``<lease or 0> <deliveries> <first, ms> <terms> <payload>``
``S:q:<channel>``       string      deliveries were asked for: the last terms (see ``leasing_lua``)
``S:f``                 string      a flush is dropping things, and has not told it yet
``S:e``                 sorted set  plain channels in which something waits, by the time to look for what has expired
``S:n``                 string      numbers the messages of plain channels
``S:w:<channel>``       list        who waits for one message of a plain channel, the first come first: a mailbox, or
                                    for a delivery ``<mailbox> <token> <visibility timeout, ms> <terms>``
``S:o:<channel>``       list        mailboxes that own a plain channel, and get its messages in turn
``S:x:<channel>``       string      a plain channel with a ``!`` in its name was closed
``S:s:<sender>``        string      the last numbered call of a sender (see ``sealane.layers.redis.script``)
======================  ==========  =================================================================================

A plain channel is one whose name belongs to no mailbox. The entries of a mailbox have one field, an address, and its
value is the payload; ``sealane.layers.redis.wire`` lists the addresses.
"""

from dataclasses import dataclass, fields
from typing import Final

from sealane.layers.redis import leasing_lua, plain_lua
from sealane.layers.redis.lua import (
    BROADCAST_TO_NOBODY,
    FIRST_WRITE,
    HELD,
    LINEAGE,
    LIVING_BY_LEASE,
    POST_TO_STREAM,
    SHARD,
    SWEEP,
)
from sealane.layers.redis.script import Script

__all__ = ["STREAM_SCRIPTS", "Scripts", "make_scripts"]

_POST: Final = """
return post(ARGV[3], ARGV[4], ARGV[5]) or 0
"""

_SEND: Final = """
local state, dropped, expired = put(ARGV[4], nil, ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8]))
if dropped + expired == 0 and state < FULL then return 0 end
return {state, dropped, expired}
"""

# Most groups have no plain channels: what serves these is defined after that is known, since to define it takes longer
# than to post to a mailbox.
_GROUP_SEND: Final = """
local group, payload, own = ARGV[4], ARGV[5], ARGV[6]
local key = S .. ':g:' .. group
local address = 'g' .. group
local members = redis.pcall('HGETALL', key)
if members.err then
  -- Somebody else has written there. Each mailbox's own list tells who was in the group.
  redis.call('DEL', key)
  for _, mailbox in ipairs(redis.call('ZRANGE', S .. ':r', 0, -1)) do
    if redis.call('SISMEMBER', S .. ':b:' .. mailbox, group) == 1 then redis.call('HSET', key, 'm' .. mailbox, '') end
  end
  members = redis.call('HGETALL', key)
end
local number = broadcast(group, payload)
local here, elsewhere = {}, {}
for index = 1, #members, 2 do
  local member = members[index]
  local kind = string.sub(member, 1, 1)
  local name = string.sub(member, 2)
  if kind == 'm' then
    local posted = post(name, address, payload)
    if not posted then
      redis.call('HDEL', key, member)
    elseif name == own then
      number = posted
    end
  elseif kind == 'c' then
    here[#here + 1] = index
  elseif kind == 'r' then
    elsewhere[#elsewhere + 1] = name
  end
end
if #here + #elsewhere == 0 then return number end
"""
_TO_PLAIN_CHANNELS: Final = """
local addressed, dropped, expired, closed = 0, 0, 0, 0
local full = {}
for _, index in ipairs(here) do
  local name = string.sub(members[index], 2)
  local capacity, shift = string.match(members[index + 1], '^(%d+) ?(%-?%d*)$')
  local state, old, late = put(name, nil, payload, tonumber(capacity), ARGV[7], tonumber(shift))
  addressed, dropped, expired = addressed + 1, dropped + old, expired + late
  if state == CLOSED then closed = closed + 1 end
  if old > 0 then full[#full + 1] = name end
end
return {number, addressed, dropped, expired, closed, full, elsewhere}
"""

_REGISTER: Final = """
local mailbox, ttl, keep, read, position = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local lease, stream = S .. ':l:' .. mailbox, S .. ':m:' .. mailbox
for key, kind in pairs({[lease] = 'string', [stream] = 'stream', [S .. ':r'] = 'zset'}) do
  if redis.call('TYPE', key).ok ~= kind then redis.call('DEL', key) end
end
local number = tonumber(redis.call('GET', lease))
local fresh, behind = 0, 0
if number then
  -- The last entry that was read is never trimmed. Where others come before it, and it is not there, a server took over
  -- that was behind; then what it counts from now on must be new to the mailbox.
  if number < read then
    behind = 1
    redis.call('SET', lease, string.format('%d', read), 'PX', ttl)
  else
    redis.call('PEXPIRE', lease, ttl)
    if read > 1 and #redis.call('XRANGE', stream, position, position) == 0 then
      behind = #redis.call('XRANGE', stream, '-', '(' .. position, 'COUNT', 1)
    end
  end
else
  fresh = 1
  number = math.max(read, 1)
  if redis.call('EXISTS', stream) == 1 then
    local info = redis.call('XINFO', 'STREAM', stream)
    for index = 1, #info, 2 do
      if info[index] == 'last-generated-id' then
        number = math.max(number, tonumber(string.match(info[index + 1], '^%d+')))
      end
    end
  end
  redis.call('SET', lease, string.format('%d', number), 'PX', ttl)
end
if redis.call('EXISTS', stream) == 0 then
  -- An empty stream: it has a time to live from now on, which one that comes with the first entry would not have.
  redis.call('XADD', stream, 'MAXLEN', 0, string.format('%d-0', number), 'f', '')
end
redis.call('PEXPIRE', stream, keep)
redis.call('ZADD', S .. ':r', now + ttl, mailbox)
-- Who does not read on from a position does not ask which server this is.
return {number, fresh, now, behind, position and lineage()}
"""

_REFRESH: Final = """
local mailbox, ttl, keep, read = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local number = redis.pcall('GET', S .. ':l:' .. mailbox)
number = type(number) == 'string' and tonumber(number)
-- Not there, or spoilt by somebody else.
if not number then return {0, now, 0} end
redis.call('PEXPIRE', S .. ':l:' .. mailbox, ttl)
local stream = S .. ':m:' .. mailbox
redis.call('PEXPIRE', stream, keep)
redis.call('XTRIM', stream, 'MINID', read)
redis.call('ZADD', S .. ':r', now + ttl, mailbox)
for index = 6, #ARGV do
  redis.call('PEXPIRE', S .. ':w:' .. ARGV[index], 10 * ttl)
  redis.call('PEXPIRE', S .. ':o:' .. ARGV[index], 10 * ttl)
end
-- A mailbox whose lease has ended: its process died. Little by little, so that no call takes long.
local dead = redis.call('ZRANGEBYSCORE', S .. ':r', '-inf', '(' .. (now - ttl), 'LIMIT', 0, 1)[1]
if dead then
  local left = redis.call('PTTL', S .. ':l:' .. dead)
  if left > 0 then
    redis.call('ZADD', S .. ':r', now + left, dead)
  elseif leave_groups(dead, 200) == 0 then
    redis.call('DEL', S .. ':l:' .. dead, S .. ':m:' .. dead)
    redis.call('ZREM', S .. ':r', dead)
  end
end
return {number, now, sweep(16)}
"""

_LEAVE_GROUPS: Final = """
local function leave_groups(mailbox, limit)
  local groups = S .. ':b:' .. mailbox
  for _, group in ipairs(redis.call('SPOP', groups, limit)) do
    redis.call('HDEL', S .. ':g:' .. group, 'm' .. mailbox)
  end
  return redis.call('EXISTS', groups)
end
"""

_UNREGISTER: Final = """
local mailbox, read = ARGV[4], ARGV[5]
local stream = S .. ':m:' .. mailbox
redis.call('DEL', S .. ':l:' .. mailbox)
local back, closed = 0, 0
local entries = redis.pcall('XRANGE', stream, '(' .. read, '+')
if not entries.err then
  for _, entry in ipairs(entries) do
    local address = entry[2][1]
    if string.sub(address, 1, 1) == 'p' then
      put(string.sub(address, 31), string.sub(address, 2, 30), entry[2][2])
      back = back + 1
    elseif string.sub(address, 1, 1) == 'a' then
      local stamp, lease, channel = string.match(address, '^a%S+ (%d+) (%d+) %d+ %d+ %d+ (%S+)$')
      if stamp and undo(channel, stamp, lease) then
        flow(channel)
        back = back + 1
      end
    elseif string.find(address, '^[cg]') then
      closed = closed + 1
    end
  end
end
redis.call('DEL', stream)
local more = leave_groups(mailbox, 1000)
if more == 0 then redis.call('ZREM', S .. ':r', mailbox) end
return {more, back, closed}
"""

# Of a numbered script the second, of others the first argument: there are as many keys.
_JOIN: Final = """
local mailbox = ARGV[#KEYS]
local added = 0
if redis.call('EXISTS', S .. ':l:' .. mailbox) == 0 then return GONE end
for index = #KEYS + 1, #ARGV do
  local key = S .. ':g:' .. ARGV[index]
  local joined = redis.pcall('HSETNX', key, 'm' .. mailbox, '')
  if type(joined) ~= 'number' then
    -- Such as a full memory: everybody else in the group is to stay there.
    if not string.find(joined.err, 'WRONGTYPE', 1, true) then return joined end
    -- Somebody else has written there.
    redis.call('DEL', key)
    redis.call('HSET', key, 'm' .. mailbox, '')
    joined = 1
  end
  added = added + joined
  redis.call('SADD', S .. ':b:' .. mailbox, ARGV[index])
end
"""
_JOINED: Final = "return 1\n"

# What a flush drops is not brought back before it has told everybody.
_UNLESS_FLUSHED: Final = """
local number = redis.pcall('GET', S .. ':l:' .. ARGV[#KEYS])
number = type(number) == 'string' and tonumber(number) or 0
if redis.call('EXISTS', S .. ':f') == 1 then return {0, number} end
"""
_ADDED: Final = "return {added, number}\n"

_LEAVE: Final = """
local mailbox, read = ARGV[2], tonumber(ARGV[3])
for index = 4, #ARGV do
  local key = S .. ':g:' .. ARGV[index]
  -- Somebody else may have let a channel of it join, of which it has not read yet.
  local adopted = tonumber(redis.call('HGET', key, 'm' .. mailbox))
  if not adopted or adopted <= read then
    redis.call('HDEL', key, 'm' .. mailbox)
    redis.call('SREM', S .. ':b:' .. mailbox, ARGV[index])
  end
end
return 1
"""

_ADOPT: Final = """
local mailbox, ttl, group, channel = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lease, stream = S .. ':l:' .. mailbox, S .. ':m:' .. mailbox
if redis.call('EXISTS', lease) == 0 then
  if ttl == '0' then return 0 end
  redis.call('SET', lease, 1, 'PX', ttl)
  -- Of a lease that has ended: nothing could be posted after what is there. The mailbox finds out that it was lost.
  redis.call('DEL', stream)
  redis.call('XADD', stream, 'MAXLEN', 0, '1-0', 'f', '')
  redis.call('PEXPIRE', stream, ttl)
  redis.call('ZADD', S .. ':r', now + ttl, mailbox)
end
local number = post(mailbox, '+' .. group, channel)
if not number then return 0 end
redis.call('HSET', S .. ':g:' .. group, 'm' .. mailbox, number)
redis.call('SADD', S .. ':b:' .. mailbox, group)
return number
"""

_DROP: Final = """
-- Not worth failing for where the memory is full.
redis.pcall('SET', S .. ':f', 1, 'PX', 10000)
local dropped = 0
for _, key in ipairs(ARGV) do
  if string.find(key, '^:[ck]:', #S + 1) then
    local count = redis.pcall('ZCARD', key)
    if type(count) == 'number' then dropped = dropped + count end
  end
  redis.call('UNLINK', key)
end
return dropped
"""

_MARK_FLUSH: Final = """
redis.call('DEL', S .. ':f')
local marked = 0
for _, mailbox in ipairs(redis.call('ZRANGE', S .. ':r', 0, -1)) do
  local number = post(mailbox, 'f', ARGV[4])
  if mailbox == ARGV[3] then marked = number or 0 end
end
return marked
"""

# The first arguments of numbered scripts: of all, and of those that may store something of a plain channel.
_MAXLEN: Final = "local MAXLEN = ARGV[2]\n"
_EXPIRY: Final = "local EXPIRY = tonumber(ARGV[3])\n"


@dataclass(frozen=True, slots=True)
class Scripts:
    """The scripts of one kind of layer, by what they do: each one's arguments and reply."""

    #: (maxlen, mailbox, address, payload) -> the entry's number, 0 where the mailbox is not there. Numbered.
    post: Script
    #: (maxlen, expiry, channel, payload, capacity, policy, by how many ms it outlives expiry) -> 0, or [state,
    #: dropped_full, dropped_expired]. Numbered.
    send: Script
    #: (maxlen, expiry, group, payload, own mailbox or "", policy) -> number of the entry in the own mailbox or 0; where
    #: the group has plain channels: [that number, addressed, dropped_full, dropped_expired, dropped_closed, full
    #: channels, channels of other shards]. Numbered.
    group_send: Script
    #: (mailbox, lease ms, stream's life ms, last number read, its id) -> [last number posted, 1 where there was
    #: no lease, now, 1 where the server does not know what was read, and with an id the text of a ``Lineage``].
    register: Script
    #: (mailbox, lease ms, stream's life ms, id to keep from, expiry, plain channel...) -> [last number posted, or 0
    #: where the lease is gone, now, dropped_expired].
    refresh: Script
    #: (maxlen, expiry, mailbox, last id read) -> [1 to be called again, given back, dropped_closed]. Numbered.
    unregister: Script
    #: (mailbox, group...) -> 1, or 0 where the lease is gone. Numbered.
    join: Script
    #: (mailbox, group...) -> [in how many of the groups it was not, last number posted]. Nothing is done where the
    #: lease is gone, or during a flush.
    rejoin: Script
    #: The same, numbered: it does not come after a ``leave`` that was called later.
    confirm: Script
    #: (mailbox, last number read, group...) -> 1. Numbered.
    leave: Script
    #: (maxlen, mailbox, lease ms, group, channel) -> as post: another's mailbox joins. With a lease that is not 0 it is
    #: registered here where this shard does not know it yet. Numbered.
    adopt: Script
    #: (group, channel, "c" or "r", capacity, or that and the ms of send) -> 1, or 0 where the channel is closed.
    #: Numbered.
    plain_join: Script
    #: (group, channel) -> 1. Numbered.
    plain_leave: Script
    #: (maxlen, expiry, channel, mailbox, waiters' life ms, most) -> state, [state, dropped_expired] or [state,
    #: dropped_expired, dead_lettered, dropped_full]; 0: so many at most were posted, 1: the mailbox waits for one now,
    #: 2: the channel is closed, 3: the lease is gone. Carried out twice, what comes too much is given back.
    take: Script
    #: (channel, mailbox, count) -> how many times the mailbox waits no longer. Numbered.
    unwait: Script
    #: (maxlen, expiry, channel, mailbox, owners' life ms) -> as take, without 1, and all that waits.
    own: Script
    #: (maxlen, expiry, mailbox or "", then channel, stamp, payload of each) -> [dropped_closed, dropped_expired, number
    #: of the mark in the mailbox or 0]. Numbered. A mailbox that is named gives up the channels; all are one channel.
    give_back: Script
    #: (maxlen, expiry, channel, own mailbox or "", ms to remember or 0) -> [dropped_closed, dropped_expired, number of
    #: the mark in the own mailbox or 0]. Numbered.
    close: Script
    #: (channel, ms to remember or 0) -> 1: a plain channel of another shard leaves the groups of this one. Numbered.
    leave_all: Script
    #: (maxlen, expiry, channel, waiter, waiters' life ms, most) -> [0 or 3 as in take, ms until something is due or -1,
    #: dropped_expired, dead_lettered, dropped_full, how many were posted, where most is above 1: where none was, it
    #: waits for one]. Carried out twice it is as once; what comes too much is released.
    lease: Script
    #: (maxlen, expiry, channel, waiters' life ms, waiter...) -> as lease, but for the last: who waits gets what is due.
    #: Where some who are named, all of one mailbox, do not wait: also the last number posted there, and which they are,
    #: from 0.
    look: Script
    #: (channel, stamp, lease) -> 1, or 0 where the lease was no longer good. Numbered.
    ack: Script
    #: (channel, stamp, lease, ms from now) -> as ack. Numbered.
    extend: Script
    #: (maxlen, expiry, channel, stamp, lease, delay ms) -> as lease, but that the first is as in ack. A delay below 0
    #: releases the message: as if it had not been delivered. Numbered.
    retry: Script
    #: (maxlen, expiry, channel, stamp, lease, reason) -> as retry. Numbered.
    reject: Script
    #: (key...) -> dropped_flushed.
    drop: Script
    #: (maxlen, own mailbox or "", id of the flush) -> number of the mark in the own mailbox or 0. Numbered.
    mark_flush: Script

    def all(self) -> tuple[Script, ...]:
        """Return every one of them."""
        return tuple(getattr(self, field.name) for field in fields(self))


def make_scripts(post: str, living: str, broadcast: str) -> Scripts:
    """Return the scripts of a layer, by the Lua functions in which layers differ.

    post: ``post(mailbox, address, payload)`` returns the number of what it has posted, nil where the mailbox is gone.
    living: ``living(mailbox)`` returns false where a mailbox is gone.
    broadcast: ``broadcast(group, payload)`` is called before a group's members are served one by one; what it returns
        is a number for the own mailbox, where that is not one of them.
    """

    def posting(name: str, *body: str) -> Script:
        return Script(name, "".join((SHARD, FIRST_WRITE, _MAXLEN, post, *body)), numbered=True)

    def storing(name: str, *body: str) -> Script:
        return Script(name, "".join((SHARD, FIRST_WRITE, _MAXLEN, _EXPIRY, post, HELD, *body)), numbered=True)

    def repeatable(name: str, *body: str) -> Script:
        # The same without a number before them.
        return Script(name, "".join((SHARD, "local MAXLEN, EXPIRY = ARGV[1], tonumber(ARGV[2])\n", post, HELD, *body)))

    def plain(name: str, *body: str) -> Script:
        return Script(name, "".join((SHARD, *body)))

    def freeing(name: str, *body: str) -> Script:
        return Script(name, "".join((SHARD, FIRST_WRITE, *body)), numbered=True, freeing=True)

    def counted(name: str, *body: str) -> Script:
        return Script(name, "".join((SHARD, FIRST_WRITE, *body)), numbered=True)

    return Scripts(
        post=posting("post", _POST),
        send=storing("send", _SEND),
        group_send=posting("group_send", broadcast, _GROUP_SEND, _EXPIRY, HELD, _TO_PLAIN_CHANNELS),
        register=plain("register", LINEAGE, _REGISTER),
        refresh=plain("refresh", "local EXPIRY = tonumber(ARGV[5])\n", SWEEP, _LEAVE_GROUPS, _REFRESH),
        unregister=storing("unregister", _LEAVE_GROUPS, _UNREGISTER),
        join=counted("join", "local GONE = 0\n", _JOIN, _JOINED),
        rejoin=plain("rejoin", _UNLESS_FLUSHED, "local GONE = {0, 0}\n", _JOIN, _ADDED),
        confirm=counted("confirm", _UNLESS_FLUSHED, "local GONE = {0, 0}\n", _JOIN, _ADDED),
        leave=counted("leave", _LEAVE),
        adopt=posting("adopt", _ADOPT),
        plain_join=counted("plain_join", plain_lua.JOIN),
        plain_leave=counted("plain_leave", plain_lua.LEAVE),
        take=repeatable("take", living, plain_lua.TAKE),
        unwait=counted("unwait", plain_lua.UNWAIT),
        own=repeatable("own", living, plain_lua.OWN),
        give_back=storing("give_back", plain_lua.GIVE_BACK),
        close=storing("close", plain_lua.LEAVE_GROUPS, plain_lua.CLOSE),
        leave_all=counted("leave_all", plain_lua.LEAVE_GROUPS, plain_lua.LEAVE_ALL),
        lease=repeatable("lease", living, leasing_lua.LEASE),
        look=repeatable("look", leasing_lua.LOOK),
        ack=freeing("ack", leasing_lua.HANDING, leasing_lua.ACK),
        extend=freeing("extend", leasing_lua.HANDING, leasing_lua.EXTEND),
        retry=freeing("retry", _MAXLEN, _EXPIRY, post, HELD, leasing_lua.RETRY),
        reject=freeing("reject", _MAXLEN, _EXPIRY, post, HELD, leasing_lua.REJECT),
        drop=plain("drop", _DROP),
        mark_flush=posting("mark_flush", _MARK_FLUSH),
    )


#: The scripts of RedisChannelLayer.
STREAM_SCRIPTS: Final = make_scripts(POST_TO_STREAM, LIVING_BY_LEASE, BROADCAST_TO_NOBODY)
