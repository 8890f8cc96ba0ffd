"""What the servers of the tests have in common: they run for the length of a `with` block."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Started"]


class Started(ABC):
    """Something that is started and stopped."""

    @abstractmethod
    def start(self) -> None:
        """Return when it can be used."""

    @abstractmethod
    def stop(self) -> None:
        """Return when nothing of it runs. Doing it twice is harmless."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
