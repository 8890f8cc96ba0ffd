"""``layer.sync``: the calls of a channel layer for synchronous code: views, management commands, Celery tasks."""

import logging
from abc import ABC, abstractmethod
from asyncio import wait_for
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation

from sealane.layers.exchange import running_loop
from sealane.types import Message

if TYPE_CHECKING:
    from sealane.layers.base import BaseChannelLayer

__all__ = ["BridgedSyncChannelLayer", "SyncChannelLayer", "after_commit", "refuse_event_loop"]

logger = logging.getLogger("sealane.layers")


def refuse_event_loop(call: str) -> None:
    """Raise SynchronousOnlyOperation where the calling thread runs an event loop, which a blocking call would stop."""
    if running_loop() is not None:
        name = call.partition("(")[0]
        raise SynchronousOnlyOperation(
            f"channel_layer.sync.{name}() was called in a thread that runs an event loop, which it would block. Write "
            f"'await channel_layer.{name}(...)' there, or call it in a thread of its own with sync_to_async"
        )


def after_commit(deliver: Callable[[], None], target: str, *, on_commit: bool, using: str | None) -> None:
    """Have a message that was checked and packed delivered when the transaction on a database is committed.

    It follows ``django.db.transaction.on_commit()``: where there is no transaction it is delivered at once, where the
    transaction or a savepoint around the call is rolled back it never is, and where autocommit is off it raises
    TransactionManagementError. ``using`` is a database alias; None is the default one.

    An error of ``deliver()`` is logged and not raised: what was committed stays committed, and whoever left the
    transaction could only mistake the error for its failure; other callbacks of the same commit would not run.

    Raises TypeError for an alias without ``on_commit``, where nothing would be waited for.
    """
    if not on_commit:
        raise TypeError(f"using={using!r} names the database whose commit is waited for; it needs on_commit=True")
    # Not at the head: a process that never asks for it need not have it.
    from django.db import transaction

    def deliver_to_channel_layer() -> None:
        try:
            deliver()
        except Exception as exc:
            logger.exception("A message to %s was not sent after the commit: %s", target, exc)

    transaction.on_commit(deliver_to_channel_layer, using=using)


class SyncChannelLayer(ABC):
    """The calls of a channel layer, to be made from any thread that runs no event loop.

    Each does what the call of the same name on the layer does, raises the same errors, and has happened when it
    returns. In a thread with a running event loop each raises SynchronousOnlyOperation and does nothing.
    """

    @abstractmethod
    def send(self, channel: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        """Send a message to a channel, as ``await layer.send()`` does.

        With ``on_commit`` it does so when the transaction on the database ``using`` is committed, as
        :meth:`group_send` says; that the channel is full is logged then.
        """

    @abstractmethod
    def receive(self, channel: str, timeout: float | None = None) -> Message:
        """Block until a message comes on a channel, and return it.

        With a ``timeout`` in seconds it raises TimeoutError where none came in time; no message is lost by that.
        """

    @abstractmethod
    def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a new channel."""

    @abstractmethod
    def close_channel(self, channel: str) -> None:
        """Close a channel, as ``await layer.close_channel()`` does."""

    @abstractmethod
    def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""

    @abstractmethod
    def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group."""

    @abstractmethod
    def group_send(self, group: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        """Send a message to every channel of a group, as ``await layer.group_send()`` does.

        With ``on_commit`` name and message are checked and the message is packed at once, with the same errors; it is
        sent after the transaction that is open on the database ``using`` (None: the default one) is committed, to the
        members of then, and never if that is rolled back. Without a transaction it is sent at once, as Django's
        ``transaction.on_commit()`` does. An error of sending is logged, not raised: the transaction has succeeded.
        """

    @abstractmethod
    def flush(self) -> None:
        """Drop every message and every group."""

    @abstractmethod
    def close(self) -> None:
        """Release what the layer holds."""


class BridgedSyncChannelLayer(SyncChannelLayer):
    """The synchronous face of a layer that brings none of its own: each call runs the asynchronous one to its end.

    It works with every layer, and costs an event loop per call; a layer that keeps connections per event loop opens
    new ones each time. A layer made for much synchronous use overrides ``BaseChannelLayer.sync``.
    """

    def __init__(self, layer: "BaseChannelLayer") -> None:
        self._layer = layer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._layer!r}>"

    def _run(self, call: str, *args: Any) -> Any:
        refuse_event_loop(call)
        return async_to_sync(getattr(self._layer, call))(*args)

    def _copy(self, message: Message) -> Message:
        """Return a message as it is now, whatever becomes of it before it is sent."""
        return self._layer.serializer.deserialize(self._layer.pack(message))

    def send(self, channel: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        if on_commit or using is not None:
            refuse_event_loop("send")
            self._layer.require_valid_channel_name(channel)
            send = partial(self._run, "send", channel, self._copy(message))
            after_commit(send, f"channel {channel!r}", on_commit=on_commit, using=using)
        else:
            self._run("send", channel, message)

    def receive(self, channel: str, timeout: float | None = None) -> Message:
        refuse_event_loop("receive")

        async def receive() -> Message:
            return await wait_for(self._layer.receive(channel), timeout)

        return async_to_sync(receive)()

    def new_channel(self, prefix: str = "specific") -> str:
        return str(self._run("new_channel", prefix))

    def close_channel(self, channel: str) -> None:
        self._run("close_channel", channel)

    def group_add(self, group: str, channel: str) -> None:
        self._run("group_add", group, channel)

    def group_discard(self, group: str, channel: str) -> None:
        self._run("group_discard", group, channel)

    def group_send(self, group: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        if on_commit or using is not None:
            refuse_event_loop("group_send")
            self._layer.require_valid_group_name(group)
            send = partial(self._run, "group_send", group, self._copy(message))
            after_commit(send, f"group {group!r}", on_commit=on_commit, using=using)
        else:
            self._run("group_send", group, message)

    def flush(self) -> None:
        self._run("flush")

    def close(self) -> None:
        self._run("close")
