"""Finding the server that has a place's keys now: whom to ask, and what to make of the answers. No I/O here.

A search is a generator. It yields what to do next, is sent the outcome, and ends when the last Try was a success; or it
raises ServerUnreachable. ``dialing`` carries the steps out, once for asyncio and once for threads.
"""

import binascii
import functools
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import AskError, MovedError, NoPermissionError, ResponseError, TryAgainError

from sealane.exceptions import ServerUnreachable
from sealane.layers.redis.access import Access, Address, Endpoint, scrub

__all__ = ["Ask", "Failed", "Hint", "Search", "Try", "find_master", "find_node", "find_server", "slot_of", "tag_of"]

#: The hash slots of a Cluster.
SLOTS: Final = 16_384

#: How far the slot of a tag may lie from where it should, in slots.
_NEAR: Final = 32

#: How often in a row a node may send us on to another one.
_MOVES: Final = 3

#: No step gets less than this part of the time that is left.
_SMALLEST_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class Ask:
    """Connect to an endpoint, send one command, and disconnect. The outcome is the reply, an error reply included."""

    endpoint: Endpoint
    command: tuple[str, ...]
    #: The step may take one part in so many of the time that is left.
    share: int = 1


@dataclass(frozen=True, slots=True)
class Try:
    """Connect to what may be the server, and send the command, if there is one. The outcome is as with Ask.

    If the search ends then, this connection is its result; if it goes on, the connection is closed.
    """

    address: Address
    access: Access
    command: tuple[str, ...] = ()
    share: int = 1


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of a step that came to nothing: no connection, no reply, or a server that let us not in."""

    problem: str


Search = Generator[Ask | Try, Any, None]


class Hint:
    """Who answered last, so that the next search begins there. Shared by threads; a lost update costs nothing."""

    __slots__ = ("_learned",)

    def __init__(self) -> None:
        self._learned: tuple[Endpoint, ...] = ()

    def order(self, configured: Sequence[Endpoint]) -> list[Endpoint]:
        """Return whom to ask: who answered last, then the configured ones, then those who were heard of."""
        learned = self._learned
        found: dict[Address, Endpoint] = {}
        for endpoint in (*learned[:1], *configured, *learned[1:]):
            found.setdefault(endpoint.address, endpoint)
        return list(found.values())

    def learn(self, answered: Endpoint, others: Iterable[Endpoint] = ()) -> None:
        """Remember who answered, and whom it named."""
        self._learned = (answered, *others)


def find_server(label: str, address: Address, access: Access) -> Search:
    """Search for a server whose address is known."""
    outcome = yield Try(address, access)
    if isinstance(outcome, Failed):
        raise ServerUnreachable(label, outcome.problem)


# Sentinel


def find_master(label: str, service: str, sentinels: Sequence[Endpoint], access: Access, hint: Hint) -> Search:
    """Ask the sentinels in turn for a service's master, until one names a server that is a master itself.

    A sentinel that was cut off, or has not heard of a failover yet, names a server that is a replica by now.
    """
    problems: list[str] = []
    tried: dict[Address, str] = {}
    order = hint.order(sentinels)
    for position, sentinel in enumerate(order):
        share = _share(len(order) - position + 1)
        reply = yield Ask(sentinel, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), share)
        master = _master_of(reply, service)
        if isinstance(master, str):
            problems.append(f"{sentinel}: {master}")
            continue
        if master not in tried:
            role = yield Try(master, access, ("ROLE",), share)
            problem = _not_master(role)
            if problem is None:
                hint.learn(sentinel)
                return
            tried[master] = problem
        problems.append(f"{sentinel} names {master}, but {tried[master]}")
    raise ServerUnreachable(label, f"no sentinel names a master that answers ({'; '.join(problems)})")


def _master_of(reply: Any, service: str) -> Address | str:
    """Return the address in a sentinel's answer, or what is wrong with it."""
    if isinstance(reply, Failed):
        return reply.problem
    if isinstance(reply, ResponseError):
        return scrub(reply)
    if reply is None:
        return f"knows no service {service!r}"
    try:
        host, port = reply
        return Address(_text(host), int(port))
    except (TypeError, ValueError):
        return "gave an answer that is not an address; is it a sentinel?"


def _not_master(role: Any) -> str | None:
    """Return why the answer to ROLE is not that of a master, or None where it is."""
    if isinstance(role, Failed):
        return role.problem
    if isinstance(role, NoPermissionError):
        # The user may not ask. Then the sentinel's word counts, and a replica will refuse to write.
        return None
    if isinstance(role, ResponseError):
        return f"it answers ROLE with {scrub(role)!r}"
    kind = _text(role[0]) if isinstance(role, list) and role else "nothing"
    return None if kind == "master" else f"its role is {kind}"


# Cluster


def slot_of(key: bytes) -> int:
    """Return the hash slot of a key that has no ``{`` in it, or of the text within the braces. CRC-16/XMODEM."""
    return binascii.crc_hqx(key, 0) % SLOTS


