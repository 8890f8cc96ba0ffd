"""The scripts that choose the interpreter of `make test-matrix` and the pins of `make test-lowest`."""

import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.conftest import ROOT
from tests.packaging.lowest import pin, pins
from tests.packaging.newest_python import candidates, newest, version_of


def interpreter(path: Path, answer: str, status: int = 0) -> Path:
    """Write a program that answers as an interpreter does when asked for its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_version_of_this_interpreter() -> None:
    version = version_of(Path(sys.executable))
    if sys.version_info.releaselevel == "final":
        assert version == sys.version_info[:3]
    else:
        assert version is None


def test_version_of_a_shim_that_does_not_run(tmp_path: Path) -> None:
    shim = interpreter(tmp_path / "python3.13", "command not found; it exists in 3.13.0", status=127)
    assert version_of(shim) is None
    assert version_of(tmp_path / "absent") is None


def test_newest_looks_past_shims_and_on_to_pyenv(tmp_path: Path) -> None:
    interpreter(tmp_path / "shims" / "python3.13", "not found", status=127)
    interpreter(tmp_path / "usr" / "python3.12", "3 12 1")
    versions = tmp_path / "home" / ".pyenv" / "versions"
    expected = interpreter(versions / "3.13.0" / "bin" / "python3.13", "3 13 0")
    interpreter(versions / "3.9.1" / "bin" / "python3.9", "3 9 1")
    environ = {"PATH": f"{tmp_path / 'shims'}:{tmp_path / 'usr'}"}

    found = newest(candidates(environ, home=tmp_path / "home"), than=(3, 11))

    assert found == expected


def test_newest_ignores_helpers_beside_the_interpreter(tmp_path: Path) -> None:
    interpreter(tmp_path / "python3.13-config", "3 13 0")
    interpreter(tmp_path / "python3.13t", "3 13 0")
    assert [*candidates({"PATH": str(tmp_path)}, home=tmp_path)] == []


def test_newest_is_none_where_nothing_is_newer(tmp_path: Path) -> None:
    same = interpreter(tmp_path / "python3.11", "3 11 9")
    assert newest(iter([same]), than=(3, 11)) is None


def test_newest_takes_the_first_among_equals(tmp_path: Path) -> None:
    first = interpreter(tmp_path / "a" / "python3.13", "3 13 1")
    second = interpreter(tmp_path / "b" / "python3.13", "3 13 1")
    assert newest(iter([first, second]), than=(3, 11)) == first


@pytest.mark.parametrize(
    ("requirement", "pinned"),
    [
        ("django>=5.2", "django==5.2"),
        ("redis[hiredis]>=5.0.1", "redis==5.0.1"),
        ("uvloop>=0.18.0; sys_platform != 'win32'", "uvloop==0.18.0; sys_platform != 'win32'"),
    ],
)
def test_pin(requirement: str, pinned: str) -> None:
    assert pin(requirement) == pinned


@pytest.mark.parametrize("requirement", ["django", "django==5.2", "django<6", "django>=5.2,<6"])
def test_pin_refuses_what_has_no_single_lower_bound(requirement: str) -> None:
    with pytest.raises(ValueError, match="has no lower bound that can be tried: write it as name>=version"):
        pin(requirement)


def test_pins_cover_what_users_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {text.partition("==")[0] for text in pins(project)}
    assert {
        "asgiref",
        "cryptography",
        "django",
        "msgpack",
        "redis",
        "uvicorn",
        "websockets",
        "httptools",
        "uvloop",
    } <= names


def test_every_requirement_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirements in [project["dependencies"], *project["optional-dependencies"].values()]:
        for requirement in map(Requirement, requirements):
            bounds = {specifier.operator for specifier in requirement.specifier}
            assert requirement.name == "sealane" or bounds & {">=", "~="}, f"{requirement} has no lower bound"


def test_a_release_is_tried_on_the_lowest_versions() -> None:
    assert "Before a release, `make test-lowest` has to pass" in (ROOT / "CONTRIBUTING.md").read_text()
    assert "\ntest-lowest:" in (ROOT / "Makefile").read_text()
