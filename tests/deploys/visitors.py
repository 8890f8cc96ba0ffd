"""Those who use the site: clients that follow a room by the guide's own code, and somebody who says something in it."""

import asyncio
import contextlib
import importlib.util
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.deploys.site import LIMIT

__all__ = ["Follow", "Follower", "load_follow", "speak"]

#: The guide's function: an address, the origin, and what to call with each message.
Follow = Callable[[str, str, Callable[[dict[str, Any]], None]], Awaitable[None]]

#: Seconds between two messages of one who speaks.
PAUSE = 0.06

_current: ContextVar["Follower"] = ContextVar("follower")


def load_follow(project: Path) -> Follow:
    """Import the guide's client, with the connections of the library watched."""
    spec = importlib.util.spec_from_file_location("follow", project / "chat" / "follow.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.connect is connect
    module.connect = partial(connect, create_connection=_Watched, proxy=None, open_timeout=LIMIT)
    follow: Follow = module.follow
    return follow


class Follower:
    """A client of a room, and what it has seen: the messages, and how each of its connections ended."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.texts: list[str] = []
        #: The code of each close that the client did not begin; 1006 where there was none.
        self.codes: Counter[int] = Counter()
        #: Seconds from each close to the answer that has what was missed.
        self.absences: list[float] = []
        #: Connections that were opened.
        self.opened = 0
        self._closed_at: float | None = None

    def __repr__(self) -> str:
        return f"<Follower {len(self.numbers)} messages, opened {self.opened}, closed {dict(self.codes)}>"

    async def follow(self, follow: Follow, url: str) -> None:
        """Follow until cancelled."""
        _current.set(self)
        await follow(url, "https://example.com", self._show)

    @property
    def is_here(self) -> bool:
        """Whether it is connected, and has what was said before."""
        return self.opened == sum(self.codes.values()) + 1 and self._closed_at is None and bool(self.numbers)

    def _show(self, message: dict[str, Any]) -> None:
        self.numbers.append(message["number"])
        self.texts.append(message["text"])

    def has_received(self) -> None:
        if self._closed_at is not None:
            self.absences.append(time.monotonic() - self._closed_at)
            self._closed_at = None

    def was_closed(self, code: int) -> None:
        self.codes[code] += 1
        self._closed_at = time.monotonic()


class _Watched(ClientConnection):
    """A connection of the library that tells its follower what happens to it."""

    async def handshake(self, *args: Any, **options: Any) -> None:
        await super().handshake(*args, **options)
        _current.get().opened += 1

    async def recv(self, decode: bool | None = None) -> Any:
        with _noting_a_close():
            frame = await super().recv(decode)
        _current.get().has_received()
        return frame

    async def send(self, *args: Any, **options: Any) -> None:
        # A client that was just about to ask for what it missed learns of the close here.
        with _noting_a_close():
            await super().send(*args, **options)


@contextlib.contextmanager
def _noting_a_close() -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as error:
        _current.get().was_closed(error.rcvd.code if error.rcvd else 1006)
        raise


async def speak(url: str, name: str, until: asyncio.Event, *, reset: list[str] | None = None) -> list[str]:
    """Say something again and again by the view of the guide, and return what was committed, by what it answers.

    Each time over a new connection, as somebody who has just come. What was answered with 502 may have been committed
    or not. So may what met a worker that was about to close its port, where nobody stands in between who would go to
    another one: it is put into ``reset``. Raise where anything else happens, and for that too where there is no list.
    """
    said: list[str] = []
    client = httpx.AsyncClient(base_url=url, timeout=LIMIT, trust_env=False, headers={"connection": "close"})
    async with client:
        (await client.get("/chat/lobby/")).raise_for_status()
        for number in itertools.count():
            if until.is_set():
                break
            fields = {"name": name, "text": f"{name} {number}"}
            headers = {"x-csrftoken": client.cookies["csrftoken"]}
            try:
                answer = await client.post("/chat/lobby/say/", data=fields, headers=headers)
            except httpx.TransportError:
                if reset is None:
                    raise
                reset.append(fields["text"])
            else:
                if answer.status_code != httpx.codes.BAD_GATEWAY:
                    answer.raise_for_status()
                    said.append(fields["text"])
            await asyncio.sleep(PAUSE)
    return said
