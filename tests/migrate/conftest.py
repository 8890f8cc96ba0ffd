"""A project of files, and the codemod run on it as users run it, but in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sealane.migrate.command import main


@dataclass(frozen=True)
class Run:
    """What a run printed, and its exit code. Findings are without the folder's name."""

    code: int
    diff: str
    findings: list[str]
    summary: str


Migrate = Callable[..., Run]


@pytest.fixture
def migrate(capsys: pytest.CaptureFixture[str]) -> Migrate:
    def run(path: Path, *options: str) -> Run:
        code = main([*options, str(path)])
        out, err = capsys.readouterr()
        *findings, summary = err.splitlines()
        return Run(code, out, [finding.replace(f"{path}/", "") for finding in findings], summary)

    return run
