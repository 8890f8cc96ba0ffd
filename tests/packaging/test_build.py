"""What the built distributions contain, and when a build refuses."""

import hashlib
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sealane
from tests.packaging.conftest import PROBES, ROOT, Distributions, build, copy_tree, metadata_of

pytestmark = pytest.mark.untraced

LINKED = ("consumers", "layers", "routing")


def package_files(tree: Path) -> set[str]:
    """List the files of the package in a tree, links followed, as they should be named in a wheel."""
    package = tree / "src" / "sealane"
    found = [path for name in LINKED for path in (package / name).rglob("*")] + [*package.rglob("*")]
    return {
        path.relative_to(tree / "src").as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def wheel_contents(wheel: Path) -> dict[str, str]:
    """Map each file of a wheel to a digest of its contents."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_wheel_holds_the_package_with_its_links_followed(distributions: Distributions) -> None:
    names = {name for name in wheel_contents(distributions.wheel) if ".dist-info/" not in name}
    assert names == package_files(distributions.tree)
    assert {f"sealane/{name}/__init__.py" for name in LINKED} <= names
    assert {"sealane/py.typed", "sealane/static/sealane/multiplexer.js"} <= names


def test_wheel_holds_data_files(distributions: Distributions) -> None:
    assert {f"sealane/{probe}" for probe in PROBES} <= set(wheel_contents(distributions.wheel))


def test_wheel_installs_one_top_level_name(distributions: Distributions) -> None:
    tops = {name.partition("/")[0] for name in wheel_contents(distributions.wheel)}
    assert tops == {"sealane", f"sealane-{sealane.__version__}.dist-info"}


def test_wheel_from_the_sdist_is_the_same(distributions: Distributions) -> None:
    assert distributions.wheel.name == distributions.wheel_from_sdist.name
    assert wheel_contents(distributions.wheel) == wheel_contents(distributions.wheel_from_sdist)


def test_sdist_holds_the_package_as_files_and_its_texts(distributions: Distributions) -> None:
    prefix = f"sealane-{sealane.__version__}/"
    with tarfile.open(distributions.sdist) as archive:
        members = archive.getmembers()
    files = {member.name.removeprefix(prefix) for member in members if member.isfile()}
    assert not [member.name for member in members if member.issym() or member.islnk()]
    assert {f"src/{name}" for name in package_files(distributions.tree)} <= files
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= files
    assert not [name for name in files if "__pycache__" in name or name.startswith("tests/")]


def test_metadata(distributions: Distributions) -> None:
    described = metadata_of(distributions.wheel)
    assert described.metadata["Name"] == "sealane"
    assert described.version == sealane.__version__
    assert described.metadata["License-Expression"] == "BSD-3-Clause"
    assert described.metadata["License-File"] == "LICENSE"
    assert described.metadata["Requires-Python"] == ">=3.11"
    assert set(described.metadata.get_all("Provides-Extra") or []) == {
        "bench",
        "crypto",
        "dev",
        "docs",
        "migrate",
        "redis",
        "server",
        "test",
    }


def test_run_time_dependencies_have_lower_bounds_and_are_three(distributions: Distributions) -> None:
    requirements = [Requirement(text) for text in metadata_of(distributions.wheel).requires or []]
    needed = {
        requirement.name: [clause.operator for clause in requirement.specifier]
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    assert needed == {"asgiref": [">="], "django": [">="], "msgpack": [">="]}


def test_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", sealane.__version__)


@pytest.mark.parametrize("kind", ["--wheel", "--sdist"])
def test_build_stops_where_a_link_is_a_text_file(tmp_path: Path, kind: str) -> None:
    tree = copy_tree(tmp_path / "tree")
    link = tree / "src" / "sealane" / "routing"
    link.unlink()
    link.write_text("../../routing")  # what Git writes where symbolic links are switched off

    done = build(tree, tmp_path / "out", kind)

    assert done.returncode != 0
    assert "src/sealane/routing should be a symbolic link to the directory of that name" in done.stdout
    assert "git config core.symlinks true" in done.stdout
    assert not (tmp_path / "out").exists() or not [*(tmp_path / "out").iterdir()]


@pytest.mark.parametrize("name", LINKED)
def test_links_are_relative(name: str) -> None:
    link = ROOT / "src" / "sealane" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", "..", name)
    assert (link / "__init__.py").is_file()
