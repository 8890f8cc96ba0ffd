"""Run a program in an interpreter of its own: what is tested changes what ``import channels`` means."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

__all__ = ["ROOT", "run", "run_python"]

ROOT = Path(__file__).resolve().parents[2]

#: Seconds, which only bound a hang.
PATIENCE = 120


def run(code: str, *path: Path, cwd: Path | None = None) -> str:
    """Run code and return what it printed; fail with its errors where it raised. ``path`` is searched first."""
    return run_python("-c", textwrap.dedent(code), path=path, cwd=cwd)


def run_python(
    *arguments: str | Path, path: tuple[Path, ...] = (), cwd: Path | None = None, plugins: bool = True
) -> str:
    """Run the interpreter of the tests, as ``run`` does. Without ``plugins`` a pytest loads none by itself."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*path, ROOT / "src", ROOT)))
    if not plugins:
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
