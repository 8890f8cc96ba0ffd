"""The in-memory layer against a model of the contract, in random sequences of calls."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sealane.exceptions import ChannelClosed, ChannelFull
from sealane.layers import Inbox, InMemoryChannelLayer
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import ThreadReceiver
from sealane.types import Message
from tests.layers.clock import Clock

EXPIRY = 10.0
CAPACITY = 3

CHANNELS = st.sampled_from(["a", "b", "own!1", "own!2", "own!3"])
GROUPS = st.sampled_from(["x", "y"])


class Loop:
    """As much of an event loop as an owner needs: whatever it is given runs at once."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        callback(*args)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        callback(*args)


class Channel:
    """What the contract says about one channel: what waits there, by number, and who reads it."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.inbox: Inbox | None = None
        self.loop: Any = Loop()
        self.ready = False
        self.overflowed = False

    def wake(self) -> None:
        self.ready = True


class LayerMachine(RuleBasedStateMachine):
    """Owners take only after they were woken, as consumers do: so a wake that is missing leaves a message behind."""

    overflow: Any = "drop_newest"

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.layer = InMemoryChannelLayer(EXPIRY, capacity=CAPACITY, overflow=self.overflow, clock=self.clock)
        self.exchange = self.layer._exchange
        self.number = 0
        self.sent_at: dict[int, float] = {}
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, dict[str, None]] = {}
        #: Closed channels, and until when the layer must know that they are.
        self.closed: dict[str, float] = {}
        #: A new name for each life of a channel that was closed for good.
        self.lives: dict[str, int] = {}
        self.receivers: list[ThreadReceiver] = []
        self.given: dict[ThreadReceiver, int] = {}
        self.addressed = self.delivered = self.full = 0

    # The model

    def name(self, base: str) -> str:
        return f"{base}.{self.lives.get(base, 0)}"

    def channel(self, name: str) -> Channel:
        return self.channels.setdefault(name, Channel())

    def live(self, name: str) -> list[int]:
        channel = self.channel(name)
        channel.waiting = [number for number in channel.waiting if self.sent_at[number] + EXPIRY > self.clock.now]
        return channel.waiting

    def queue(self, name: str) -> list[ThreadReceiver]:
        """Return those who wait for a channel and have nothing yet."""
        return [receiver for receiver in self.receivers if receiver.channel == name and receiver not in self.given]

    def deliver(self, name: str) -> bool:
        """Deliver the newest message in the model; return False where it is dropped and the sender told."""
        self.addressed += 1
        channel = self.channel(name)
        for receiver in self.queue(name):
            self.given[receiver] = self.number
            self.delivered += 1
            return True
        if channel.overflowed:
            self.full += 1
            return True
        if len(self.live(name)) >= CAPACITY:
            self.full += 1
            if self.overflow == "drop_newest" or (self.overflow == "close" and channel.inbox is None):
                return False
            if self.overflow == "close":
                channel.overflowed = channel.ready = True
                return True
            channel.waiting.pop(0)
        channel.waiting.append(self.number)
        return True

    def message(self) -> bytes:
        self.number += 1
        self.sent_at[self.number] = self.clock.now
        return self.layer.pack({"type": "x", "n": self.number})

    def forget(self, name: str) -> None:
        """End a channel in the model."""
        for members in self.groups.values():
            members.pop(name, None)
        self.channels.pop(name, None)
        base = name.rpartition(".")[0]
        if "!" in name:
            self.closed[name] = self.clock.now + EXPIRY
            self.lives[base] = self.lives.get(base, 0) + 1

    # Calls

    @rule(base=CHANNELS)
    def send(self, base: str) -> None:
        name, data = self.name(base), self.message()
        if self.deliver(name):
            self.exchange.send(name, data)
        else:
            with pytest.raises(ChannelFull):
                self.exchange.send(name, data)

    @rule(group=GROUPS)
    def group_send(self, group: str) -> None:
        data = self.message()
        for name in self.groups.get(group, {}):
            self.deliver(name)
        self.exchange.group_send(group, data)

    @rule(group=GROUPS, base=CHANNELS)
    def group_add(self, group: str, base: str) -> None:
        self.groups.setdefault(group, {})[self.name(base)] = None
        self.exchange.group_add(group, self.name(base))

    @rule(group=GROUPS, base=CHANNELS)
    def group_discard(self, group: str, base: str) -> None:
        self.groups.get(group, {}).pop(self.name(base), None)
        self.exchange.group_discard(group, self.name(base))

    @rule(base=CHANNELS)
    def attach(self, base: str) -> None:
        name = self.name(base)
        channel = self.channel(name)
        if channel.inbox is not None or self.queue(name):
            with pytest.raises(RuntimeError, match="owner"):
                self.exchange.attach(name, channel.wake, channel.loop)
        else:
            channel.inbox = self.exchange.attach(name, channel.wake, channel.loop)

    @rule(base=CHANNELS)
    def take(self, base: str) -> None:
        name = self.name(base)
        channel = self.channel(name)
        if channel.inbox is None or not channel.ready:
            return
        live = self.live(name)
        message = channel.inbox.take()
        if live:
            assert message == {"type": "x", "n": live.pop(0)}
            self.delivered += 1
        else:
            assert message is None
            channel.ready = False

    @rule(base=CHANNELS)
    def receive(self, base: str) -> None:
        name = self.name(base)
        if self.channel(name).inbox is not None:
            with pytest.raises(RuntimeError, match="has an owner"):
                self.exchange.receive(name, ThreadReceiver, None)
            return
        live = self.live(name)
        entered = self.exchange.receive(name, ThreadReceiver, None)
        if live:
            assert isinstance(entered, Parcel)
            assert self.open(entered) == {"type": "x", "n": live.pop(0)}
            self.delivered += 1
        else:
            assert isinstance(entered, ThreadReceiver)
            self.receivers.append(entered)

    def open(self, parcel: Parcel | None) -> Message | None:
        return None if parcel is None else parcel.open(self.exchange.deserialize)

    @precondition(lambda self: self.receivers)
    @rule(data=st.data())
    def receiver_goes_on(self, data: st.DataObject) -> None:
        receiver = data.draw(st.sampled_from(self.receivers))
        assert receiver.wait(0) == (receiver in self.given)
        if receiver in self.given:
            self.receivers.remove(receiver)
            assert self.open(receiver.parcel) == {"type": "x", "n": self.given.pop(receiver)}

    @precondition(lambda self: self.receivers)
    @rule(data=st.data())
    def receiver_is_cancelled(self, data: st.DataObject) -> None:
        receiver = data.draw(st.sampled_from(self.receivers))
        self.receivers.remove(receiver)
        number = self.given.pop(receiver, None)
        self.exchange.abandon(receiver)
        if number is None:
            return
        name = receiver.channel
        if name in self.closed:
            self.delivered -= 1
        elif queue := self.queue(name):
            self.given[queue[0]] = number
        else:
            self.delivered -= 1
            waiting = self.channel(name).waiting
            waiting.append(number)
            waiting.sort()

    @rule(base=CHANNELS)
    def close_channel(self, base: str) -> None:
        name = self.name(base)
        inbox, waiting = self.channel(name).inbox, self.queue(name)
        self.exchange.close_channel(name)
        self.exchange.close_channel(name)
        for receiver in waiting:
            assert receiver.closed
            assert receiver.wait(0)
            self.receivers.remove(receiver)
        if inbox is not None:
            assert inbox.closed
            assert inbox.take() is None
        self.forget(name)

    @precondition(lambda self: any(until > self.clock.now for until in self.closed.values()))
    @rule(data=st.data(), group=GROUPS)
    def use_a_closed_channel(self, data: st.DataObject, group: str) -> None:
        name = data.draw(st.sampled_from([name for name, until in self.closed.items() if until > self.clock.now]))
        self.exchange.send(name, self.message())
        self.addressed += 1
        self.exchange.group_add(group, name)
        assert name not in self.exchange.board.channels
        with pytest.raises(ChannelClosed):
            self.exchange.receive(name, ThreadReceiver, None)
        with pytest.raises(ChannelClosed):
            self.exchange.attach(name, lambda: None, Loop())  # type: ignore[arg-type]

    @rule(base=CHANNELS)
    def owners_loop_is_closed(self, base: str) -> None:
        """End a loop that did not close its channels: the next message to an empty one finds that out."""
        name = self.name(base)
        channel = self.channel(name)
        if channel.inbox is None or len(channel.inbox) or channel.overflowed:
            return
        channel.loop.closed = True
        self.exchange.send(name, self.message())
        self.addressed += 1
        assert channel.inbox.closed
        self.forget(name)

    @rule()
    def flush(self) -> None:
        for channel in self.channels.values():
            channel.waiting = []
        self.groups = {}
        self.exchange.flush()

    @rule(seconds=st.sampled_from([0.1, 3.0, EXPIRY, 3 * EXPIRY]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # What holds after every call

    @invariant()
    def owners_know_what_waits(self) -> None:
        for name, channel in self.channels.items():
            if channel.inbox is not None and self.live(name):
                assert channel.ready, name
                assert len(channel.inbox) >= len(channel.waiting)

    @invariant()
    def every_message_is_counted(self) -> None:
        stats = self.layer.stats()
        assert stats["addressed"] == self.addressed
        assert stats["delivered"] == self.delivered
        assert stats["dropped_full"] == self.full
        assert stats["waiting"] == sum(map(len, self.exchange.board.channels.values()))

    @invariant()
    def groups_have_the_members_that_joined(self) -> None:
        members = {name: list(group.members) for name, group in self.exchange.board.groups.items()}
        assert members == {name: list(joined) for name, joined in self.groups.items() if joined}

    @invariant()
    def nothing_is_kept_that_nobody_needs(self) -> None:
        for name, inbox in self.exchange.board.channels.items():
            assert inbox.loop or inbox.groups or inbox.receiver or len(inbox), name

    def teardown(self) -> None:
        for _ in range(3):  # once for what is due now, and again for what that entered anew
            self.clock.advance(2 * EXPIRY)
            for _ in range(4):
                self.exchange.send("last!", self.message())
                self.exchange.close_channel("last!")
        for name in list(self.exchange.board.channels):
            self.exchange.close_channel(name)
        stats = self.layer.stats()
        assert (stats["waiting"], stats["channels"], stats["groups"]) == (0, 0, 0)
        assert not self.exchange.board._due


class DropOldestMachine(LayerMachine):
    overflow = "drop_oldest"


class CloseMachine(LayerMachine):
    overflow = "close"


LIMITS = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))

TestDropNewest = LayerMachine.TestCase
TestDropNewest.settings = LIMITS
TestDropOldest = DropOldestMachine.TestCase
TestDropOldest.settings = LIMITS
TestClose = CloseMachine.TestCase
TestClose.settings = LIMITS
