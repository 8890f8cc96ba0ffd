"""What a link's pipeline decides, without any connection."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.safestring import SafeString
from redis import exceptions as errors

from sealane.exceptions import CallRefused, ChannelLayerUnavailable
from sealane.layers.redis import pipeline as module
from sealane.layers.redis.pipeline import (
    EPOCH,
    WINDOW,
    Call,
    Pipeline,
    Verdict,
    pack,
    pack_arguments,
    pack_load,
    verdict_of,
)
from sealane.layers.redis.script import OUT_OF_TURN, Script

SCRIPT = Script("one", "return 1")
LOAD = pack_load(SCRIPT)
OUT = errors.ResponseError(f"{OUT_OF_TURN} another call is next")


class Bench:
    """A pipeline, the calls made so far, and what a server would have read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        self.loop = loop
        options = {"limit": 100, "timeout": 5.0, "sender_key": b"s", "scripts": [SCRIPT], **options}
        self.pipeline = Pipeline("here", **options)
        self.now = 0.0

    def call(self, data: bytes, *, once: bool = False) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self.loop.create_future()
        self.pipeline.push(Call(data, future, self.now, once=once))
        return future

    def numbered(self, data: bytes) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self.loop.create_future()
        self.pipeline.push(Call(b"<" + data + b" ", future, self.now, tail=b">"))
        return future

    def take(self) -> bytes:
        return self.pipeline.take(self.now)

    def claim(self, former: bytes | None = None) -> None:
        """Have the claim of an epoch, which is all that is under way, answered."""
        assert b"EVAL" in self.take()
        self.pipeline.reply(former)


@pytest.fixture
def bench() -> Iterator[Bench]:
    loop = asyncio.new_event_loop()
    yield Bench(loop)
    loop.close()


def turn(epoch: int, number: int) -> bytes:
    return b"$11\r\n%d\r\n" % (epoch * EPOCH + number)


def unavailable(future: "asyncio.Future[Any]") -> ChannelLayerUnavailable:
    error = future.exception()
    assert isinstance(error, ChannelLayerUnavailable)
    return error


# Bytes


def test_a_command_is_packed() -> None:
    assert pack("SET", b"key", "\N{SNOWMAN}", 12, 1.5) == (
        b"*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$3\r\n\xe2\x98\x83\r\n$2\r\n12\r\n$3\r\n1.5\r\n"
    )
    assert (
        pack_arguments([bytearray(b"ab"), memoryview(b"cd"), SafeString("e")]) == b"$2\r\nab\r\n$2\r\ncd\r\n$1\r\ne\r\n"
    )


@pytest.mark.parametrize("wrong", [None, True, object(), ["a"]])
def test_what_cannot_be_packed_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"is bytes, str, int or float, not {type(wrong).__name__}"):
        pack("SET", "key", wrong)


def test_the_hash_of_a_script_is_that_of_all_of_it() -> None:
    plain, numbered = Script("x", "return 1"), Script("x", "return 1", numbered=True)
    assert plain.sha1 == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    assert plain.source == "return 1"
    assert numbered.source.endswith("return 1")
    assert numbered.sha1 != plain.sha1
    assert "return 1" not in repr(numbered)


def test_a_script_is_loaded_with_all_of_it() -> None:
    numbered = Script("x", "return 1", numbered=True)
    assert pack_load(numbered) == pack("SCRIPT", "LOAD", numbered.source)


# Errors


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.ResponseError("WRONGTYPE Operation against a key"), Verdict.NONE),
        (errors.NoPermissionError("this user has no permissions"), Verdict.NONE),
        (errors.OutOfMemoryError("command not allowed"), Verdict.FULL),
        (errors.ResponseError("Error running script: @user_script:1: -OOM command not allowed"), Verdict.FULL),
        (OUT, Verdict.REORDER),
        (errors.NoScriptError("No matching script."), Verdict.RELOAD),
        (errors.TryAgainError("Multiple keys request during rehashing of slot"), Verdict.LATER),
        (errors.AskError("12 127.0.0.1:7000"), Verdict.LATER),
        (errors.ResponseError("BUSY Valkey is busy running a script."), Verdict.LATER),
        (errors.ResponseError("NOREPLICAS Not enough good replicas to write."), Verdict.LATER),
        (errors.ResponseError("MISCONF Errors writing to the AOF file"), Verdict.LATER),
        (errors.ResponseError("MOVED 12 127.0.0.1:7000"), Verdict.RECONNECT),
        (errors.ResponseError("ASK 12 127.0.0.1:7000"), Verdict.LATER),
        (errors.ResponseError("TRYAGAIN Multiple keys request during rehashing of slot"), Verdict.LATER),
        (errors.ResponseError("ERR MOVED is no command"), Verdict.NONE),
        (errors.MovedError("12 127.0.0.1:7000"), Verdict.RECONNECT),
        (errors.ReadOnlyError("You can't write against a read only replica."), Verdict.RECONNECT),
        (errors.ResponseError("Error running script: -READONLY You can't write"), Verdict.RECONNECT),
        (errors.ClusterDownError("The cluster is down"), Verdict.RECONNECT),
        (errors.MasterDownError("Link with MASTER is down"), Verdict.RECONNECT),
        (errors.BusyLoadingError("loading the dataset in memory"), Verdict.RECONNECT),
        (errors.AuthenticationError("Authentication required."), Verdict.RECONNECT),
    ],
    ids=lambda value: value.name if isinstance(value, Verdict) else None,
)
def test_what_an_error_reply_asks_for(error: Exception, verdict: Verdict) -> None:
    assert verdict_of(error) is verdict


