"""Database work from coroutines."""

import asyncio
import threading

from asgiref.sync import SyncToAsync
from channels.db import DatabaseSyncToAsync, aclose_old_connections, database_sync_to_async
from django.contrib.auth import get_user_model

from tests.compat.transcripts import Transcript, case, failing


@case
async def calling(out: Transcript) -> None:
    def add(first, second=1):
        return first + second

    out.say(await database_sync_to_async(add)(1, second=2))
    out.say(isinstance(database_sync_to_async(add), SyncToAsync), database_sync_to_async is DatabaseSyncToAsync)


@case
async def decorating(out: Transcript) -> None:
    class Rooms:
        name = "lobby"

        @database_sync_to_async
        def count(self, more):
            """Its text."""
            return f"{self.name} {get_user_model().objects.filter(username='nobody').count() + more}"

    out.say(await Rooms().count(2))
    out.say(asyncio.iscoroutinefunction(Rooms.count), Rooms.count.func.__doc__)


@case
async def threads(out: Transcript) -> None:
    def where():
        return threading.current_thread()

    first, second = await database_sync_to_async(where)(), await database_sync_to_async(where)()
    out.say(first is second, first is threading.main_thread())
    other = await database_sync_to_async(where, thread_sensitive=False)()
    out.say(other is first)


@case
async def errors(out: Transcript) -> None:
    def fail():
        raise LookupError("no such room")

    await failing(out, "fail", lambda: database_sync_to_async(fail)())
    try:
        await database_sync_to_async(get_user_model().objects.get)(username="nobody")
    except get_user_model().DoesNotExist:
        out.say("DoesNotExist")


@case
async def coroutine_functions(out: Transcript) -> None:
    async def coroutine():
        return 1

    try:
        database_sync_to_async(coroutine)
    except TypeError:
        out.say("TypeError")
    else:
        out.say("taken")


@case
async def old_connections(out: Transcript) -> None:
    out.say(await aclose_old_connections())
