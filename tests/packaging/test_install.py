"""The built wheels, installed where nothing else is: every public name can be imported from there."""

import json
from pathlib import Path
from typing import Any

import pytest

import sealane
from tests.packaging import public_names
from tests.packaging.conftest import Distributions, Environment, install

pytestmark = pytest.mark.untraced

#: Modules that need an extra; importing them without it says which distribution is missing.
NEEDS = {
    "sealane.compat.redis_hosts": "redis",
    "sealane.migrate.bindings": "libcst",
    "sealane.migrate.imports": "libcst",
    "sealane.migrate.installed_apps": "libcst",
    "sealane.migrate.parsed": "libcst",
    "sealane.migrate.project": "libcst",
    "sealane.migrate.python": "libcst",
    "sealane.migrate.splitting": "libcst",
    "sealane.migrate.strings": "libcst",
    "sealane.server.development": "uvicorn",
    "sealane.testing.layer_contract": "pytest",
    "sealane.testing.pytest_plugin": "pytest",
}


@pytest.fixture(scope="module", params=["wheel", "wheel_from_sdist"])
def environment(
    request: pytest.FixtureRequest, distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """Install one of the wheels into an empty environment."""
    return install(getattr(distributions, request.param), tmp_path_factory.mktemp(request.param) / "venv")


def test_every_public_name_can_be_imported(environment: Environment) -> None:
    installed: dict[str, dict[str, Any]] = json.loads(environment.run(public_names.__file__))
    here = public_names.import_public_names()

    needs = {name: entry["needs"] for name, entry in installed.items() if "needs" in entry}
    redis_layers = {name for name in needs if name.startswith("sealane.layers.redis.")}
    assert {needs.pop(name) for name in redis_layers} == {"redis"}
    assert needs == NEEDS
    assert installed.keys() == here.keys()
    for name, entry in installed.items():
        if name not in NEEDS and name not in redis_layers:
            assert entry["names"] == here[name]["names"]
            assert Path(entry["file"]).is_relative_to(environment.python.parents[1])


def test_environment_holds_only_what_is_declared(environment: Environment) -> None:
    code = "from importlib.metadata import distributions; print(*{d.name.lower() for d in distributions()})"
    found = set(environment.run("-c", code).split())
    assert {"asgiref", "django", "msgpack", "sealane"} <= found
    assert found <= {"asgiref", "django", "msgpack", "sealane", "sqlparse", "typing_extensions"}


def test_package_says_that_it_is_typed(environment: Environment) -> None:
    code = "from importlib.resources import files; print(files('sealane').joinpath('py.typed').is_file())"
    assert environment.run("-c", code).strip() == "True"


def test_version_is_the_packages(environment: Environment) -> None:
    code = "import sealane, importlib.metadata as m; print(sealane.__version__, m.version('sealane'))"
    assert environment.run("-c", code).split() == [sealane.__version__] * 2


def test_no_generic_top_level_names(environment: Environment) -> None:
    code = (
        "from importlib.util import find_spec; "
        "print([name for name in ('consumers', 'layers', 'routing') if find_spec(name)])"
    )
    assert environment.run("-c", code).strip() == "[]"
