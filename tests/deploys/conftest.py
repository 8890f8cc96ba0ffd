"""What a site needs beside its own servers."""

import os
from collections.abc import Iterator

import pytest

from tests.servers import Server, nginx_program


@pytest.fixture(scope="session")
def need_nginx() -> None:
    """Skip the test where there is no nginx; fail it where SEALANE_REQUIRE_NGINX=1 demands it."""
    if nginx_program() is None:
        reason = "there is no nginx here"
        if os.environ.get("SEALANE_REQUIRE_NGINX") == "1":
            pytest.fail(f"SEALANE_REQUIRE_NGINX=1, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="package")
def valkey() -> Iterator[Server]:
    with Server() as server:
        yield server
