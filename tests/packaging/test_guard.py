"""The rules of tests/conftest.py: no second copy of a package, and what happens where no browser is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

pytestmark = pytest.mark.untraced


def run_pytest(directory: Path, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one test module under the suite's configuration and its conftest, in a process of its own."""
    path = directory / "test_guarded.py"
    path.write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", str(path)],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


# A process takes seconds, most of them for what pytest imports, so one shows what it can.
def test_import_of_a_second_copy_at_collection_stops_the_run(tmp_path: Path) -> None:
    names = ("consumers", "layers", "routing")
    code = "import sys\n" + "".join(f"sys.modules['{name}'] = sys\n" for name in names)
    done = run_pytest(tmp_path, f"{code}\ndef test(): pass\n")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "imported as top-level modules: consumers, layers, routing." in done.stderr
    assert "Import it as sealane.consumers." in done.stderr


def test_import_of_a_second_copy_fails_the_test_that_does_it(tmp_path: Path) -> None:
    through_the_package = "def test_no_second_copy(): import sealane.layers\n"
    done = run_pytest(tmp_path, f"{through_the_package}\ndef test_second_copy(): import layers\n")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "imported as top-level modules: layers." in done.stdout
    # A failure of a fixture's end is an error beside the test's own result.
    assert "2 passed, 1 error" in done.stdout


BROWSER_TEST = "import pytest\n\n@pytest.mark.browser\ndef test_page(): pass\n"


def test_browser_test_is_skipped_by_name_where_no_browser_is(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, BROWSER_TEST, PATH="/nowhere", SEALANE_REQUIRE_BROWSER="")
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "::test_page - Skipped: not on the PATH: chromium, chromedriver" in done.stdout


def test_browser_test_fails_where_a_browser_is_required(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, BROWSER_TEST, PATH="/nowhere", SEALANE_REQUIRE_BROWSER="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "SEALANE_REQUIRE_BROWSER=1, but not on the PATH: chromium, chromedriver" in done.stdout


def test_browser_test_runs_where_a_browser_is(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("chromium", "chromedriver"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    done = run_pytest(tmp_path, BROWSER_TEST, PATH=str(programs), SEALANE_REQUIRE_BROWSER="1")
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert "1 passed" in done.stdout
