"""The calls of threads to one place: each takes a connection for itself while it runs, and gives it back."""

import os
import time
import weakref
from typing import Any, Protocol

import redis
from redis.exceptions import RedisError

from sealane.exceptions import CallRefused, ChannelLayerUnavailable, ServerUnreachable
from sealane.layers.redis.access import scrub
from sealane.layers.redis.backoff import Backoff
from sealane.layers.redis.line import Line
from sealane.layers.redis.pipeline import EPOCH, Argument, Verdict, pack, pack_arguments, pack_load, verdict_of
from sealane.layers.redis.script import Script

__all__ = ["BlockingLink", "Pooled"]

#: Waiting for one reply, or for one connection, may take one part in so many of a call's time: then there is time left
#: to look for another server, which a failover may have made the master meanwhile.
_SHARE = 2

#: Bounds of the delay before a call is made again, in seconds.
_FIRST, _MOST = 0.02, 0.5


class Pooled(Protocol):
    """What a blocking link needs of a place."""

    @property
    def label(self) -> str: ...

    def blocking_pool(self, *, timeout: float, name: str | None = None) -> redis.ConnectionPool: ...


class BlockingLink:
    """Blocking calls to one place, from any thread, over connections that are kept for further calls.

    A call returns what the server answered; then it has happened. There are as many connections as there were calls at
    the same time. One that the server has closed meanwhile is made again within the call.

    A call that has no reply after ``timeout`` seconds, of whatever cause, raises ChannelLayerUnavailable; if it is just
    connecting then, up to half as much later. Until then it is sent again when the connection is lost or silent, and
    when the server answers that it cannot carry it out now, as :class:`~sealane.layers.redis.link.Link` does. Each
    connection looks for the place's server anew. A server whose memory is full raises ChannelLayerUnavailable at once.

    A connection loads nothing: a script is called by its hash, and is loaded, it alone, where the server says that it
    does not have it (NOSCRIPT), with the call that is made again.

    Other errors of the server are raised as redis-py's. What interrupts a call, such as KeyboardInterrupt or the time
    limit of a task, leaves it open whether it was carried out, and leaves the link in order.

    A forked child begins without connections: those that were open are its parent's.
    """

    def __init__(self, place: Pooled, base: bytes, *, timeout: float = 5.0, name: str = "sealane-sync") -> None:
        """Prepare a link; it connects at its first call.

        ``base`` is what the keys of the shard begin with, with the hash tag of the place. ``timeout`` is for a call in
        all, in seconds. ``name`` is the connections' name at the server.
        """
        self.place = place
        self.name = name
        self.timeout = timeout
        #: The text of the last error of a connection, or None. It holds no password.
        self.error: str | None = None
        self.base = base
        # The beginnings of the scripts' commands, packed, by script and number of arguments.
        self._heads: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        # It only makes connections. What redis-py does to take one from its pool for each call costs more than a call.
        self._pool = place.blocking_pool(timeout=timeout / _SHARE, name=name)
        self._reset()
        _links.add(self)

    def _reset(self) -> None:
        # The last one given back is the first to be taken. append() and pop() of a list need no lock.
        self._idle: list[Line] = []
        self._lines: weakref.WeakSet[Line] = weakref.WeakSet()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return sum(line.connected for line in self._lines)

    def __repr__(self) -> str:
        error = f", last error: {self.error}" if self.error else ""
        return f"<BlockingLink {self.name} to {self.place.label}: {self.connections} connections{error}>"

    # Calls

    def call(self, *arguments: Argument) -> Any:
        """Make a call that may be carried out twice; return the reply."""
        return self._perform(_Call(pack(*arguments)))

    def call_once(self, *arguments: Argument) -> Any:
        """Make a call that must not be carried out twice; return the reply.

        Where the connection is lost after it was written it raises ChannelLayerUnavailable, with ``sent`` true.
        """
        return self._perform(_Call(pack(*arguments), once=True))

    def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a script on the shard; return the reply. One that is not numbered may be carried out twice.

        A numbered one is carried out once, however often its connection is lost. Its reply is None where it was carried
        out and the reply got lost. Where ChannelLayerUnavailable is raised with ``sent`` true, it was carried out once,
        or never, or a server that stands still will do so when it goes on.
        """
        heads = self._heads.get((script.sha1, len(arguments)))
        if heads is None:
            heads = self._heads[script.sha1, len(arguments)] = self._head(script, len(arguments))
        head, keys = heads
        if script.numbered:
            return self._perform(_Call(head, script, keys, pack_arguments(arguments)))
        return self._perform(_Call(b"%b%b%b" % (head, keys, pack_arguments(arguments)), script))

    def _head(self, script: Script, count: int) -> tuple[bytes, bytes]:
        """Return the beginning of a packed command, and what comes after the sender's key, if that is in it."""
        keys = 1 + script.numbered
        total = 3 + keys + script.numbered + count
        return b"*%d\r\n%b" % (total, pack_arguments(("EVALSHA", script.sha1, keys))), pack_arguments((self.base,))

    def close(self) -> None:
        """Close the connections, those in use as soon as their calls end. A later call opens new ones."""
        idle, self._idle = self._idle, []
        _hang_up(idle)

    # How a call is made

    def _perform(self, call: "_Call") -> Any:
        idle = self._idle
        try:
            line = idle.pop()
        except IndexError:
            line = Line(self._pool.make_connection(), b"%b:s:" % self.base)
            self._lines.add(line)
        try:
            return self._insist(line, call)
        except BaseException as exc:
            line.counted = False
            line.claimed = None
            if not isinstance(exc, (CallRefused, ChannelLayerUnavailable)):
                # Interrupted: its reply may come yet, which the next call must not take for its own.
                line.lose()
            raise
        finally:
            idle.append(line)
            if idle is not self._idle:  # closed meanwhile
                _hang_up(idle)

    def _insist(self, line: Line, call: "_Call") -> Any:
        """Make a call until it was carried out, or its time is over."""
        now = started = time.monotonic()
        deadline: float | None = None  # the limits of the connections are enough for the first try
        backoff = None
        while True:
            try:
                if call.once and line.connected and line.is_stale():
                    line.lose()
                line.connect()
                replies = line.exchange(*call.commands(line, now), deadline)
            except (ServerUnreachable, RedisError, OSError) as exc:
                self.error = exc.problem if isinstance(exc, ServerUnreachable) else scrub(exc)
                verdict = call.lose(line)
            else:
                verdict = call.judge(line, replies, now)
                if verdict is Verdict.NONE:
                    if isinstance(call.reply, Exception):
                        raise CallRefused(self.place.label, scrub(call.reply))
                    return call.reply
                if verdict is Verdict.FULL:
                    raise self._unavailable("the server's memory is full (maxmemory)", call, started)
                if verdict > Verdict.RELOAD:
                    self.error = scrub(call.reply)
                if verdict is Verdict.RECONNECT:
                    line.lose()
            if call.once and call.doubtful:
                raise self._unavailable("the connection was lost", call, started)
            if backoff is None:
                # The first time it is tried again at once: a connection that was idle may be an old one.
                deadline = started + self.timeout
                backoff = Backoff(first=_FIRST, most=_MOST)
            elif verdict > Verdict.RELOAD:
                time.sleep(min(backoff.next(), max(0.0, started + self.timeout - time.monotonic())))
            now = time.monotonic()
            if now >= started + self.timeout:
                raise self._unavailable(f"no reply within {self.timeout:g} s", call, started)

    def _unavailable(self, problem: str, call: "_Call", started: float) -> ChannelLayerUnavailable:
        seconds = time.monotonic() - started
        return ChannelLayerUnavailable(self.place.label, problem, seconds, self.error, call.doubtful)


