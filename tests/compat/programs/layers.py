"""Channel layers: the in-memory one, and what every layer does."""

import asyncio

from channels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from channels.layers import (
    BaseChannelLayer,
    ChannelLayerManager,
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
)
from django.test import override_settings

from tests.compat.transcripts import Transcript, case, failing


async def received(layer, channel, count):
    """The next messages of a channel."""
    return [await asyncio.wait_for(layer.receive(channel), 3) for _ in range(count)]


async def idle(layer, channel):
    """Whether nothing comes."""
    try:
        await asyncio.wait_for(layer.receive(channel), 0.2)
    except TimeoutError:
        return True
    return False


async def sending(out, make):
    """Messages to channels, in their order."""
    layer = make()
    for number in range(3):
        await layer.send("queue", {"type": "n", "number": number, "nested": {"a": [1, None, True, 2.5, "é"]}})
    out.say(await received(layer, "queue", 3))
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "to one"})
    out.say(await received(layer, channel, 1), await idle(layer, channel))
    out.say(await layer.send("nobody.listens", {"type": "x"}))


async def names_of_new_channels(out, make):
    """What a new name looks like."""
    layer = make()
    first, second = await layer.new_channel(), await layer.new_channel()
    out.say(first != second, first.startswith("specific."), first.count("!"), len(first) < 100)
    out.say((await layer.new_channel("mine")).startswith("mine"), layer.require_valid_channel_name(first))


async def groups(out, make):
    """Joining, sending, leaving."""
    layer = make()
    first, second = await layer.new_channel(), await layer.new_channel()
    out.say(await layer.group_add("room", first), await layer.group_add("room", second))
    await layer.group_add("room", first)
    out.say(await layer.group_send("room", {"type": "chat.message", "n": 1}))
    await layer.group_send("room", {"type": "chat.message", "n": 2})
    out.say(await received(layer, first, 2), await received(layer, second, 2))
    out.say(await idle(layer, first))
    out.say(await layer.group_discard("room", first))
    await layer.group_discard("room", first)
    await layer.group_discard("never.was", first)
    await layer.group_send("room", {"type": "chat.message", "n": 3})
    out.say(await received(layer, second, 1), await idle(layer, first))
    out.say(await layer.group_send("empty", {"type": "chat.message"}))


async def capacity(out, make):
    """Which send is one too many, and for which channel."""
    layer = make(capacity=3)
    for number in range(3):
        await layer.send("full", {"type": "n", "number": number})
    try:
        await layer.send("full", {"type": "n", "number": 3})
    except ChannelFull:
        out.say("ChannelFull")
    await layer.send("other", {"type": "n"})
    out.say(await received(layer, "full", 3))
    await layer.send("full", {"type": "n", "number": 4})
    out.say(await received(layer, "full", 1))


async def capacities_by_name(out, make):
    """What channel_capacity matches."""
    layer = make(capacity=1, channel_capacity={"http.*": 2})
    for channel in ("http.request", "other"):
        sent = 0
        try:
            for _ in range(4):
                await layer.send(channel, {"type": "n"})
                sent += 1
        except ChannelFull:
            out.say(channel, sent)
    out.say(layer.get_capacity("http.x"), layer.get_capacity("x"))


async def a_full_member(out, make):
    """A group with a member that reads nothing."""
    layer = make(capacity=2)
    channel, other = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", channel)
    for number in range(4):
        out.say(await layer.group_send("room", {"type": "n", "number": number}))
    await layer.group_add("room", other)
    await layer.group_send("room", {"type": "n", "number": 5})
    await failing(out, "the other member", lambda: received(layer, other, 1), text=False)
    await failing(out, "the full member", lambda: received(layer, channel, 2), text=False)


async def expiry(out, make):
    """A message that nobody takes."""
    layer = make(expiry=1)
    await layer.send("late", {"type": "n"})
    await asyncio.sleep(1.3)
    out.say(await idle(layer, "late"))


async def flushing(out, make):
    """Everything is gone."""
    layer = make()
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.send("queue", {"type": "n"})
    out.say(await layer.flush())
    out.say(await idle(layer, "queue"))


async def bad_names(out, make):
    """Which names are not taken, and with which error."""
    layer = make()
    message = {"type": "n"}
    for name in ("with space", "é", "x" * 100, "", 1, None, "a/b", "a:b"):
        shown = name if not isinstance(name, str) or len(name) < 20 else "long"
        await failing(out, f"send {shown!r}", lambda name=name: layer.send(name, message), text=False)
        await failing(out, f"group_send {shown!r}", lambda name=name: layer.group_send(name, message), text=False)
        await failing(out, f"group_add {shown!r}", lambda name=name: layer.group_add(name, "channel"), text=False)
    for name in ("a!b", "a.b-c_d", "x" * 99, "A9"):
        await layer.send(name, message)
        out.say("taken", len(name))
    for name in ("a!b", "a!"):
        await failing(out, f"group {name}", lambda name=name: layer.group_send(name, message), text=False)


