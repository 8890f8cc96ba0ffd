"""The part of Channels' SessionMiddleware that middleware of a project may use by itself."""

from importlib import import_module
from typing import Any

from django.conf import settings

from sealane.routing.sessions import _Answer, _save
from sealane.types import Message, Scope, Send

__all__ = ["InstanceSessionWrapper"]


class InstanceSessionWrapper:
    """The session of one connection, in a copy of its scope, and a ``send`` that saves it with the answer.

    A scope that has a session already keeps it, and then nothing is saved: ``activated`` is False. What is saved, and
    when, is as SessionMiddleware has it. Without ``scope["cookies"]`` it is a ValueError.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self.cookie_name = settings.SESSION_COOKIE_NAME
        self.session_store: Any = import_module(settings.SESSION_ENGINE).SessionStore
        self.scope = dict(scope)
        self.activated = "session" not in self.scope
        self.real_send = send
        if self.activated:
            if "cookies" not in self.scope:
                raise ValueError(
                    "InstanceSessionWrapper found no 'cookies' in the scope: put CookieMiddleware outside of it"
                )
            self.scope["session"] = self.session_store(self.scope["cookies"].get(self.cookie_name))
            self._answer = _Answer(self.scope["session"], self.scope, send)

    async def resolve_session(self) -> None:
        """Do nothing: the session is there, and is loaded when it is first read."""

    async def send(self, message: Message) -> None:
        """Send an event, with the session saved before the answer begins."""
        if self.activated:
            await self._answer.send(message)
        else:
            await self.real_send(message)

    async def save_session(self) -> None:
        """Save the session now. Raises SuspiciousOperation where it was deleted meanwhile."""
        await _save(self.scope["session"])
