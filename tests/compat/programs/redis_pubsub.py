"""The layer of channels_redis that publishes."""

import os
import secrets

from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.compat.programs import layers
from tests.compat.programs.layers import shared_case


def make(**options):
    """A layer of nobody else."""
    hosts = [os.environ["COMPAT_REDIS"]]
    return RedisPubSubChannelLayer(**{"hosts": hosts, "prefix": f"compat{secrets.token_hex(8)}", **options})


#: What the layer of channels_redis is able to do.
for _function in (layers.groups, layers.waiting, layers.copies):
    globals()[_function.__name__] = shared_case(_function, make, __name__)
