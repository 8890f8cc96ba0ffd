"""The scripts of the pub/sub layer: those of the streams layer, but that a mailbox is a topic and not a stream.

Of the keys that ``sealane.layers.redis.scripts`` lists, only those of plain channels exist here. The topics of a shard,
``S`` being the beginning of its keys:

===================  ==================================================================================
``S:m:<mailbox>``    what is posted to a mailbox: the address's length in one byte, the address, the payload
``S:g:<group>``      what is sent to a group: the payload
``S:f``              the mark of a flush, as if posted to every mailbox
===================  ==================================================================================

A group's members are whoever listens to its topic, and the plain channels that its key lists. A thread that waits for
a message does not listen: its mailbox is a stream all the same, with a lease. One that waits for an answer gets it in
a list, ``S:a:<token>``.
"""

from dataclasses import dataclass, fields
from typing import Final

from sealane.layers.redis.lua import POST_TO_STREAM, SHARD, SWEEP
from sealane.layers.redis.script import Script
from sealane.layers.redis.scripts import Scripts, make_scripts

__all__ = ["TOPIC_SCRIPTS", "TopicScripts", "frame"]


def frame(address: bytes, payload: bytes) -> bytes:
    """Return what is published for something that is posted to a mailbox. An address has at most 255 bytes."""
    return b"%c%b%b" % (len(address), address, payload)


# In a Cluster, where keys have a tag, what is published is to be heard on the node of its slot only.
_TELL: Final = """
local publish = string.find(S, '{sealane:%d+%.%d+}$') and 'SPUBLISH' or 'PUBLISH'
local function tell(topic, address, payload)
  return redis.call(publish, topic, string.char(#address) .. address .. payload)
end
"""

_POST: Final = (
    POST_TO_STREAM
    + _TELL
    + """
local post_to_stream = post
local function post(mailbox, address, payload)
  if tell(S .. ':m:' .. mailbox, address, payload) > 0 then return 1 end
  return post_to_stream(mailbox, address, payload)
end
"""
)

# Where nobody listens a post tells it. Whoever waits without listening enters again when it does.
_LIVING: Final = """
local function living() return true end
"""

# What it returns makes the sender's next change of a membership wait for what comes with its message.
_BROADCAST: Final = """
local function broadcast(group, payload)
  redis.call(publish, S .. ':g:' .. group, payload)
  return 1
end
"""

_KEEP: Final = """
local mailbox = ARGV[3]
local function places(list)
  local count, found = 0, redis.pcall('LRANGE', list, 0, -1)
  -- Where somebody else has written there it is nothing but an error.
  for _, entry in ipairs(found) do
    if entry == mailbox then count = count + 1 end
  end
  return count
end
local forgotten = {}
for index = 4, #ARGV, 3 do
  local waiters, owners = S .. ':w:' .. ARGV[index], S .. ':o:' .. ARGV[index]
  local known = redis.call('PEXPIRE', waiters, ARGV[1]) + redis.call('PEXPIRE', owners, ARGV[1])
  local waits, owns = tonumber(ARGV[index + 1]), tonumber(ARGV[index + 2])
  if known == 0 or waits > 0 and places(waiters) < waits or owns > 0 and places(owners) < owns then
    forgotten[#forgotten + 1] = ARGV[index]
  end
end
return {now, sweep(16), forgotten}
"""

_MARK_FLUSH: Final = """
local heard = tell(S .. ':f', 'f', ARGV[4])
if ARGV[3] == '' then return 0 end
return heard
"""


@dataclass(frozen=True, slots=True)
class TopicScripts(Scripts):
    """The scripts of the pub/sub layer."""

    #: (waiters' life ms, expiry, mailbox, then plain channel, how many times the mailbox waits for a message of it, and
    #: whether it owns it, 0 or 1, of each) -> [now, dropped_expired, the channels of which less than that is known, or
    #: for which nobody waits].
    keep: Script


def _make() -> TopicScripts:
    shared = make_scripts(_POST, _LIVING, _BROADCAST)
    scripts = {field.name: getattr(shared, field.name) for field in fields(shared)}
    scripts["mark_flush"] = Script("mark_flush", SHARD + _TELL + _MARK_FLUSH, numbered=True)
    keep = Script("keep", SHARD + "local EXPIRY = tonumber(ARGV[2])\n" + SWEEP + _KEEP)
    return TopicScripts(**scripts, keep=keep)


#: The scripts of RedisPubSubChannelLayer.
TOPIC_SCRIPTS: Final = _make()
