"""The project of the tutorial as each of its pages leaves it, with its server."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sealane.layers import DEFAULT_CHANNEL_LAYER, InMemoryChannelLayer, channel_layers
from tests.docs.project import Project
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS

#: The pages of the tutorial that are steps, in order.
PAGES = sorted((DOCS / "tutorial").glob("[0-9]-*.md"))


@contextmanager
def followed(number: int, directory: Path) -> Iterator[Project]:
    """Continue a copy of what the page before has left, and follow one page; the server runs in the end."""
    project = Project(directory)
    try:
        project.follow(PAGES[number - 1])
        # A reader's server restarts by itself when a file is saved.
        if not project.is_serving:
            project.serve()
        yield project
    finally:
        project.stop()
    complaints = [line for line in project.log.read_text().splitlines() if "Traceback" in line or "ERROR" in line]
    assert not complaints, project.log.read_text()


def after(number: int, before: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a step has left, for whoever goes on from there."""
    directory = tmp_path_factory.mktemp(f"step-{number}") / "mysite"
    shutil.copytree(before.directory, directory, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.fixture(scope="package")
def step_1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with followed(1, tmp_path_factory.mktemp("step-1") / "empty") as project:
        yield project


@pytest.fixture(scope="package")
def step_2(step_1: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with followed(2, after(2, step_1, tmp_path_factory)) as project:
        yield project


@pytest.fixture(scope="package")
def step_3(step_2: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with followed(3, after(3, step_2, tmp_path_factory)) as project:
        yield project


@pytest.fixture(scope="package")
def step_4(step_3: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with followed(4, after(4, step_3, tmp_path_factory)) as project:
        yield project


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    reading = Reading(tmp_path)
    yield reading
    reading.close()


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    """A channel layer for this test alone."""
    layer = InMemoryChannelLayer()
    before = channel_layers.set(DEFAULT_CHANNEL_LAYER, layer)
    yield layer
    channel_layers.set(DEFAULT_CHANNEL_LAYER, before)
