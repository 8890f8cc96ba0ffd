"""The layer of channels_redis that keeps queues in Redis."""

import os
import secrets

from channels.layers import BaseChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.serializers import JSONSerializer, registry

from tests.compat.programs.layers import SHARED, received, shared_case
from tests.compat.transcripts import Transcript, case, failing


def make(**options):
    """A layer of nobody else."""
    hosts = [os.environ["COMPAT_REDIS"]]
    return RedisChannelLayer(**{"hosts": hosts, "prefix": f"compat{secrets.token_hex(8)}", **options})


for _function in SHARED:
    globals()[_function.__name__] = shared_case(_function, make, __name__)


@case
async def its_class(out: Transcript) -> None:
    out.say(issubclass(RedisChannelLayer, BaseChannelLayer))


@case
async def encryption(out: Transcript) -> None:
    layer = make(symmetric_encryption_keys=["new", "old"])
    await layer.send("queue", {"type": "n", "secret": "s"})
    out.say(await received(layer, "queue", 1))

    async def wrong():
        make(symmetric_encryption_keys="one key")

    await failing(out, "a text for keys", wrong, text=False)


@case
async def json_on_the_wire(out: Transcript) -> None:
    layer = make(serializer_format="json")
    await layer.send("queue", {"type": "n", "list": [1, "é"]})
    out.say(await received(layer, "queue", 1))


@case
async def a_format_of_ones_own(out: Transcript) -> None:
    class Reversed(JSONSerializer):
        def as_bytes(self, message, *args, **kwargs):
            return super().as_bytes(message, *args, **kwargs)[::-1]

        def from_bytes(self, message, *args, **kwargs):
            return JSONSerializer.from_bytes(message[::-1])

    registry.register_serializer("reversed", Reversed)
    layer = make(serializer_format="reversed")
    await layer.send("queue", {"type": "n", "list": [1, "x"]})
    out.say(await received(layer, "queue", 1))
    made = registry.get_serializer("reversed", random_prefix_length=4)
    out.say(type(made) is Reversed, made.deserialize(made.serialize({"a": 1})), len(made.serialize({})))
    try:
        registry.get_serializer("unknown")
    except KeyError:
        out.say("KeyError")


@case
async def hosts(out: Transcript) -> None:
    async def text():
        make(hosts="redis://localhost")

    await failing(out, "a text for hosts", text, text=False)
    url = os.environ["COMPAT_REDIS"]
    address, port = url.split("//")[1].split("/")[0].split(":")
    for form in ([(address, int(port))], [{"address": url}], [{"host": address, "port": int(port)}]):
        layer = make(hosts=form)
        await layer.send("queue", {"type": "n"})
        out.say(await received(layer, "queue", 1))


@case
async def closing(out: Transcript) -> None:
    layer = make()
    await layer.send("queue", {"type": "n"})
    out.say(await layer.close_pools())
