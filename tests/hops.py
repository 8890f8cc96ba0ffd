"""How often an event loop hands work to a thread."""

import asyncio
from typing import Any

import pytest

__all__ = ["Hops"]


class Hops:
    """Count how often an event loop hands work to a thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        loop = asyncio.get_running_loop()
        original = loop.run_in_executor

        def counting(*args: Any) -> Any:
            self.count += 1
            return original(*args)

        monkeypatch.setattr(loop, "run_in_executor", counting)