class _Call:
    """A command, and what is known of whether it was carried out."""

    __slots__ = ("_claiming", "_head", "_keys", "_loading", "_script", "_tail", "doubtful", "numbered", "once", "reply")

    def __init__(
        self,
        head: bytes,
        script: Script | None = None,
        keys: bytes = b"",
        tail: bytes | None = None,
        once: bool = False,
    ) -> None:
        """Take a packed command; of a numbered call the parts between which the sender's key and the turn belong."""
        self._head = head
        self._script = script
        self._keys = keys
        self._tail = tail
        self._claiming = False
        self._loading = False
        self.numbered = tail is not None
        #: Whether it must never be written twice.
        self.once = once
        #: Whether it was written, and it is not known what became of it.
        self.doubtful = False
        #: What the server answered at last.
        self.reply: Any = None

    def commands(self, line: Line, now: float) -> tuple[bytes, int]:
        """Decide what to write; return it, and how many commands it is."""
        count = 1
        before = b""
        if self.numbered:
            self._claiming = line.due(now)
            if self._claiming:
                before = line.claim()
                if not line.counted:
                    # Alone: the last call, of which nothing is known, must not be taken for this one.
                    return before, 1
                count += 1
        if self._loading and self._script is not None:
            before += pack_load(self._script)
            count += 1
        if self._tail is None:
            return before + self._head, count
        return b"%b%b%b%b%b%b" % (before, self._head, line.sender, self._keys, line.turn, self._tail), count

    def lose(self, line: Line) -> Verdict:
        """Take note that the connection was lost on the way."""
        if line.counted or not self.numbered:
            self.doubtful = self.doubtful or line.sent
        line.lose()
        return Verdict.RECONNECT

    def judge(self, line: Line, replies: list[Any], now: float) -> Verdict:
        """Decide what the replies mean. NONE: ``reply`` is the caller's; otherwise the call was not carried out."""
        if self._claiming:
            former = replies.pop(0)
            if isinstance(former, Exception):
                # Then it was not the call's turn either.
                return self._refuse(line, former)
            known, number = line.counted, int(former) % EPOCH if former is not None else 0
            line.counted, line.claimed = True, now
            if not known:
                line.number = number
                return Verdict.REORDER
            if self.doubtful and number > line.number:
                line.number = number
                self.reply = None
                return Verdict.NONE
            # What was written before will not be carried out any more.
            self.doubtful = False
            line.number = number
        loading, self._loading = self._loading, False
        if loading:
            loaded = replies.pop(0)
            if isinstance(loaded, Exception):
                return self._refuse(line, loaded)
        self.reply = reply = replies.pop()
        if not isinstance(reply, Exception):
            line.number += self.numbered
            return Verdict.NONE
        claimed = line.claimed
        verdict = self._refuse(line, reply)
        if verdict is Verdict.RELOAD:
            self._loading = True
        if verdict is Verdict.RELOAD or (verdict is Verdict.REORDER and self._claiming):
            # Not counted; or the count was another than expected, and is known now.
            line.claimed = claimed
        if verdict is Verdict.RELOAD and loading:
            # In vain: there is no hurry to do it again.
            return Verdict.LATER
        return verdict

    def _refuse(self, line: Line, error: Exception) -> Verdict:
        self.reply = error
        line.claimed = None
        return verdict_of(error)


def _hang_up(lines: list[Line]) -> None:
    """Take lines from a list, which others may do too, and close them."""
    while lines:
        try:
            line = lines.pop()
        except IndexError:
            return
        line.lose()


_links: weakref.WeakSet[BlockingLink] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for link in _links:
        # Their sockets are the parent's too: this side of each is closed, and nothing is written to it.
        for line in link._lines:
            line.lose()
        link._reset()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
