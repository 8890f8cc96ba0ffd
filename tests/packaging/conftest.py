"""The distributions, really built, and environments with nothing else in them, really made."""

import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

#: What a build reads. The rest stays out of the copy, so that a build that needs more fails here.
BUILD_INPUTS = (
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "consumers",
    "layers",
    "pyproject.toml",
    "routing",
    "setup.py",
    "src",
)

#: Data files that the package does not have yet, and that must be in the distributions all the same.
PROBES = ("static/sealane/probe.js", "templates/sealane/probe.html", "locale/de/LC_MESSAGES/django.mo")


@dataclass(frozen=True)
class Distributions:
    """Where the tree stands, and what was built from it."""

    tree: Path
    sdist: Path
    wheel: Path
    wheel_from_sdist: Path


def copy_tree(target: Path) -> Path:
    """Copy what a build reads, links as links: building leaves files in the tree, and this one is in use."""
    target.mkdir()
    for name in BUILD_INPUTS:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, target / name, symlinks=True, ignore=ignore)
        elif source.exists():
            shutil.copy2(source, target / name)
    return target


def build(source: Path, target: Path, kind: str) -> subprocess.CompletedProcess[str]:
    """Build a distribution with this environment's setuptools: no network."""
    command = [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", str(target), str(source)]
    return subprocess.run(
        command,
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def build_one(source: Path, target: Path, kind: str) -> Path:
    """Build a distribution and return its file."""
    done = build(source, target, kind)
    assert done.returncode == 0, done.stdout
    [product] = target.iterdir()
    return product


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build the sdist and the wheel from a copy of the checkout, and a second wheel from the sdist."""
    base = tmp_path_factory.mktemp("distributions")
    tree = copy_tree(base / "tree")
    for probe in PROBES:
        path = tree / "src" / "sealane" / probe
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    sdist = build_one(tree, base / "sdist", "--sdist")
    wheel = build_one(tree, base / "wheel", "--wheel")
    shutil.unpack_archive(sdist, base / "unpacked", filter="data")
    [unpacked] = (base / "unpacked").iterdir()
    return Distributions(tree, sdist, wheel, build_one(unpacked, base / "wheel_from_sdist", "--wheel"))


def metadata_of(wheel: Path) -> metadata.Distribution:
    """Read a wheel's metadata without installing it."""
    [directory] = [entry for entry in zipfile.Path(wheel).iterdir() if entry.name.endswith(".dist-info")]
    return metadata.PathDistribution(directory)


def dependencies(distribution: metadata.Distribution) -> Iterator[metadata.Distribution]:
    """List a distribution's run-time dependencies and theirs, as installed here."""
    waiting, seen = [distribution], set[str]()
    while waiting:
        for text in waiting.pop().requires or []:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and requirement.name.lower() not in seen:
                seen.add(requirement.name.lower())
                dependency = metadata.distribution(requirement.name)
                waiting.append(dependency)
                yield dependency


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own."""

    python: Path

    def run(self, *arguments: str | Path) -> str:
        """Run its interpreter, away from this checkout and the user's variables; return what it prints."""
        done = subprocess.run(
            [self.python, "-I", *arguments],
            cwd=self.python.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


def install(wheel: Path, directory: Path) -> Environment:
    """Make an environment that holds a wheel and its declared dependencies, and nothing else.

    The dependencies are copied from this environment instead of being fetched. pip checks that they are what
    the wheel asks for, since with --no-index it could not get anything that is missing.
    """
    venv.create(directory, symlinks=True)
    environment = Environment(directory / "bin" / "python")
    library = Path(environment.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for dist in dependencies(metadata_of(wheel)):
        for file in dist.files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = library / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment.python),
        "install",
        "--no-index",
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return environment
