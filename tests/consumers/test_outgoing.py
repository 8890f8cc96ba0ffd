"""What goes to a client that reads slowly: when send() waits, what it raises, who is told."""

import asyncio
from typing import Any

import pytest

from sealane.consumers.outbox import OVERHEAD, Outbox
from sealane.consumers.outgoing import Outgoing
from sealane.types import Message
from tests.consumers.conftest import Run, until


def frame(number: int) -> Message:
    return {"type": "websocket.send", "text": str(number)}


class Server:
    """A server whose client reads when it is told to."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.sent: list[Any] = []
        self.error: Exception | None = None

    async def send(self, event: Message) -> None:
        await self.reads.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(event.get("text", event["type"]))


class Subject:
    def __init__(self, policy: Any = None, *, frames: int = 3, timeout: float | None = None) -> None:
        self.server = Server()
        self.slow: list[str] = []
        self.dropped: list[tuple[str, int]] = []
        self.lost: list[Exception] = []
        outbox = None if policy is None else Outbox(frames * (OVERHEAD + 1), policy)
        self.outgoing = Outgoing(
            self.server.send,
            outbox=outbox,
            timeout=timeout,
            slow=self.slow.append,
            dropped=lambda name, frames: self.dropped.append((name, frames)),
            lost=self.lost.append,
        )

    async def send(self, *numbers: int) -> None:
        for number in numbers:
            await self.outgoing.send(frame(number))
            await asyncio.sleep(0)  # one may go to the server meanwhile


def test_without_an_outbox_send_waits(run: Run) -> None:
    async def main() -> None:
        subject = Subject()
        sending = asyncio.ensure_future(subject.send(0, 1))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not sending.done()
        subject.server.reads.set()
        await sending
        assert subject.server.sent == ["0", "1"]
        await subject.outgoing.stop()
        assert (subject.slow, subject.dropped, subject.lost) == ([], [], [])

    run(main())


@pytest.mark.parametrize(
    ("policy", "arrive", "dropped"),
    [
        ("drop_oldest", ["0", "7", "8", "9"], [("dropped_oldest", 1)] * 6),
        ("drop_newest", ["0", "1", "2", "3"], [("dropped_newest", 1)] * 6),
    ],
)
def test_with_one_it_never_waits_and_the_policy_decides(
    run: Run, policy: str, arrive: list[str], dropped: list[Any]
) -> None:
    async def main() -> None:
        subject = Subject(policy)
        await subject.send(*range(10))
        subject.server.reads.set()
        await subject.outgoing.drain()
        # The first was with the server already.
        assert subject.server.sent == arrive
        assert subject.dropped == dropped
        await subject.send(10, 11)
        await subject.outgoing.drain()
        assert subject.server.sent == [*arrive, "10", "11"]

    run(main())


def test_close_ends_it_at_the_limit(run: Run) -> None:
    async def main() -> None:
        subject = Subject("close")
        await subject.send(*range(4))
        with pytest.raises(OSError, match="The client is too slow: over 1539 bytes would wait for it"):
            await subject.send(4)
        assert subject.slow == ["over 1539 bytes would wait for it"]
        await subject.outgoing.stop()
        assert subject.dropped == [("dropped_newest", 1), ("dropped_closed", 4)]
        await subject.outgoing.stop()
        assert len(subject.dropped) == 2

    run(main())


@pytest.mark.parametrize("policy", [None, "drop_oldest"])
def test_a_client_that_takes_nothing_for_too_long_is_slow(run: Run, policy: str | None) -> None:
    async def main() -> None:
        subject = Subject(policy, timeout=0.01)
        with pytest.raises(OSError, match=None if policy is None else "could not send a frame before this one"):
            while True:
                await subject.send(0)
        assert subject.slow == ["it took nothing for 0.01 seconds"]
        assert len(subject.lost) == (policy is not None)
        await subject.outgoing.stop()

    run(main())


def test_a_servers_own_timeout_is_an_error_like_others(run: Run) -> None:
    async def main() -> None:
        subject = Subject(timeout=5)
        subject.server.error = TimeoutError("the kernel's")
        subject.server.reads.set()
        with pytest.raises(TimeoutError, match="the kernel's"):
            await subject.send(0)
        assert subject.slow == []

    run(main())


def test_what_is_not_a_frame_waits_for_the_frames_before_it(run: Run) -> None:
    async def main() -> None:
        subject = Subject("close")
        await subject.send(0, 1)
        closing = asyncio.ensure_future(subject.outgoing.send({"type": "websocket.close"}))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not closing.done()
        subject.server.reads.set()
        await closing
        assert subject.server.sent == ["0", "1", "websocket.close"]

    run(main())


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), RuntimeError("a defect")], ids=repr)
def test_what_the_server_raises_is_told_and_ends_it(run: Run, error: Exception) -> None:
    async def main() -> None:
        subject = Subject("close")
        subject.server.error = error
        await subject.send(0, 1)
        subject.server.reads.set()
        await until(lambda: subject.lost)
        assert subject.lost == [error]
        for call in subject.send(2), subject.outgoing.drain():
            with pytest.raises(ConnectionResetError, match="could not send a frame before this one") as caught:
                await call
            assert caught.value.__cause__ is error
        await subject.outgoing.stop()
        assert subject.dropped == [("dropped_closed", 2)]

    run(main())


def test_a_cancelled_drain_leaves_the_frames_alone(run: Run) -> None:
    async def main() -> None:
        subject = Subject("close")
        await subject.send(0, 1)
        draining = asyncio.ensure_future(subject.outgoing.drain())
        await asyncio.sleep(0)
        draining.cancel()
        await asyncio.wait([draining])
        assert draining.cancelled()
        subject.server.reads.set()
        await subject.outgoing.drain()
        assert subject.server.sent == ["0", "1"]

    run(main())


def test_send_now_passes_what_waits(run: Run) -> None:
    async def main() -> None:
        subject = Subject("close")
        await subject.send(0, 1)
        subject.server.reads.set()
        await subject.outgoing.stop()
        await subject.outgoing.send_now({"type": "websocket.close"})
        assert subject.server.sent == ["websocket.close"]
        assert repr(subject.outgoing) == ("<Outgoing idle, <Outbox 0 frames, 0 of 1539 bytes, close>, within None s>")

    run(main())
