"""The end of a login, told to the sockets of its user: in every process, through the channel layers.

Each connection of a logged-in user is in a group of that user. When a session is logged out, the group gets a message
with a digest of the session's key, and the connections of that session close. When an account changes so that logins
end (a new password, deactivated, deleted), it gets one without, and each connection of the user looks for itself.

Neither the group's name nor the message holds a session key, or anything that would let one be guessed. Only who has
the key can make the digest of it: who makes a site relay a message of this type can end a session that they could as
well log out, or cause a check, of which each connection makes one per second at most.
"""

import asyncio
import hashlib
import logging
from typing import Any, Final, Literal

from django.utils.crypto import constant_time_compare

from sealane.consumers.admission import is_logged_in
from sealane.layers import channel_layers
from sealane.layers.names import group_name
from sealane.types import Message

__all__ = ["REVOKED", "announce", "judge", "revoked_message", "user_group"]

logger = logging.getLogger("sealane.consumers")

#: The type of the message. It belongs to the framework: no handler of a consumer gets it.
REVOKED: Final = "sealane.revoked"


def user_group(user: Any) -> str | None:
    """Return the name of a user's group; None for one who is not logged in, or has no primary key."""
    if not is_logged_in(user) or getattr(user, "pk", None) is None:
        return None
    # A proxy of the model, and a lazy object around it, is the same user.
    model = getattr(getattr(user, "_meta", None), "concrete_model", None)
    kind = model._meta.label_lower if model is not None else type(user).__qualname__
    return group_name("sealane-user", kind, str(user.pk))


def revoked_message(session_key: str | None) -> Message:
    """Return the message for a session that has ended; with None, for an account that has changed."""
    return {"type": REVOKED, "session": None if session_key is None else _digest(session_key)}


def judge(message: Message, session_key: str | None) -> Literal["close", "check"] | None:
    """Return what a message means for a connection with this session; None for nothing."""
    digest = message.get("session", "")
    if digest is None:
        return "check"
    if session_key is None or not isinstance(digest, str):
        return None
    return "close" if constant_time_compare(digest, _digest(session_key)) else None


def _digest(session_key: str) -> str:
    return hashlib.sha256(b"sealane.session:" + session_key.encode()).hexdigest()


def announce(user: Any, session_key: str | None, *, using: str | None = None) -> None:
    """Tell the sockets of a user that a session has ended; with None, that the account has changed.

    It goes through every layer of CHANNEL_LAYERS that has groups; inside a transaction on the database ``using`` after
    its commit, and never if that is rolled back. What fails is logged and not raised: who logs out is logged out.
    From a thread that runs an event loop it is sent by another thread, and nobody waits for it.
    """
    from django.db import transaction

    group = user_group(user)
    if group is None:
        return
    message = revoked_message(session_key)
    if transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(lambda: _deliver(group, message), using=using)
    else:
        _deliver(group, message)


def _deliver(group: str, message: Message) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _send(group, message)
    else:
        loop.run_in_executor(None, _send, group, message)


def _send(group: str, message: Message) -> None:
    try:
        for alias in channel_layers.configs:
            layer = channel_layers[alias]
            if "groups" in layer.extensions:
                layer.sync.group_send(group, message)
    except Exception as error:
        logger.warning("The sockets of a user were not told that a login has ended: %s", error)
