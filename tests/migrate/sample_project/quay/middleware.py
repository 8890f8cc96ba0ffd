from __future__ import annotations

from typing import TYPE_CHECKING, Any

import channels.middleware
from channels.db import database_sync_to_async as in_thread

if TYPE_CHECKING:
    from channels.consumer import AsyncConsumer


class FlagMiddleware(channels.middleware.BaseMiddleware):
    """Puts into the scope whether anybody has an account."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> AsyncConsumer:
        scope = dict(scope, accounts=await in_thread(self.count)())
        return await super().__call__(scope, receive, send)

    def count(self) -> int:
        from django.contrib.auth.models import User

        return User.objects.count()