# Calls and replies


def test_replies_belong_to_calls_in_order(bench: Bench) -> None:
    futures = [bench.call(b"a"), bench.call(b"b"), bench.call(b"c")]
    assert bench.take() == b"abc"
    bench.pipeline.reply(1)
    bench.pipeline.fail(errors.ResponseError("no"), bench.now)
    bench.pipeline.reply(None)
    assert futures[0].result() == 1
    refused = futures[1].exception()
    assert isinstance(refused, CallRefused)
    assert (refused.place, refused.error) == ("here", "no")
    assert futures[2].result() is None
    assert bench.take() == b""


def test_no_more_than_the_window_is_under_way(bench: Bench) -> None:
    half = b"x" * (WINDOW // 2)
    for _ in range(3):
        bench.call(half)
    assert bench.take() == half + half
    assert bench.take() == b""
    bench.pipeline.reply(None)
    assert bench.take() == half


def test_a_call_over_the_window_goes_alone(bench: Bench) -> None:
    bench.call(b"x" * (2 * WINDOW))
    bench.call(b"y")
    assert len(bench.take()) == 2 * WINDOW
    bench.pipeline.reply(None)
    assert bench.take() == b"y"


def test_a_cancelled_call_is_written_no_more(bench: Bench) -> None:
    before, after = bench.call(b"a"), bench.call(b"b")
    before.cancel()
    assert bench.take() == b"b"
    bench.pipeline.reply(2)
    assert after.result() == 2


def test_the_reply_of_a_cancelled_call_is_dropped(bench: Bench) -> None:
    first, second = bench.call(b"a"), bench.call(b"b")
    bench.take()
    first.cancel()
    bench.pipeline.reply(1)
    bench.pipeline.reply(2)
    assert second.result() == 2


def test_too_many_calls_are_refused(bench: Bench) -> None:
    futures = [bench.call(b"x") for _ in range(100)]
    with pytest.raises(ChannelLayerUnavailable, match="100 calls are under way or waiting already; it was not carried"):
        bench.call(b"x")
    futures[40].cancel()
    bench.call(b"y")


# Numbered calls


def test_numbered_calls_wait_for_their_epoch(bench: Bench) -> None:
    bench.call(b"a")
    bench.numbered(b"b")
    bench.call(b"c")
    written = bench.take()
    assert written.startswith(b"a*6")
    assert b"EVAL" in written
    assert bench.take() == b""
    bench.pipeline.reply(1)
    bench.pipeline.reply(None)
    assert bench.take() == b"<b " + turn(1, 0) + b">c"


def test_numbered_calls_are_counted(bench: Bench) -> None:
    bench.numbered(b"a")
    bench.numbered(b"b")
    bench.claim()
    assert bench.take() == b"<a " + turn(1, 0) + b"><b " + turn(1, 1) + b">"


def test_after_a_loss_only_what_was_not_carried_out_is_sent_again(bench: Bench) -> None:
    futures = [bench.numbered(b"%d" % number) for number in range(4)]
    bench.claim()
    bench.take()
    bench.pipeline.reply("first")
    bench.pipeline.lose("gone", bench.now)
    bench.claim(former=b"%d" % (EPOCH + 3))
    assert [future.done() for future in futures] == [True, True, True, False]
    assert [future.result() for future in futures[:3]] == ["first", None, None]
    assert bench.take() == b"<3 " + turn(2, 3) + b">"


def test_where_the_counter_is_gone_all_is_sent_again(bench: Bench) -> None:
    bench.numbered(b"a")
    bench.numbered(b"b")
    bench.claim()
    bench.take()
    bench.pipeline.lose("gone", bench.now)
    bench.claim(former=None)
    assert bench.take() == b"<a " + turn(2, 0) + b"><b " + turn(2, 1) + b">"


def test_a_claim_lost_on_its_way_is_made_again(bench: Bench) -> None:
    bench.numbered(b"a")
    assert b"EVAL" in bench.take()
    bench.pipeline.lose("gone", bench.now)
    bench.claim(former=b"%d" % EPOCH)
    assert bench.take() == b"<a " + turn(2, 0) + b">"


def test_an_old_epoch_is_renewed(bench: Bench) -> None:
    bench.numbered(b"a")
    bench.claim()
    bench.take()
    bench.pipeline.reply(None)
    bench.now = module.CLAIMED + 1
    bench.numbered(b"b")
    bench.claim(former=b"%d" % (EPOCH + 1))
    assert bench.take() == b"<b " + turn(2, 1) + b">"


def test_a_given_up_call_in_doubt_is_not_sent_again(bench: Bench) -> None:
    first, second = bench.numbered(b"a"), bench.numbered(b"b")
    bench.claim()
    bench.take()
    first.cancel()
    bench.pipeline.lose("gone", bench.now)
    bench.claim(former=b"%d" % EPOCH)
    assert bench.take() == b"<b " + turn(2, 0) + b">"
    assert not second.done()


# Rejections


def test_a_rejected_call_keeps_its_place(bench: Bench) -> None:
    first, second, third = bench.numbered(b"a"), bench.numbered(b"b"), bench.call(b"c")
    bench.claim()
    bench.take()
    bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    fourth = bench.call(b"d")
    assert bench.take() == b""
    assert not bench.pipeline.settled
    bench.pipeline.fail(OUT, bench.now)
    # It was carried out before a and b, so it is carried out again.
    bench.pipeline.reply("early")
    assert bench.pipeline.settled
    assert bench.pipeline.resume() is Verdict.RELOAD
    written = bench.take()
    assert written.startswith(LOAD)
    assert b"EVAL" in written
    bench.pipeline.reply(b"sha")
    bench.pipeline.reply(b"%d" % EPOCH)
    assert bench.take() == b"<a " + turn(2, 0) + b"><b " + turn(2, 1) + b">cd"
    for value in range(4):
        bench.pipeline.reply(value)
    assert [future.result() for future in (first, second, third, fourth)] == [0, 1, 2, 3]


def test_a_numbered_call_after_a_rejected_plain_one_is_not_repeated(bench: Bench) -> None:
    plain, numbered, once = bench.call(b"a"), bench.numbered(b"b"), bench.call(b"c", once=True)
    bench.pipeline.claimed = 0.0
    bench.take()
    bench.pipeline.fail(errors.TryAgainError("later"), bench.now)
    bench.pipeline.reply("b")
    bench.pipeline.reply("c")
    assert numbered.result() == "b"
    assert once.result() == "c"
    assert bench.pipeline.resume() is Verdict.LATER
    assert bench.take() == b"a"
    assert not plain.done()


def test_the_gravest_of_several_rejections_counts(bench: Bench) -> None:
    bench.call(b"a")
    bench.call(b"b")
    bench.take()
    bench.pipeline.fail(errors.MovedError("1 127.0.0.1:7000"), bench.now)
    bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    assert bench.pipeline.resume() is Verdict.RECONNECT
    bench.pipeline.lose("moved", bench.now)
    assert bench.take() == b"ab"


def test_scripts_that_cannot_be_loaded_end_the_connection(bench: Bench) -> None:
    bench.call(b"a")
    bench.take()
    bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    bench.pipeline.resume()
    assert bench.take() == LOAD + b"a"
    bench.pipeline.fail(errors.ResponseError("Error compiling script"), bench.now)
    bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    assert bench.pipeline.resume() is Verdict.RECONNECT
    assert bench.pipeline.error == "gone"


def test_nothing_is_loaded_unless_it_is_missing(bench: Bench) -> None:
    bench.call(b"a")
    assert bench.take() == b"a"
    bench.pipeline.lose("gone", bench.now)
    assert bench.take() == b"a"


def test_many_calls_that_find_no_script_have_it_loaded_once(bench: Bench) -> None:
    futures = [bench.call(b"%d" % number) for number in range(3)]
    bench.take()
    for _ in futures:
        bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    assert bench.pipeline.resume() is Verdict.RELOAD
    assert bench.take() == LOAD + b"012"
    for value in (b"sha", 0, 1, 2):
        bench.pipeline.reply(value)
    assert [future.result() for future in futures] == [0, 1, 2]
    assert bench.take() == b""


def test_scripts_that_are_loaded_in_vain_are_loaded_again_later(bench: Bench) -> None:
    bench.call(b"a")
    bench.call(b"b")
    for verdict in (Verdict.RELOAD, Verdict.LATER, Verdict.LATER):
        bench.take()
        while len(bench.pipeline.flying) > 2:
            bench.pipeline.reply(b"sha")
        bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
        # Before this one is carried out again it says nothing about the script.
        bench.pipeline.reply("b")
        assert bench.pipeline.resume() is verdict
    # So a delay grows, although something was answered.
    assert not bench.pipeline.answered
    assert bench.take() == LOAD + b"ab"
    bench.pipeline.reply(b"sha")
    bench.pipeline.reply("a")
    bench.pipeline.reply("b")
    bench.call(b"c")
    bench.take()
    bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    assert bench.pipeline.resume() is Verdict.RELOAD


def test_a_full_server_refuses_numbered_calls_and_no_others(bench: Bench) -> None:
    first, second, plain = bench.numbered(b"a"), bench.numbered(b"b"), bench.call(b"DEL x")
    bench.claim()
    bench.take()
    bench.now = 0.5
    bench.pipeline.fail(errors.OutOfMemoryError("command not allowed"), bench.now)
    error = unavailable(first)
    assert error.seconds == 0.5
    assert str(error) == (
        "No call to here: the server's memory is full (maxmemory) (last error: out of memory); it was not carried out"
    )
    bench.pipeline.fail(OUT, bench.now)
    bench.pipeline.reply(1)
    assert bench.pipeline.resume() is Verdict.REORDER
    assert b"EVAL" in bench.take()
    bench.now = 0.75
    bench.pipeline.fail(errors.OutOfMemoryError("command not allowed"), bench.now)
    assert not unavailable(second).sent
    assert unavailable(second).seconds == 0.75
    assert bench.take() == b"DEL x"
    bench.pipeline.reply(2)
    assert plain.result() == 2


def test_a_claim_that_is_not_allowed_fails_the_numbered_calls(bench: Bench) -> None:
    numbered, plain = bench.numbered(b"a"), bench.call(b"b")
    bench.take()
    bench.pipeline.fail(errors.NoPermissionError("no"), bench.now)
    assert isinstance(numbered.exception(), CallRefused)
    assert bench.take() == b"b"
    assert not plain.done()


# Losses, time, the end


def test_what_must_not_be_sent_twice_fails_with_its_connection(bench: Bench) -> None:
    written = bench.call(b"a", once=True)
    bench.take()
    waiting, plain = bench.call(b"b", once=True), bench.call(b"c")
    bench.now = 2.0
    bench.pipeline.lose("reset by peer", bench.now)
    error = unavailable(written)
    assert error.sent
    assert error.seconds == 2.0
    assert str(error) == (
        "No call to here: the connection was lost (last error: reset by peer); it may have been carried out"
    )
    assert bench.take() == b"bc"
    assert not waiting.done()
    assert not plain.done()


def test_rejected_calls_come_first_after_a_loss(bench: Bench) -> None:
    bench.call(b"a")
    bench.call(b"b")
    bench.take()
    bench.call(b"c")
    bench.pipeline.fail(errors.NoScriptError("gone"), bench.now)
    bench.pipeline.lose("gone", bench.now)
    assert bench.take() == b"abc"


def test_calls_expire_in_order(bench: Bench) -> None:
    written = bench.call(b"a")
    bench.take()
    bench.now = 1.0
    waiting = bench.call(b"b", once=True)
    bench.now = 2.0
    young = bench.call(b"c")
    assert bench.pipeline.expire(2.0) == 5.0
    assert bench.pipeline.expire(6.5) == 7.0
    error = unavailable(written)
    assert (error.place, error.seconds, error.sent) == ("here", 6.5, True)
    assert not unavailable(waiting).sent
    assert not young.done()
    # Its reply still comes, and is nobody else's.
    bench.pipeline.reply("late")
    assert bench.take() == b"c"
    assert bench.pipeline.expire(7.0) is None
    assert bench.pipeline.waiting == type(bench.pipeline.waiting)()


def test_abandoned_calls_fail(bench: Bench) -> None:
    written = bench.call(b"a")
    bench.take()
    bench.now = 1.0
    waiting = bench.call(b"b")
    bench.now = 3.0
    bench.pipeline.abandon("the link was closed", bench.now)
    assert unavailable(written).sent
    assert not unavailable(waiting).sent
    assert [unavailable(future).seconds for future in (written, waiting)] == [3.0, 2.0]
    assert bench.pipeline.count == 0
