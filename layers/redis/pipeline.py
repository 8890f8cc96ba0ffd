"""The calls of one connection to a server, in order: what to write, whose a reply is, what to send again.

Nothing in here does any I/O, waits or looks at a clock: a :class:`~sealane.layers.redis.link.Link` writes what
:meth:`Pipeline.take` gives, and hands in what the server answers.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

from redis import exceptions as errors

from sealane.exceptions import CallRefused, ChannelLayerUnavailable
from sealane.layers.redis.access import scrub
from sealane.layers.redis.script import KEPT, OUT_OF_TURN, Script

__all__ = ["Argument", "Call", "Pipeline", "Verdict", "pack", "pack_arguments", "pack_load", "verdict_of"]

Argument = bytes | bytearray | memoryview | str | int | float

#: Bytes that may be under way. Little enough for the buffers of the kernel: what a transport must hold itself, it does
#: not let go of when it is closed while the server is stopped. And what waits here can still be taken back.
WINDOW = 64 * 1024

#: The counter of a sender's calls is ``epoch * EPOCH + calls``. Each connection begins an epoch, so that a call which
#: is still on its way in an older connection can never be at its turn.
EPOCH = 10**10
#: After how many seconds that counter is claimed anew; a server keeps it for longer than that.
CLAIMED = 300.0

# Begins an epoch, keeps the number of calls, and returns the former counter. A server whose memory is full lets a
# script go on that has written something which takes none, and some calls make room.
CLAIM = """
local former = redis.call('GET', KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1], ARGV[1] .. (former and string.sub(former, -10) or '0000000000'), 'PX', ARGV[2])
return former
"""


class Verdict(IntEnum):
    """What an error reply asks for. Of several the greatest counts."""

    #: It is the caller's.
    NONE = 0
    #: The server has no memory to write to. The caller is told at once.
    FULL = 1
    #: Calls before this one were not carried out: send it again after them.
    REORDER = 2
    #: The server has forgotten the scripts: load them, and send it again.
    RELOAD = 3
    #: The server cannot do it now: send it again a little later.
    LATER = 4
    #: This server is not, or no longer, the one to ask: connect anew.
    RECONNECT = 5


#: By error code. An ASK is a MOVED for one call: the slot is being moved, and some of its keys are there already. The
#: new node serves a script only when all of its keys are there, so the end of the move is awaited.
_VERDICTS = {
    OUT_OF_TURN: Verdict.REORDER,
    "OOM": Verdict.FULL,
    "NOSCRIPT": Verdict.RELOAD,
    "ASK": Verdict.LATER,
    "BUSY": Verdict.LATER,
    "MISCONF": Verdict.LATER,
    "NOREPLICAS": Verdict.LATER,
    "TRYAGAIN": Verdict.LATER,
    "CLUSTERDOWN": Verdict.RECONNECT,
    "LOADING": Verdict.RECONNECT,
    "MASTERDOWN": Verdict.RECONNECT,
    "MOVED": Verdict.RECONNECT,
    "NOAUTH": Verdict.RECONNECT,
    "READONLY": Verdict.RECONNECT,
}

# redis-py takes the code off an error that it has a class for; which these are differs between its versions. The more
# special class first.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (errors.MovedError, "MOVED"),
    (errors.AskError, "ASK"),
    (errors.MasterDownError, "MASTERDOWN"),
    (errors.ClusterDownError, "CLUSTERDOWN"),
    (errors.TryAgainError, "TRYAGAIN"),
    (errors.NoScriptError, "NOSCRIPT"),
    (errors.OutOfMemoryError, "OOM"),
    (errors.ReadOnlyError, "READONLY"),
    (errors.BusyLoadingError, "LOADING"),
    (errors.AuthenticationError, "NOAUTH"),
)

# The error of a command in a script may come after a text, with a hyphen (Redis 6).
_CODE = re.compile(f"(?:^|-)({'|'.join(_VERDICTS)}) ")


def verdict_of(error: BaseException) -> Verdict:
    """Return what to do about an error reply."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return _VERDICTS[code]
    found = _CODE.search(str(error))
    return Verdict.NONE if found is None else _VERDICTS[found[1]]