@functools.cache
def tag_of(shard: int) -> str:
    """Return the hash tag of a shard, with its braces. It is the same for ever, and for any number of shards.

    The slots of shards 0, 1, 2, 3... lie at 0, 1/2, 1/4, 3/4, 1/8... of all slots: so any number of shards is spread
    evenly over the nodes, and one more shard changes no other.
    """
    place = 0
    bit = SLOTS // 2
    rest = shard
    while rest:
        place += bit * (rest & 1)
        bit //= 2
        rest >>= 1
    # The middle of the range, so that no slot lies at the border between nodes.
    place += _NEAR
    for number in range(SLOTS):
        text = f"sealane:{shard}.{number}"
        if abs(slot_of(text.encode()) - place) < _NEAR:
            return f"{{{text}}}"
    raise AssertionError(f"no tag for shard {shard} of a Cluster")


def find_node(label: str, tag: str, seeds: Sequence[Endpoint], access: Access, hint: Hint) -> Search:
    """Ask nodes in turn which of them serves a tag's slot, until one that is named says that it does so.

    The node is asked for a key with the tag: one that has lost the slot answers MOVED, which is followed.
    """
    slot = slot_of(tag.strip("{}").encode())
    problems: list[str] = []
    tried: dict[Address, str] = {}
    order = hint.order(seeds)
    for position, node in enumerate(order):
        share = _share(len(order) - position + 1)
        reply = yield Ask(node, ("CLUSTER", "SLOTS"), share)
        masters = _masters_of(reply, node.address)
        if isinstance(masters, str):
            problems.append(f"{node}: {masters}")
            continue
        hint.learn(node, [Endpoint(address, access) for _, _, address in masters if address is not None])
        owner = next((address for first, last, address in masters if first <= slot <= last), None)
        if owner is None:
            problems.append(f"{node} names no node for slot {slot}")
            continue
        named, problem = owner, None
        for _ in range(_MOVES + 1):
            if named in tried:
                problem = tried[named]
                break
            outcome = yield Try(named, access, ("EXISTS", tag), share)
            problem = _not_serving(outcome)
            if problem is None:
                return
            tried[named] = problem
            moved = _moved_to(outcome, named)
            if moved is None:
                break
            named = moved
        problems.append(f"{node} names {owner}, but {problem}")
    raise ServerUnreachable(label, f"no node of the Cluster serves slot {slot} ({'; '.join(problems)})")


def _masters_of(reply: Any, asked: Address) -> list[tuple[int, int, Address | None]] | str:
    """Return first slot, last slot and master of each range of CLUSTER SLOTS, or what is wrong with the answer.

    A master is None whose host the node does not know itself.
    """
    if isinstance(reply, Failed):
        return reply.problem
    if isinstance(reply, ResponseError):
        return f"CLUSTER SLOTS: {scrub(reply)}"
    try:
        return [(int(first), int(last), _node_of(master, asked)) for first, last, master, *_ in reply]
    except (TypeError, ValueError, IndexError):
        return "gave an answer to CLUSTER SLOTS that cannot be read"


def _node_of(node: Sequence[Any], asked: Address) -> Address | None:
    host = _text(node[0]) if node[0] is not None else ""
    if host == "?":
        # It goes by a host name (cluster-preferred-endpoint-type) but has none. Its address may stand beside it.
        details = node[3] if len(node) > 3 else []
        known = {_text(name): _text(value) for name, value in zip(details[::2], details[1::2], strict=False)}
        host = known.get("ip", "?")
        if host in ("", "?"):
            return None
    # Without a host, the one is meant that we reached the node by that answers.
    return Address(host or asked.host, int(node[1]))


def _not_serving(outcome: Any) -> str | None:
    """Return why a node's answer says that it does not serve the slot, or None where it does."""
    if isinstance(outcome, Failed):
        return outcome.problem
    if not isinstance(outcome, ResponseError):
        return None
    if isinstance(outcome, MovedError):
        return f"it answers that the slot has moved to {outcome.host}:{outcome.port}"
    if isinstance(outcome, (NoPermissionError, AskError, TryAgainError)) or _code(outcome) in ("ASK", "TRYAGAIN"):
        # The user may not read such keys, or the slot is leaving but is still here.
        return None
    return f"it answers {scrub(outcome)!r}"


def _moved_to(outcome: Any, asked: Address) -> Address | None:
    """Return where an answer says that the slot has moved to, or None where it does not say so."""
    if isinstance(outcome, MovedError):
        return Address(outcome.host or asked.host, outcome.port)
    if isinstance(outcome, ResponseError) and _code(outcome) == "MOVED":
        host, _, port = str(outcome).rpartition(" ")[2].rpartition(":")
        return Address(host or asked.host, int(port)) if port.isdigit() else None
    return None


def _code(error: ResponseError) -> str:
    """Return the code of an error without a class of its own, as those of a Cluster are in redis-py 5.0."""
    return str(error).partition(" ")[0]


def _share(steps: int) -> int:
    return min(steps, _SMALLEST_SHARE)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
