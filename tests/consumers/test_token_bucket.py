"""How often: a steady rate, a burst, and fairness to those who were kept waiting."""

import pytest

from sealane.consumers.token_bucket import TokenBucket


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(bucket: TokenBucket, tries: int, held: float = 0.0) -> int:
    """How many of so many tries in one moment get a token; the first of them was held."""
    return sum([bucket.take(held), *(bucket.take() for _ in range(tries - 1))])


def test_a_burst_passes_and_no_more(clock: Clock) -> None:
    assert taken(TokenBucket(2, 5, clock), 20) == 5


@pytest.mark.parametrize("rate", [0.1, 1, 3, 7, 10, 1000])
def test_exactly_the_rate_passes_for_ever(clock: Clock, rate: float) -> None:
    bucket = TokenBucket(rate, 1, clock)
    for _ in range(1000):
        assert bucket.take()
        clock.now += 1 / rate


def test_a_little_over_the_rate_does_not(clock: Clock) -> None:
    bucket = TokenBucket(10, 10, clock)
    passed = 0
    for _ in range(1100):
        passed += bucket.take()
        clock.now += 1 / 11
    assert passed == pytest.approx(100 * 10 + 10, abs=1)


def test_a_quiet_time_fills_it_up_to_the_burst(clock: Clock) -> None:
    bucket = TokenBucket(10, 5, clock)
    taken(bucket, 5)
    clock.now += 0.2
    assert taken(bucket, 5) == 2
    clock.now += 3600
    assert taken(bucket, 20) == 5


def test_what_was_refused_takes_nothing(clock: Clock) -> None:
    bucket = TokenBucket(1, 1, clock)
    assert taken(bucket, 100) == 1
    clock.now += 1
    assert bucket.take()


def test_a_polite_client_that_was_held_gets_all_it_had_sent_meanwhile(clock: Clock) -> None:
    bucket = TokenBucket(10, 10, clock)
    clock.now += 60
    # For a minute a handler was busy, and five messages a second piled up.
    assert taken(bucket, 300, held=60) == 300


def test_one_who_was_held_gets_no_more_than_the_rate_allows(clock: Clock) -> None:
    bucket = TokenBucket(10, 10, clock)
    clock.now += 60
    assert taken(bucket, 10_000, held=60) == 610


def test_the_credit_for_being_held_is_void_a_second_later(clock: Clock) -> None:
    bucket = TokenBucket(10, 10, clock)
    clock.now += 60
    assert bucket.take(60)
    clock.now += 1
    assert taken(bucket, 1000) == 10


def test_slow_handlers_do_not_save_up_a_credit(clock: Clock) -> None:
    bucket = TokenBucket(10, 10, clock)
    for _ in range(1000):
        # Each message keeps the next one waiting for a second, and then none comes for another.
        clock.now += 2
        assert bucket.take(1)
    clock.now += 1
    assert taken(bucket, 1000) <= 11


def test_a_clock_that_stands_or_goes_back_gives_nothing(clock: Clock) -> None:
    bucket = TokenBucket(10, 2, clock)
    assert taken(bucket, 5) == 2
    clock.now -= 10
    assert taken(bucket, 5) == 0


def test_its_repr_says_what_is_left(clock: Clock) -> None:
    bucket = TokenBucket(0.5, 3, clock)
    bucket.take()
    assert repr(bucket) == "<TokenBucket 2.0 of 3, 0.5 per second>"
