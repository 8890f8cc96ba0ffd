"""Waiting for a condition under a time limit."""

import time
from collections.abc import Callable

__all__ = ["wait_until"]

#: Seconds between two looks.
INTERVAL = 0.01


def wait_until(condition: Callable[[], object], *, within: float = 20.0, what: str = "the condition") -> None:
    """Look every ten milliseconds until `condition` returns something true; it may raise OSError meanwhile.

    Raise TimeoutError, which names `what` and the last OSError, after `within` seconds.
    """
    give_up = time.monotonic() + within
    while True:
        error: OSError | None = None
        try:
            if condition():
                return
        except OSError as caught:
            error = caught
        if time.monotonic() > give_up:
            trouble = f" ({type(error).__name__}: {error})" if error else ""
            raise TimeoutError(f"{what}: not within {within:g} s{trouble}") from error
        time.sleep(INTERVAL)
