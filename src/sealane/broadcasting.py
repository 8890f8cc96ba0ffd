"""``sealane.broadcast()`` and ``abroadcast()``: a message to a group, from any code of a Django project."""

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from sealane.layers import DEFAULT_CHANNEL_LAYER, channel_layers
from sealane.layers.exchange import running_loop
from sealane.types import Message

__all__ = ["abroadcast", "broadcast"]


def broadcast(
    group: str,
    event: Message,
    *,
    on_commit: bool = False,
    using: str | None = None,
    layer: str = DEFAULT_CHANNEL_LAYER,
) -> None:
    """Send an event to every channel of a group, from synchronous code: ``layer.sync.group_send()`` in short.

    ``event`` is a message: a dict whose ``type`` names the handler of the consumers that get it. ``layer`` is an alias
    of CHANNEL_LAYERS. With ``on_commit`` the event is checked and packed at once, and sent when the transaction on the
    database ``using`` (None: the default one) is committed; never, where that is rolled back; at once, where there is
    no transaction. An error of sending after the commit is logged, not raised.

    It may be called in any thread without a running event loop; in one with a loop it raises
    SynchronousOnlyOperation and sends nothing. Raises UnknownChannelLayer for an alias that is not configured,
    TypeError for ``using`` without ``on_commit``, and what ``group_send()`` raises: InvalidName,
    UnserializableMessage, MessageTooLarge, and the errors of the layer's server.
    """
    if running_loop() is not None:
        raise SynchronousOnlyOperation(
            "sealane.broadcast() was called in a thread that runs an event loop, which it would block. Write "
            "'await sealane.abroadcast(...)' there, or call it in a thread of its own with sync_to_async"
        )
    channel_layers[layer].sync.group_send(group, event, on_commit=on_commit, using=using)


async def abroadcast(
    group: str,
    event: Message,
    *,
    on_commit: bool = False,
    using: str | None = None,
    layer: str = DEFAULT_CHANNEL_LAYER,
) -> None:
    """Send an event to every channel of a group, from asynchronous code: ``await layer.group_send()`` in short.

    Arguments and errors are those of :func:`broadcast`. With ``on_commit`` it waits for the transaction of the thread
    in which the asynchronous ORM works, where one is open: in a coroutine that synchronous code runs by
    ``async_to_sync`` inside ``atomic()``. Cancelled, it has sent the event or not; with ``on_commit`` the call in that
    thread goes on.
    """
    if on_commit or using is not None:
        await sync_to_async(broadcast)(group, event, on_commit=on_commit, using=using, layer=layer)
    else:
        await channel_layers[layer].group_send(group, event)
