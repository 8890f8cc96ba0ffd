"""The how-to guides: their code runs, and does what they say."""

import pytest

from tests.docs.conftest import after
from tests.docs.project import Project
from tests.docs.snippets import DOCS

HOW_TO = DOCS / "how-to"


def test_test_consumers(step_2: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = Project(after(2, step_2, tmp_path_factory))
    project.follow(HOW_TO / "test-consumers.md")
