"""What a consumer does about its user: refuse one, follow what becomes of the login, end with it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, ClassVar

from sealane.consumers.admission import UNAUTHENTICATED, Refusal, UserTest, examine, is_logged_in
from sealane.consumers.complaint import Complaint
from sealane.consumers.credentials import CREDENTIALS, credentials_of
from sealane.consumers.dispatch import Dispatcher
from sealane.consumers.group_limit import LimitedLayer
from sealane.consumers.revalidation import PATIENCE, Revalidation
from sealane.consumers.revocation import judge, user_group
from sealane.db import DatabaseUse
from sealane.layers import BaseChannelLayer
from sealane.types import Message, Receive, Scope, Send

__all__ = ["Attendance"]

logger = logging.getLogger("sealane.consumers")

# What all connections would say at the same time, when a server is away.
_unanswered = Complaint()
_unheard = Complaint()


class Attendance:
    """The part of every consumer that concerns its user; what it promises is told in the reference of consumers."""

    revalidate: float | None
    close_on_logout: bool
    scope: Scope
    channel_layer: BaseChannelLayer | Any
    channel_name: str
    _database: DatabaseUse
    _dispatcher: Dispatcher
    #: Whether the protocol is one in which somebody can be refused, so that decorators for users apply.
    _can_refuse: ClassVar[bool] = False
    _user_tests: ClassVar[tuple[UserTest, ...]] = ()
    _revalidation: Revalidation | None = None
    _followed_user: Any = None
    _followed_group: str | None = None

    def _name(self) -> str:
        raise NotImplementedError

    def _begin_check(self, check: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection."""
        raise NotImplementedError

    async def _refused(self, receive: Receive, send: Send) -> bool:
        """Refuse a connection whose user may not use the consumer. Returns whether it did."""
        try:
            refusal = await examine(self._user_tests, self.scope)
        finally:
            if self._database.is_due():
                await self._database.close_old_connections()
        if refusal is None:
            return False
        event = await receive()
        if not event["type"].endswith(".disconnect"):
            try:
                for answer in self._refusal_of(refusal):
                    await send(answer)
            except OSError as error:
                logger.debug("%s: nobody was there to be refused: %s", self._name(), error)
        return True

    def _refusal_of(self, refusal: Refusal) -> list[Message]:
        """The events that refuse a connection which was not answered yet."""
        raise NotImplementedError

    async def _expel(self, refusal: Refusal) -> None:
        """End the connection of a user who may not have it any more."""
        raise NotImplementedError

    async def _follow_user(self) -> None:
        """Be in the group of the scope's user, which is told when a login of theirs ends.

        A layer that is away refuses nobody: then it is tried again when the user is read anew.
        """
        user = self.scope.get("user")
        # The group of the user is none of those that the consumer joins.
        layer = self.channel_layer.unlimited if isinstance(self.channel_layer, LimitedLayer) else self.channel_layer
        if user is self._followed_user or not self.close_on_logout or layer is None or "groups" not in layer.extensions:
            return
        group, before = user_group(user), self._followed_group
        try:
            if before is not None and before != group:
                await layer.group_discard(before, self.channel_name)
                self._followed_group = None
            if group is not None and before != group:
                await layer.group_add(group, self.channel_name)
            self._followed_user, self._followed_group = user, group
        except Exception as error:
            if _unheard.is_due():
                logger.warning("%s would not notice a logout: %s", self._name(), error)

    def _watch_user(self) -> None:
        """Begin to read the user anew at intervals. Called in the thread of the event loop."""
        # A synchronous consumer may be told late that it has accepted.
        if self.revalidate is not None and self._dispatcher.outcome is None:
            self._make_revalidation().start()

    def _make_revalidation(self) -> Revalidation:
        if self._revalidation is None:
            loop = asyncio.get_running_loop()
            self._revalidation = Revalidation(self.revalidate, self._check_user, self._begin_check, loop)
        return self._revalidation

    async def _check_user(self) -> None:
        """Read the user anew, and end the connection of one who may not have it any more."""
        user = self.scope.get("user")
        if not is_logged_in(user):
            return
        credentials = credentials_of(self.scope)
        try:
            async with asyncio.timeout(PATIENCE):
                fresh = await credentials.recheck()
                # Before the scope has them: a test that cannot be made says nothing about the user.
                tests = () if fresh is None else self._user_tests
                refusal = await examine(tests, {**self.scope, "user": fresh})
        except Exception as error:
            # The type alone: a text that we did not write may hold a token.
            if _unanswered.is_due():
                logger.warning(
                    "%s: the user could not be read anew, and stays until the next try: %s",
                    self._name(),
                    type(error).__qualname__,
                )
            return
        if self.scope.get("user") is not user:
            return  # a handler logged somebody in or out meanwhile
        if fresh is None:
            refusal = UNAUTHENTICATED
        else:
            self.scope["user"] = fresh
            if self._followed_user is user:
                self._followed_user = fresh
        if refusal is not None:
            await self._expel(refusal)
        else:
            await self._follow_user()

    async def _revoked(self, message: Message) -> None:
        """Handle that a login of the user has ended somewhere."""
        if not is_logged_in(self.scope.get("user")):
            return
        # Where a middleware of the user's own left no credentials, a session may be there all the same.
        source = self.scope.get(CREDENTIALS) or self.scope.get("session")
        match judge(message, getattr(source, "session_key", None)):
            case "close":
                await self._expel(UNAUTHENTICATED)
            case "check":
                self._make_revalidation().ask()
