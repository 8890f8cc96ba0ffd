"""What becomes of a message whose handler failed, decided without a worker."""

import pytest

from sealane.exceptions import RejectMessage, RetryMessage
from sealane.worker.verdict import MOST_DELAY, Reject, Retry, decide, reason_of


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "attempt", "most", "verdict"),
    [
        (ValueError("bad"), 1, 5, Retry(2.0)),
        (ValueError("bad"), 2, 5, Retry(4.0)),
        (ValueError("bad"), 4, 5, Retry(16.0)),
        (ValueError("bad"), 5, 5, Reject("ValueError: bad")),
        (ValueError("bad"), 6, 5, Reject("ValueError: bad")),
        (ValueError("bad"), 1, 1, Reject("ValueError: bad")),
        (ValueError("bad"), 5000, None, Retry(MOST_DELAY)),
        (RejectMessage("no such picture"), 1, 5, Reject("no such picture")),
        (RetryMessage(), 2, 5, Retry(4.0)),
        (RetryMessage(0), 2, 5, Retry(0)),
        (RetryMessage(7200), 4, 5, Retry(7200)),
        (RetryMessage(7200), 5, 5, Reject("its handler asked for one more delivery than the maximum")),
    ],
    ids=str,
)
def test_what_follows_an_error(error: Exception, attempt: int, most: int | None, verdict: Retry | Reject) -> None:
    assert decide(error, attempt, most, first_delay=2.0, jitter=0) == verdict


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    assert decide(ValueError(), 1, 5, first_delay=8, jitter=1) == Retry(6.0)
    delays = {decide(ValueError(), 1, 5, first_delay=8) for _ in range(20)}
    assert len(delays) > 1
    assert all(isinstance(delay, Retry) and 6 <= delay.delay <= 8 for delay in delays)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("key"), "KeyError: 'key'"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (ValueError("x" * 501), f"ValueError: {'x' * 500}..."),
        (Unspeakable(), "Unspeakable"),
    ],
    ids=["text", "no text", "lines", "long", "text that fails"],
)
def test_the_reason_of_a_dead_letter(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


@pytest.mark.parametrize("delay", [-1, float("inf"), float("nan"), True, "soon"])
def test_a_delay_is_a_number_of_seconds(delay: object) -> None:
    with pytest.raises(ValueError, match=r"^The delay of a retry is .*; expected seconds, 0 or more, or None$"):
        RetryMessage(delay)  # type: ignore[arg-type]


def test_a_reason_is_a_text() -> None:
    with pytest.raises(TypeError, match=r"^The reason of a rejection is 404; expected a str$"):
        RejectMessage(404)  # type: ignore[arg-type]