def pack_arguments(arguments: Iterable[Argument]) -> bytes:
    """Return arguments as they stand in a command, without its head."""
    parts = []
    for argument in arguments:
        kind = argument.__class__
        if kind is bytes:
            data: Any = argument
        elif kind is str:
            data = argument.encode()  # type: ignore[union-attr]
        elif kind is int or kind is float:
            data = repr(argument).encode()
        elif isinstance(argument, str):
            data = argument.encode()
        elif isinstance(argument, (bytes, bytearray, memoryview)):
            data = bytes(argument)
        else:
            raise TypeError(f"An argument of a command is bytes, str, int or float, not {kind.__name__}")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def pack(*arguments: Argument) -> bytes:
    """Return a command as it is written to a server."""
    return b"*%d\r\n%b" % (len(arguments), pack_arguments(arguments))


def pack_load(script: Script) -> bytes:
    """Return the command that loads a script, as it is written to a server."""
    return pack("SCRIPT", "LOAD", script.source)


class Call:
    """A command that waits to be written or to be answered."""

    __slots__ = ("created", "data", "future", "number", "numbered", "once", "size", "tail", "written")

    def __init__(
        self,
        data: bytes,
        future: "asyncio.Future[Any] | None",
        created: float,
        *,
        tail: bytes | None = None,
        once: bool = False,
    ) -> None:
        #: What is written; of a numbered call, what comes before its turn, and ``tail`` what comes after it.
        self.data = data
        self.tail = tail
        self.numbered = tail is not None
        self.size = len(data) + (len(tail) + 32 if tail is not None else 0)
        #: Whom the reply is for; None: for the pipeline itself.
        self.future = future
        self.created = created
        #: Whether it must never be written twice.
        self.once = once
        #: Its number in the current epoch, from when it is written until it is known what became of it.
        self.number: int | None = None
        #: Whether it may have been carried out.
        self.written = False


