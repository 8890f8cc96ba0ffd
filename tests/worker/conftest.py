"""A layer of the test's own, which consumers find as the default one; servers, and projects for processes."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sealane.layers import InMemoryChannelLayer, channel_layers
from tests.layers.conftest import (
    _shared_sentinel_group,
    key_prefix,
    new_server,
    redis_server,
    sentinel_group,
    valkey_server,
)
from tests.worker.process import Project

__all__ = [
    "_shared_sentinel_group",
    "key_prefix",
    "new_server",
    "redis_server",
    "sentinel_group",
    "valkey_server",
]


@pytest.fixture
async def layer() -> AsyncIterator[InMemoryChannelLayer]:
    made = InMemoryChannelLayer(capacity=1000)
    before = channel_layers.set("default", made)
    yield made
    await made.close()
    channel_layers.set("default", before)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Make projects, whose processes end with the test."""
    made: list[Project] = []

    def make(layers: dict[str, Any], **environment: str) -> Project:
        directory = tmp_path / f"project-{len(made)}"
        directory.mkdir()
        made.append(Project(directory, layers, **environment))
        return made[-1]

    yield make
    for one in made:
        one.end()
