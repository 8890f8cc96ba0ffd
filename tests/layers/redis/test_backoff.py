"""Delays between tries."""

import pytest

from sealane.layers.redis.backoff import Backoff


def test_the_bound_doubles_up_to_the_most() -> None:
    backoff = Backoff(first=0.1, most=1.0, random=lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.failures == 6


def test_the_delay_lies_anywhere_below_the_bound() -> None:
    draws = iter([0.0, 0.5, 0.25])
    backoff = Backoff(first=1.0, most=8.0, random=lambda: next(draws))
    assert [backoff.next() for _ in range(3)] == [0.0, 1.0, 1.0]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(first=0.1, most=1.0, random=lambda: 1.0)
    for _ in range(4):
        backoff.next()
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next() == pytest.approx(0.1)


def test_a_server_that_is_gone_for_a_year_overflows_nothing() -> None:
    backoff = Backoff(random=lambda: 1.0)
    backoff.failures = 100_000_000
    assert backoff.next() == 2.0


def test_its_own_randomness_keeps_processes_apart() -> None:
    delays = {Backoff(first=1.0).next() for _ in range(20)}
    assert len(delays) == 20
    assert all(0 <= delay < 1 for delay in delays)


def test_repr() -> None:
    backoff = Backoff()
    backoff.next()
    assert repr(backoff) == "<Backoff failures=1>"
