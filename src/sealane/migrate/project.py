"""The files of a project that are looked at, and what is done to each kind."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sealane.migrate.change import Changes
from sealane.migrate.dependencies import report_dependencies, rewrite_pyproject, rewrite_requirements
from sealane.migrate.launching import report_commands
from sealane.migrate.names import OLD_PACKAGES, Names
from sealane.migrate.python import rewrite_python
from sealane.migrate.source import Source

__all__ = ["files_of", "namesakes", "rewrite"]

#: Folders of code that is not the project's own, and of what is made from it.
_FOREIGN = frozenset(
    {"__pycache__", "_vendor", "build", "dist", "node_modules", "site-packages", "third_party", "vendor", "vendored"}
)
_PYTHON = frozenset({".py", ".pyi"})
_REQUIREMENTS = re.compile(r"(.*requirements.*|constraints.*)\.(txt|in)", re.IGNORECASE)
_OTHER_DEPENDENCIES = re.compile(r"setup\.(cfg|py)|Pipfile|environment.*\.ya?ml")
_COMMANDS = re.compile(
    r"(.*\.)?Dockerfile(\..*)?|Containerfile|Procfile(\..*)?|[Mm]akefile|justfile|(docker-)?compose.*\.ya?ml|"
    r".*\.(sh|service|conf|ini|ya?ml|toml)|entrypoint"
)


def files_of(path: Path) -> Iterator[Path]:
    """List the files of a project that may have to change, in order; of a path that is a file, only that one.

    Left out are hidden folders, virtual environments, folders of foreign code (``vendor``, ``node_modules``), and
    what a symbolic link leads to: where that is a part of the project, it is found at its own place.
    """
    if path.is_file():
        yield path
        return
    for directory, folders, files in os.walk(path):
        here = Path(directory)
        folders[:] = sorted(name for name in folders if not _is_foreign(here / name))
        for name in sorted(files):
            if _kinds(here / name):
                yield here / name


def namesakes(path: Path) -> list[Path]:
    """List the modules of a project that have the name of one of the old packages, so that its imports are unclear."""
    if not path.is_dir():
        return []
    roots = {path, path / "src"} | {file.parent for file in files_of(path) if file.name == "manage.py"}
    return [
        place
        for root in sorted(roots)
        for package in OLD_PACKAGES
        for place in (root / package / "__init__.py", root / f"{package}.py")
        if place.is_file()
    ]


def rewrite(source: Source, names: Names) -> Changes:
    """Return what is to be done to a file."""
    changes = Changes()
    kinds = _kinds(source.path)
    if "python" in kinds:
        changes.add(rewrite_python(source.text, names, source.newline))
    if "requirements" in kinds:
        changes.add(rewrite_requirements(source.text))
    if "pyproject" in kinds:
        changes.add(rewrite_pyproject(source.text))
    if "dependencies" in kinds:
        changes.add(report_dependencies(source.text))
    if "commands" in kinds:
        changes.add(report_commands(source.text))
    return changes


def _kinds(path: Path) -> set[str]:
    kinds = set()
    if path.suffix in _PYTHON:
        kinds.add("python")
    if _REQUIREMENTS.fullmatch(path.name) or (path.parent.name == "requirements" and path.suffix in (".txt", ".in")):
        kinds.add("requirements")
    elif path.name == "pyproject.toml":
        kinds.add("pyproject")
    elif _OTHER_DEPENDENCIES.fullmatch(path.name):
        kinds.add("dependencies")
    if _COMMANDS.fullmatch(path.name) and path.name != "pyproject.toml":
        kinds.add("commands")
    return kinds


def _is_foreign(folder: Path) -> bool:
    return (
        folder.name.startswith(".")
        or folder.name in _FOREIGN
        or folder.name.endswith(".egg-info")
        or (folder / "pyvenv.cfg").exists()
        or folder.is_symlink()
    )
