"""Print the newest Python of this machine, if it is newer than the one that runs this.

`make test-matrix` asks it, before any environment exists: standard library only.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["candidates", "newest", "version_of"]

Version = tuple[int, int, int]

#: Says the version, and fails where a virtual environment could not be made or the interpreter is a preview.
PROBE = """
import ensurepip, sys, venv
print(*sys.version_info[:3])
sys.exit(sys.version_info.releaselevel != "final")
"""


def candidates(environ: dict[str, str], *, home: Path) -> Iterator[Path]:
    """List what looks like an interpreter: on the PATH and among pyenv's versions."""
    pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv")
    places = [Path(entry) for entry in environ.get("PATH", "").split(os.pathsep) if entry]
    places += [version / "bin" for version in sorted(pyenv.glob("versions/*"))]
    for place in places:
        for path in sorted(place.glob("python3.*")):
            if re.fullmatch(r"python3\.\d+", path.name):
                yield path


def version_of(path: Path) -> Version | None:
    """Run an interpreter to learn its version; None where it does not run.

    A file that exists is no proof: pyenv's `python3.13` on the PATH may only say which version to choose.
    """
    try:
        probe = subprocess.run(
            [path, "-I", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        major, minor, micro = probe.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return int(major), int(minor), int(micro)


def newest(paths: Iterator[Path], *, than: tuple[int, int]) -> Path | None:
    """Choose the interpreter with the highest version above `than`, the first found among equals."""
    best: tuple[Version, Path] | None = None
    for path in paths:
        version = version_of(path)
        if version is not None and version[:2] > than and (best is None or version > best[0]):
            best = version, path
    return None if best is None else best[1]


if __name__ == "__main__":
    found = newest(candidates(dict(os.environ), home=Path.home()), than=sys.version_info[:2])
    sys.stdout.write(f"{found}\n" if found else "")