class Pipeline:
    """Decide about calls, which all have the same time limit.

    Calls are carried out in the order in which they were pushed. Where the server rejects one, those after it must
    not stay ahead of it: nothing more is written until all that is under way has been answered, then the rejected
    call and all after it are sent again. Numbered calls refuse to run out of turn; other calls may run twice.

    Scripts are loaded where the server turns out not to have one, and only then: all of them, right before the calls
    that are sent again.
    """

    def __init__(
        self, place: str, *, limit: int, timeout: float, sender_key: bytes | None = None, scripts: Iterable[Script] = ()
    ) -> None:
        self.place = place
        self.limit = limit
        self.timeout = timeout
        self.sender_key = sender_key
        #: What is loaded where the server does not have it.
        self.scripts = tuple(scripts)
        #: How many times in a row they were loaded, without a call that succeeded after it.
        self.loads = 0
        #: What is to be written, in order.
        self.waiting: deque[Call] = deque()
        #: What was written and is not answered, in order.
        self.flying: deque[Call] = deque()
        #: What was rejected and is to be sent again, in order; older than everything else.
        self.rejected: list[Call] = []
        #: Bytes under way.
        self.outstanding = 0
        #: Set by a rejection: nothing is written until :meth:`resume`.
        self.verdict = Verdict.NONE
        #: The text of the last rejection or loss.
        self.error: str | None = None
        #: Whether something was carried out since the link last looked.
        self.answered = False
        #: Who wants the replies of calls that were cancelled. A call that is forgotten is not followed any more.
        self.followed: WeakKeyDictionary[asyncio.Future[Any], Callable[[Any], object]] = WeakKeyDictionary()
        self.epoch = 0
        #: The number of the last call that was written.
        self.number = 0
        #: When the current epoch was claimed; None: not yet, or the order was disturbed.
        self.claimed: float | None = None
        self._claim: Call | None = None
        self._preface: list[bytes] = []

    # Calls

    @property
    def count(self) -> int:
        """How many calls there are."""
        return len(self.waiting) + len(self.flying) + len(self.rejected)

    def push(self, call: Call) -> None:
        """Put a call at the end; raise ChannelLayerUnavailable where there are too many."""
        if self.count >= self.limit:
            self._forget_cancelled()
            if self.count >= self.limit:
                raise ChannelLayerUnavailable(
                    self.place, f"{self.limit} calls are under way or waiting already", error=self.error
                )
        self.waiting.append(call)

    def take(self, now: float) -> bytes:
        """Return what is to be written now, and count it as written. Empty: there is nothing, or not yet."""
        if self.verdict or self._claim is not None:
            return b""
        waiting, flying = self.waiting, self.flying
        pieces = []
        for data in self._preface:
            pieces.append(data)
            self._fly(Call(data, None, now))
        self._preface = []
        while waiting and self.outstanding < WINDOW:
            call = waiting[0]
            future = call.future
            if future is not None and future.done():
                waiting.popleft()
                self.followed.pop(future, None)
                continue
            if call.tail is None:
                pieces.append(call.data)
            else:
                if self.claimed is None or now - self.claimed > CLAIMED:
                    pieces.append(self._begin_claim(now))
                    break
                turn = b"%d" % (self.epoch * EPOCH + self.number)
                pieces.append(b"%b$%d\r\n%b\r\n%b" % (call.data, len(turn), turn, call.tail))
                self.number += 1
                call.number = self.number
            waiting.popleft()
            call.written = True
            flying.append(call)
            self.outstanding += call.size
        return b"".join(pieces)

    def _fly(self, call: Call) -> None:
        self.flying.append(call)
        self.outstanding += call.size

    def _begin_claim(self, now: float) -> bytes:
        assert self.sender_key is not None
        self.epoch += 1
        data = pack("EVAL", CLAIM, 1, self.sender_key, self.epoch, KEPT)
        self._claim = Call(data, None, now)
        self._fly(self._claim)
        return data

    # Replies

    def reply(self, value: Any) -> None:
        """Take the reply of the oldest call under way."""
        call = self.flying.popleft()
        self.outstanding -= call.size
        self.answered = True
        future = call.future
        if future is None:
            if call is self._claim:
                self._end_claim(call, value)
            return
        if not self.verdict:
            self.loads = 0
        elif not call.numbered and not call.once:
            self.rejected.append(call)
            return
        if not future.done():
            future.set_result(value)
        elif self.followed:
            callback = self.followed.pop(future, None)
            if callback is not None:
                callback(value)

    def fail(self, error: BaseException, now: float) -> None:
        """Take an error reply of the oldest call under way."""
        call = self.flying.popleft()
        self.outstanding -= call.size
        verdict = verdict_of(error)
        if verdict > Verdict.FULL:
            self.verdict = max(self.verdict, verdict)
            if verdict is not Verdict.REORDER:
                self.error = scrub(error)
            # Numbered calls after this one find that it is not their turn.
            self.claimed = None
        else:
            self.answered = True
        if call.future is None:
            self._fail_own(call, error, verdict, now)
        elif verdict > Verdict.FULL:
            call.written = False
            call.number = None
            self.rejected.append(call)
        elif verdict is Verdict.FULL:
            self.error = "out of memory"
            if call.numbered:
                self.claimed = None
            call.written = False
            self._refuse(call, "the server's memory is full (maxmemory)", now)
        elif self.verdict and not call.numbered and not call.once:
            self.rejected.append(call)
        else:
            self._answer_error(call, error)

    def _fail_own(self, call: Call, error: BaseException, verdict: Verdict, now: float) -> None:
        if call is not self._claim:
            # A script cannot be loaded: without it no call can go on.
            self.verdict = Verdict.RECONNECT
            self.error = scrub(error)
            return
        self._claim = None
        if verdict > Verdict.FULL:
            return
        # Other commands, which may free memory, go on.
        for waiting in [waiting for waiting in self.waiting if waiting.numbered]:
            self.waiting.remove(waiting)
            if verdict is Verdict.FULL:
                self._refuse(waiting, "the server's memory is full (maxmemory)", now)
            else:
                self._answer_error(waiting, error)

    def _end_claim(self, call: Call, former: bytes | None) -> None:
        self._claim = None
        self.claimed = call.created
        executed = int(former) % EPOCH if former is not None else None
        self.number = executed or 0
        # Calls that were under way when a connection was lost: now it is known which of them were carried out, and
        # that the others never will be.
        doubtful = [call for call in self.waiting if call.number is not None]
        if not doubtful:
            return
        done = set()
        for call in doubtful:
            assert call.number is not None
            if executed is not None and call.number <= executed:
                done.add(call)
                if call.future is not None and not call.future.done():
                    call.future.set_result(None)
            call.number = None
            call.written = False
        self.waiting = deque(call for call in self.waiting if call not in done)

    # Rejections, losses, the end

    @property
    def settled(self) -> bool:
        """Whether there was a rejection, and all that was under way has been answered."""
        return bool(self.verdict) and not self.flying

    def resume(self) -> Verdict:
        """Put what was rejected back in front, and return what must be done before more is taken."""
        verdict = self.verdict
        self.verdict = Verdict.NONE
        self.waiting.extendleft(reversed(self.rejected))
        self.rejected.clear()
        if verdict is Verdict.RELOAD:
            self._preface = [pack_load(script) for script in self.scripts]
            self.loads += 1
            if self.loads > 1:
                # In vain the last time, which is no success, whatever else was answered.
                self.answered = False
                return Verdict.LATER
        return verdict

    def lose(self, error: str, now: float) -> None:
        """Forget the connection: what was under way is to be sent again, or fails where that must not be."""
        self.error = error
        back = self.rejected
        for future in [future for future in self.followed if future.cancelled()]:
            del self.followed[future]
        for call in self.flying:
            if call.future is None or call.future.done():
                continue
            if call.once:
                self._refuse(call, "the connection was lost", now)
            else:
                back.append(call)
        self.waiting.extendleft(reversed(back))
        self.flying.clear()
        self.rejected = []
        self.outstanding = 0
        self.verdict = Verdict.NONE
        self.claimed = None
        self._claim = None
        self._preface = []
        self.loads = 0

    def expire(self, now: float) -> float | None:
        """Fail the calls that have waited too long; return when the next one will have, or None."""
        for call in chain(self.rejected, self.flying, self.waiting):
            future = call.future
            if future is None or future.done():
                continue
            if now - call.created < self.timeout:
                return call.created + self.timeout
            self._refuse(call, f"no reply within {self.timeout:g} s", now)
        self._forget_cancelled()
        return None

    def abandon(self, problem: str, now: float) -> None:
        """Fail all calls."""
        for call in chain(self.rejected, self.flying, self.waiting):
            if call.future is not None:
                self._refuse(call, problem, now)
        self.rejected.clear()
        self.flying.clear()
        self.waiting.clear()
        self.outstanding = 0

    def _refuse(self, call: Call, problem: str, now: float) -> None:
        assert call.future is not None
        seconds = now - call.created
        _fail(call.future, ChannelLayerUnavailable(self.place, problem, seconds, self.error, call.written))

    def _answer_error(self, call: Call, error: BaseException) -> None:
        """Fail a call that the server has answered with an error of no known kind."""
        assert call.future is not None
        self.followed.pop(call.future, None)
        _fail(call.future, CallRefused(self.place, scrub(error)))

    def _forget_cancelled(self) -> None:
        self.waiting = deque(call for call in self.waiting if call.future is None or not call.future.done())


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    # A loop that was closed cannot call back; nobody waits there any more.
    if not future.done() and not future.get_loop().is_closed():
        future.set_exception(error)
        # Looked at, so that asyncio does not report a call that nobody waits for.
        future.exception()
