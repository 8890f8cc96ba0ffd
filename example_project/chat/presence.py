"""Who is in which room.

Kept in this process, in plain dictionaries, which costs nothing and needs no lock: consumers run in one event
loop. Several server processes would each count their own visitors.
"""

from collections import Counter, defaultdict


class Presence:
    """Counts the windows that each name has open in each room."""

    def __init__(self) -> None:
        self._rooms: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def enter(self, room: str, name: str) -> bool:
        """Note one more window, and return whether the name is new in the room."""
        self._rooms[room][name] += 1
        return self._rooms[room][name] == 1

    def leave(self, room: str, name: str) -> bool:
        """Note one window less, and return whether it was the last one of that name."""
        names = self._rooms[room]
        names[name] -= 1
        if names[name] > 0:
            return False
        del names[name]
        if not names:
            del self._rooms[room]
        return True

    def people(self, room: str) -> int:
        """Return how many names are in a room."""
        return len(self._rooms[room]) if room in self._rooms else 0

    def total(self) -> tuple[int, int]:
        """Return how many people are in how many rooms. A person in two rooms counts twice."""
        return sum(len(names) for names in self._rooms.values()), len(self._rooms)


presence = Presence()
