"""A client that waits as long as only a hang takes: a thread or a database of a busy machine may take seconds."""

from typing import Any

from sealane.testing import WebsocketCommunicator
from sealane.types import Message

#: Seconds that only a hang takes.
LIMIT = 20.0


class PatientCommunicator(WebsocketCommunicator):
    """A WebsocketCommunicator with LIMIT in place of each default of a second. ``receive_nothing()`` stays short."""

    exit_timeout = LIMIT

    async def connect(self, timeout: float | None = LIMIT) -> tuple[bool, Any]:
        return await super().connect(timeout)

    async def receive_output(self, timeout: float | None = LIMIT) -> Message:
        return await super().receive_output(timeout)

    async def receive_from(self, timeout: float | None = LIMIT) -> str | bytes:
        return await super().receive_from(timeout)

    async def receive_json_from(self, timeout: float | None = LIMIT) -> Any:
        return await super().receive_json_from(timeout)

    async def receive_close(self, timeout: float | None = LIMIT) -> int:
        return await super().receive_close(timeout)

    async def wait(self, timeout: float | None = LIMIT) -> None:
        await super().wait(timeout)

    async def disconnect(self, code: int = 1000, timeout: float | None = LIMIT, *, reason: str | None = None) -> None:
        await super().disconnect(code, timeout, reason=reason)
