"""The tables of origins in the reference: each line of them is a WebSocket that is let in, or refused."""

import pytest
from django.test import override_settings

from sealane.consumers import AsyncWebsocketConsumer
from sealane.routing import AllowedHostsOriginValidator, OriginValidator
from sealane.testing import WebsocketCommunicator
from sealane.types import ASGIApplication
from tests.docs.test_reference import quoted, rows

PAGE = "middleware.md"

#: What stands in a cell in place of values.
WORDS: dict[str, list[str]] = {"missing": [], "none": [], "empty": [""]}


def values(cell: str) -> list[str]:
    return WORDS[cell] if cell in WORDS else quoted(cell)


def joined(row: list[str]) -> str:
    return " | ".join(row).replace("`", "")


async def is_let_in(validator: ASGIApplication, origins: list[str]) -> bool:
    headers = [(b"origin", origin.encode()) for origin in origins]
    socket = WebsocketCommunicator(validator, "/", headers=headers)
    connected, status = await socket.connect()
    await socket.disconnect()
    assert connected or status == 403
    return connected


@pytest.mark.parametrize("row", rows(PAGE, "Which origins are let in"), ids=joined)
async def test_a_case_of_the_validator(row: list[str]) -> None:
    allowed, origins, let_in, reason = row
    assert reason
    validator = OriginValidator(AsyncWebsocketConsumer.as_asgi(), values(allowed))
    assert {True: "yes", False: "no"}[await is_let_in(validator, values(origins))] == let_in


@pytest.mark.parametrize("row", rows(PAGE, "Which pages the settings let in"), ids=joined)
async def test_a_case_of_the_settings(row: list[str]) -> None:
    hosts, trusted, debug, origins, let_in = row
    with override_settings(
        ALLOWED_HOSTS=values(hosts), CSRF_TRUSTED_ORIGINS=values(trusted), DEBUG={"on": True, "off": False}[debug]
    ):
        validator = AllowedHostsOriginValidator(AsyncWebsocketConsumer.as_asgi())
        assert {True: "yes", False: "no"}[await is_let_in(validator, values(origins))] == let_in
