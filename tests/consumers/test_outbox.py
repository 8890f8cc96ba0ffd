"""What waits for a slow client: the bound in bytes, the order, and the three policies."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from sealane.consumers.outbox import OVERHEAD, SLOW_CLIENT_POLICIES, Outbox, Verdict
from sealane.types import Message


def frame(content: str | bytes) -> Message:
    return {"type": "websocket.send", "text" if isinstance(content, str) else "bytes": content}


def contents(outbox: Outbox) -> Iterator[str | bytes]:
    while (event := outbox.take()) is not None:
        yield event.get("text") or event["bytes"]


def filled(policy: Any, *frames: str | bytes, limit: int = 3 * (OVERHEAD + 10)) -> Outbox:
    outbox = Outbox(limit, policy)
    for content in frames:
        assert outbox.put(frame(content)).outcome == "queued"
    return outbox


THREE = ("a" * 10, "b" * 10, b"c" * 10)


@pytest.mark.parametrize("policy", SLOW_CLIENT_POLICIES)
def test_what_fits_leaves_in_order(policy: Any) -> None:
    outbox = filled(policy, *THREE)
    assert (len(outbox), outbox.waiting_bytes) == (3, outbox.limit)
    assert list(contents(outbox)) == list(THREE)
    assert (len(outbox), outbox.waiting_bytes, outbox.take()) == (0, 0, None)


def test_drop_oldest_makes_room_for_the_new_one() -> None:
    outbox = filled("drop_oldest", *THREE)
    assert outbox.put(frame("d")) == ("dropped_oldest", 1)
    assert list(contents(outbox)) == ["b" * 10, b"c" * 10, "d"]


def test_drop_oldest_drops_as_many_as_it_takes() -> None:
    outbox = filled("drop_oldest", *THREE)
    assert outbox.put(frame("d" * (OVERHEAD + 15))) == ("dropped_oldest", 2)
    assert list(contents(outbox)) == [b"c" * 10, "d" * (OVERHEAD + 15)]


def test_drop_newest_keeps_what_waits() -> None:
    outbox = filled("drop_newest", *THREE)
    assert outbox.put(frame("d")) == ("dropped_newest", 1)
    assert list(contents(outbox)) == list(THREE)


def test_close_says_that_it_overflows() -> None:
    outbox = filled("close", *THREE)
    assert outbox.put(frame("d")) == ("overflowed", 1)
    assert outbox.clear() == 3
    assert (len(outbox), outbox.waiting_bytes) == (0, 0)


@pytest.mark.parametrize("policy", SLOW_CLIENT_POLICIES)
def test_a_frame_over_the_limit_fits_where_nothing_waits(policy: Any) -> None:
    outbox = Outbox(100, policy)
    assert outbox.put(frame("x" * 1000)).outcome == "queued"
    assert outbox.put(frame("y")).outcome != "queued"


def test_text_counts_as_utf8_and_an_empty_frame_is_not_free() -> None:
    outbox = filled("close", "ü" * 10, b"", "", limit=100 * OVERHEAD)
    assert outbox.waiting_bytes == 20 + 3 * OVERHEAD


@pytest.mark.parametrize("policy", SLOW_CLIENT_POLICIES)
@pytest.mark.parametrize("seed", range(20))
def test_the_bound_holds_and_every_frame_is_accounted_for(policy: Any, seed: int) -> None:
    source = random.Random(seed)
    limit = 20 * OVERHEAD
    outbox = Outbox(limit, policy)
    sizes: list[int] = []
    put = dropped = taken = 0
    for _ in range(2000):
        if source.random() < 0.6:
            size = source.choice((0, 10, 1000, 30 * OVERHEAD))
            verdict = outbox.put(frame(b"x" * size))
            put += 1
            dropped += verdict.frames
            if verdict.outcome in ("queued", "dropped_oldest"):
                sizes.append(size)
            del sizes[: len(sizes) - len(outbox)]
        elif outbox.take() is not None:
            taken += 1
            del sizes[0]
        assert outbox.waiting_bytes == sum(sizes) + OVERHEAD * len(sizes)
        assert outbox.waiting_bytes <= limit or len(outbox) == 1
    assert put == dropped + taken + len(outbox)


@pytest.mark.parametrize(
    ("policy", "left"), [("drop_oldest", ["kept 1", "3", "kept 2"]), ("drop_newest", ["kept 1", "2", "kept 2"])]
)
def test_others_make_room_for_a_frame_that_is_kept(policy: Any, left: list[str]) -> None:
    outbox = Outbox(3 * (OVERHEAD + 10), policy)
    assert outbox.put(frame("kept 1"), kept=True).outcome == "queued"
    assert [outbox.put(frame(text)).outcome for text in ("2", "3")] == ["queued"] * 2
    assert outbox.put(frame("kept 2"), kept=True) == Verdict(policy.replace("drop", "dropped"), 1)
    assert [taken["text"] for taken in iter(outbox.take, None)] == left
    assert outbox.waiting_bytes == 0


@pytest.mark.parametrize("policy", SLOW_CLIENT_POLICIES)
def test_kept_frames_are_bounded_too(policy: Any) -> None:
    outbox = Outbox(2 * (OVERHEAD + 1), policy)
    for text in "a", "b":
        assert outbox.put(frame(text), kept=True).outcome == "queued"
    assert outbox.put(frame("c"), kept=True) == Verdict("overflowed", 1)
    assert outbox.put(frame("d")) == Verdict("overflowed" if policy == "close" else "dropped_newest", 1)
    assert [taken["text"] for taken in iter(outbox.take, None)] == ["a", "b"]
    assert outbox.put(frame("e")).outcome == "queued"


@pytest.mark.parametrize("policy", SLOW_CLIENT_POLICIES)
@pytest.mark.parametrize("seed", range(10))
def test_no_kept_frame_is_ever_dropped(policy: Any, seed: int) -> None:
    source = random.Random(seed)
    limit = 10 * OVERHEAD
    outbox = Outbox(limit, policy)
    kept: list[str] = []
    taken: list[str] = []
    for number in range(2000):
        if source.random() < 0.7:
            is_kept = source.random() < 0.3
            text = f"{'kept' if is_kept else 'other'} {number}" + " " * source.choice((0, 500, 2000))
            if outbox.put(frame(text), kept=is_kept).outcome != "overflowed" and is_kept:
                kept.append(text)
        elif (event := outbox.take()) is not None:
            taken.append(event["text"])
        assert outbox.waiting_bytes <= limit or len(outbox) == 1
    taken += [event["text"] for event in iter(outbox.take, None)]
    assert [text for text in taken if text.startswith("kept")] == kept
    numbers = [int(text.split()[1]) for text in taken]
    assert numbers == sorted(numbers)


def test_its_repr_says_what_waits() -> None:
    assert repr(filled("close", "x", limit=9999)) == "<Outbox 1 frames, 513 of 9999 bytes, close>"
