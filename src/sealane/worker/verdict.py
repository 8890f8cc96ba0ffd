"""What becomes of a message whose handler failed: a decision, taken without waiting for anything."""

import random
from typing import NamedTuple

from sealane.exceptions import RejectMessage, RetryMessage

__all__ = ["MOST_DELAY", "Reject", "Retry", "decide", "reason_of"]

#: The most seconds that the back-off lets a message wait.
MOST_DELAY = 300.0

#: The most characters of an exception's text that go into the reason of a dead letter.
_REASON_LENGTH = 500


class Retry(NamedTuple):
    """Deliver it again in ``delay`` seconds."""

    delay: float


class Reject(NamedTuple):
    """Put it with the dead letters."""

    reason: str


def decide(
    error: BaseException, attempt: int, max_deliveries: int | None, *, first_delay: float, jitter: float | None = None
) -> Retry | Reject:
    """Decide what follows an error of the delivery number ``attempt``.

    The back-off doubles ``first_delay`` with each delivery, up to MOST_DELAY, and takes up to a quarter off, so that
    jobs which failed together do not come back together; ``jitter``, from 0 to 1, says how much of that.
    """
    if isinstance(error, RejectMessage):
        # A subclass of the project's own may have left out what __init__() does.
        return Reject(getattr(error, "reason", None) or reason_of(error))
    if max_deliveries is not None and attempt >= max_deliveries:
        return Reject(reason_of(error))
    if isinstance(error, RetryMessage) and (asked := getattr(error, "delay", None)) is not None:
        return Retry(asked)
    # 2 ** 64 is past every bound; without an end, a float would overflow.
    delay = min(MOST_DELAY, first_delay * 2.0 ** min(attempt - 1, 64))
    return Retry(delay * (1 - 0.25 * (random.random() if jitter is None else jitter)))


def reason_of(error: BaseException) -> str:
    """Return the class and the text of an exception, in one line of bounded length."""
    if isinstance(error, RetryMessage):
        return "its handler asked for one more delivery than the maximum"
    try:
        text = " ".join(str(error).split())
    except Exception:
        # An exception of the project's own, whose text fails. It must not take its message along.
        text = ""
    if len(text) > _REASON_LENGTH:
        text = f"{text[:_REASON_LENGTH]}..."
    name = type(error).__name__
    return f"{name}: {text}" if text else name
