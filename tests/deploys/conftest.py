"""What the servers of a site talk through."""

from collections.abc import Iterator

import pytest

from tests.servers import Server


@pytest.fixture(scope="package")
def valkey() -> Iterator[Server]:
    with Server() as server:
        yield server