async def bad_messages(out, make):
    """What is no message."""
    layer = make()
    for message in ("text", [1], None):
        await failing(out, f"send {message!r}", lambda message=message: layer.send("queue", message), text=False)
        await failing(out, f"group {message!r}", lambda message=message: layer.group_send("g", message), text=False)


async def cancelled_receive(out, make):
    """A receive() that was given up takes nothing with it."""
    layer = make()
    channel = await layer.new_channel()
    out.say(await idle(layer, channel))
    await layer.send(channel, {"type": "n"})
    out.say(await received(layer, channel, 1))


async def waiting(out, make):
    """A receive() that waits gets what is sent later."""
    layer = make()
    channel = await layer.new_channel()
    task = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0.05)
    await layer.send(channel, {"type": "n"})
    out.say(await asyncio.wait_for(task, 5))


async def wire(out, make):
    """What becomes of types."""
    layer = make()
    await layer.send("queue", {"type": "n", "tuple": (1, (2, 3)), "bytes": b"\x00", "int": 2**40, "empty": {}})
    out.say(await received(layer, "queue", 1))


async def copies(out, make):
    """Who changes a message changes their own."""
    layer = make()
    first, second = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", first)
    await layer.group_add("room", second)
    message = {"type": "n", "list": [1]}
    await layer.group_send("room", message)
    message["list"].append(2)
    [mine] = await received(layer, first, 1)
    mine["list"].append(3)
    out.say(message, mine, await received(layer, second, 1))


async def attributes(out, make):
    """What a layer says of itself."""
    layer = make(expiry=7, capacity=8)
    out.say(layer.expiry, layer.capacity, sorted(set(layer.extensions) & {"groups", "flush"}))


SHARED = (
    sending,
    names_of_new_channels,
    groups,
    capacity,
    capacities_by_name,
    a_full_member,
    expiry,
    flushing,
    bad_names,
    bad_messages,
    cancelled_receive,
    waiting,
    wire,
    copies,
    attributes,
)


def shared_case(function, make, module):
    """A case of a module, for a layer of its kind."""

    async def run(out: Transcript) -> None:
        await function(out, make)

    run.__name__, run.__module__ = function.__name__, module
    return case(run)


for _function in SHARED:
    if _function is not capacities_by_name:
        globals()[f"_{_function.__name__}"] = shared_case(_function, InMemoryChannelLayer, __name__)


@case
async def channel_capacity_in_memory(out: Transcript) -> None:
    await failing(out, "by name", lambda: capacities_by_name(out, InMemoryChannelLayer), text=False)


@case
async def the_base_class(out: Transcript) -> None:
    class Layer(BaseChannelLayer):
        async def send(self, channel, message):
            self.require_valid_channel_name(channel)

        async def receive(self, channel):
            return {}

        async def new_channel(self, prefix="specific"):
            return f"{prefix}.mine!x"

    layer = Layer(expiry=5, capacity=6)
    out.say(layer.expiry, layer.capacity, layer.MAX_NAME_LENGTH, layer.non_local_name("a!b"))
    out.say(layer.match_type_and_length("x"), layer.match_type_and_length("x" * 100), layer.match_type_and_length(1))
    out.say(layer.valid_channel_names(["a", "b"]))
    out.say([(pattern.pattern, n) for pattern, n in layer.compile_capacities({"a*": 1})] != [])
    for name, call in (
        ("group_add", lambda: layer.group_add("g", "c")),
        ("group_discard", lambda: layer.group_discard("g", "c")),
        ("group_send", lambda: layer.group_send("g", {})),
        ("flush", lambda: layer.flush()),
    ):
        await failing(out, name, call, text=False)


@case
async def of_the_settings(out: Transcript) -> None:
    out.say(type(get_channel_layer()) is InMemoryChannelLayer, get_channel_layer() is channel_layers["default"])
    out.say(get_channel_layer("other"), "default" in channel_layers, "other" in channel_layers)
    with override_settings(CHANNEL_LAYERS={}):
        out.say(get_channel_layer())
    config = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"expiry": 5}, "TEST_CONFIG": {"expiry": 6}}
    with override_settings(CHANNEL_LAYERS={"default": config}):
        out.say(get_channel_layer().expiry, channel_layers.make_test_backend("default").expiry)
        own = InMemoryChannelLayer()
        channel_layers.set("default", own)
        out.say(get_channel_layer() is own, list(channel_layers.backends))
    out.say(isinstance(channel_layers, ChannelLayerManager))


@case
async def wrong_settings(out: Transcript) -> None:
    for config in ({}, {"BACKEND": "nowhere.Layer"}, {"BACKEND": "channels.layers.Nothing"}):
        with override_settings(CHANNEL_LAYERS={"default": config}):
            try:
                get_channel_layer()
            except InvalidChannelLayerError as error:
                out.say("InvalidChannelLayerError", isinstance(error, ValueError))
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
        try:
            channel_layers.make_test_backend("default")
        except InvalidChannelLayerError:
            out.say("InvalidChannelLayerError")


@case
async def errors(out: Transcript) -> None:
    out.say(issubclass(ChannelFull, Exception), issubclass(MessageTooLarge, Exception))
    out.say(isinstance(ChannelFull(), Exception), isinstance(ChannelFull("x"), Exception))
