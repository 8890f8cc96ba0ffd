"""The two tasks of a connection: who is idle, who is woken, and how both end."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from sealane.consumers.ending import finish
from sealane.consumers.second_tasks import second_tasks_of
from sealane.consumers.stepping import Rest, task_context
from sealane.consumers.turn import IDLE, PUSHED
from sealane.types import Message

__all__ = ["Pair"]

#: Seconds that a handler may take to end after its cancellation.
HANDLER_TIMEOUT = 5.0


class _Front:
    # What a broadcast looks at, together at the front of each object: see sealane.layers.inbox.
    __slots__ = ("busy", "context", "forward", "idle", "pushed_names", "target", "used")

    forward: Callable[[Message], Any] | None
    target: Any
    pushed_names: Mapping[str, str] | None


class Pair(_Front):
    """The task of a connection, the *owner*, and a *helper*, which is made where there is work for two.

    One task waits for the client, as a rule the owner. The other one stands by, and whatever comes from elsewhere is
    given to it. A helper that stands by and has had nothing to do for a while is let go: see :meth:`dismiss`.
    """

    __slots__ = ("_handed", "_helper", "_loop", "_owner", "outcome", "standby")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        if self._owner is None:
            raise RuntimeError("A dispatcher is made in an asyncio task")
        self._helper: asyncio.Task[None] | None = None
        self._handed: Rest | None = None  # what the idle task has to do first when it is woken
        #: Whose message is in a handler.
        self.busy = IDLE
        #: The idle one of the two tasks, and where it waits; None while both are at work, or there is only one.
        self.idle: asyncio.Task[Any] | None = None
        self.standby: asyncio.Future[bool] | None = None
        #: Whether the idle task has been of use since somebody looked: see :meth:`dismiss`.
        self.used = False
        #: The context that handlers run in.
        self.context = task_context(self._owner)
        #: What ended the run.
        self.outcome: BaseException | None = None

    async def work(self, *, helping: bool = False) -> None:
        """Do what there is to do until something ends it, which is raised; ``helping`` in the helper."""
        raise NotImplementedError

    async def _take_over(self, error: BaseException | None) -> None:
        """Do what was handed over; ``error`` is what this task was cancelled with."""
        raise NotImplementedError

    async def _help(self) -> None:
        try:
            await self.work(helping=True)
        except BaseException as error:
            if self.outcome is not None or isinstance(error, GeneratorExit):
                raise  # run() is over and ends this task, or the event loop is gone
            self._end(error)
            assert self._owner is not None
            self._owner.cancel()

    # Not a coroutine function: its frame would be there for as long as the task waits.
    def _stand_by(self) -> "asyncio.Future[bool]":
        """Return what to wait for until there is something to do. It says whether this task is dismissed."""
        self.idle = asyncio.current_task()
        self.standby = self._loop.create_future()
        self.used = True
        return self.standby

    async def _roused(self, standby: "asyncio.Future[bool]", error: BaseException | None = None) -> None:
        """Do at once what was handed over; ``error`` is what was raised where this task stood by."""
        # The other task may have come to stand by since this one was woken.
        if self.standby is standby:
            self.standby = self.idle = None
        if self._handed is not None:
            # Where this task was cancelled, so is the handler that it has to go on with.
            await self._take_over(error)
        elif error is not None:
            raise error

    def rouse(self) -> None:
        """Wake the idle task, or start the helper where there is none."""
        standby = self.standby
        if standby is not None:
            if not standby.done():
                standby.set_result(False)
        elif self._helper is None and self.outcome is None:
            # Not loop.create_task(): an eager task factory would run it here, inside somebody else's step.
            self._helper = asyncio.Task(self._help(), loop=self._loop, name="sealane-dispatch", context=self.context)
            second_tasks_of(self._loop).add(self)

    def go_on_with(self, rest: Rest) -> None:
        """Have the idle task do the rest of a message that was started for it."""
        self.busy = PUSHED
        self._handed = rest
        self.rouse()

    def dismiss(self) -> bool:
        """Have the helper end as soon as it has nothing to do. Returns whether it will: only where it stands by.

        There is a new one as soon as there is work for two.
        """
        if self._helper is None:
            return True
        standby = self.standby
        if standby is None or standby.done() or self.idle is not self._helper:
            return False
        standby.set_result(True)
        return True

    def _end(self, error: BaseException) -> None:
        """Note what ended the run; no message is started any more."""
        self.outcome = error
        self.busy = PUSHED

    async def close(self, error: BaseException) -> BaseException:
        """End what is left after :meth:`work` raised an error. Returns what ended the run, which may be another one.

        A caller that is cancelled meanwhile is told when all has ended.
        """
        owner = self._owner
        assert owner is not None
        if self.outcome is None or (owner.uncancel() > 0 and isinstance(error, asyncio.CancelledError)):
            self._end(error)
        helper = self._helper
        if helper is not None:
            second_tasks_of(self._loop).discard(self)
            helper.cancel()
            await finish(helper, HANDLER_TIMEOUT, "A cancelled handler")
        assert self.outcome is not None
        return self.outcome
