"""The options of a worker, checked."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["WorkerOptions", "checked_channels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How a worker takes and handles messages. Raises ValueError for what it cannot use."""

    max_applications: int
    concurrency: int
    prefetch: int
    ack: bool
    visibility_timeout: float
    max_deliveries: int | None
    dead_letter_channel: str | None
    retry_delay: float
    shutdown_timeout: float
    cancel_timeout: float

    def __post_init__(self) -> None:
        for name in ("max_applications", "concurrency"):
            _require_whole(name, getattr(self, name), least=1)
        _require_whole("prefetch", self.prefetch, least=0)
        for name in ("retry_delay", "shutdown_timeout", "cancel_timeout"):
            _require_seconds(name, getattr(self, name))


def checked_channels(channels: Iterable[str]) -> tuple[str, ...]:
    """Return the channels without repetitions. Raises ValueError for none, TypeError for a string."""
    if isinstance(channels, str):
        raise TypeError(f"channels is the string {channels!r}; expected a list of names: [{channels!r}]")
    names = tuple(dict.fromkeys(channels))
    if not names:
        raise ValueError("channels is empty; expected the name of one channel at least")
    return names


def _require_whole(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number, {least} or more")


def _require_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}; expected seconds, 0 or more")
