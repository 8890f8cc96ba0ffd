"""Who is in which room.

Kept in the database, where every server process sees it. A process that is killed cannot say that its windows are
gone: a visit counts only as long as it is refreshed, and whoever finds one that is not puts an end to it.
"""

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from chat.models import Room, Visit

#: Seconds between two refreshes of a visit, and seconds for which it counts without one.
REFRESH = 10
LEASE = 30


def visits() -> QuerySet[Visit]:
    """Return the visits that count."""
    return Visit.objects.filter(seen__gt=timezone.now() - timedelta(seconds=LEASE))


async def enter(room: Room, name: str) -> tuple[Visit, bool]:
    """Note one more window; return its visit, and whether the name is new in the room."""
    visit = await Visit.objects.acreate(room=room, name=name)
    return visit, await visits().filter(room=room, name=name).acount() == 1


async def leave(visit: Visit) -> bool:
    """Note one window less; return whether it was the last one of its name in the room."""
    # Whoever deletes it is the one who tells: only one of several processes.
    deleted, _ = await Visit.objects.filter(pk=visit.pk).adelete()
    return deleted > 0 and not await visits().filter(room=visit.room, name=visit.name).aexists()


async def sweep() -> list[Visit]:
    """End the visits that nobody refreshes; return those that were the last ones of their names."""
    stale = Visit.objects.filter(seen__lte=timezone.now() - timedelta(seconds=LEASE)).select_related("room")
    gone = {(visit.room, visit.name): visit async for visit in stale if await leave(visit)}
    return list(gone.values())


async def people(room: Room) -> int:
    """Return how many names are in a room."""
    return await visits().filter(room=room).values("name").distinct().acount()


async def total() -> tuple[int, int]:
    """Return how many people are in how many rooms. A person in two rooms counts twice."""
    names = await visits().values("room", "name").distinct().acount()
    return names, await visits().values("room").distinct().acount()
