"""Each public module says what is public, and says it truly."""

import importlib
import inspect
import pickle
import pkgutil
import traceback
from pathlib import Path

import pytest

from sealane import exceptions
from tests.packaging.conftest import ROOT
from tests.packaging.public_names import is_public, public_modules

MODULES = public_modules()


@pytest.mark.parametrize("name", MODULES)
def test_all_lists_what_the_module_defines(name: str) -> None:
    module = importlib.import_module(name)
    # A package that only holds modules needs no list; one that defines something does, as is seen below.
    exported: list[str] = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    assert [public for public in exported if not hasattr(module, public)] == []

    owner = f"{name}." if hasattr(module, "__path__") else None
    defined = [
        public
        for public, value in vars(module).items()
        if not public.startswith(("_", "pytest_"))
        and (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__ == name or (owner is not None and value.__module__.startswith(owner)))
    ]
    assert sorted(set(defined) - set(exported)) == []


@pytest.mark.parametrize("name", MODULES)
def test_module_is_the_checkouts_and_was_imported_through_the_package(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).is_relative_to(ROOT / "src" / "sealane")


def test_every_exception_is_imported_from_the_package_and_named_after_it() -> None:
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(exceptions.__path__, "sealane.exceptions.")
    ]
    # Those that a module imports, its bases, are listed by the module that defines them.
    written = {
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, exceptions.SealaneError)
    }
    assert sorted(name for module in modules for name in module.__all__) == sorted(written)
    assert set(exceptions.__all__) == written

    for name in exceptions.__all__:
        kind = getattr(exceptions, name)
        assert (kind.__module__, kind.__qualname__) == ("sealane.exceptions", name)
        assert pickle.loads(pickle.dumps(kind)) is kind
    [line] = traceback.format_exception_only(exceptions.ChannelFull("thumbnails"))
    assert line == "sealane.exceptions.ChannelFull: Channel 'thumbnails' is full\n"


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("sealane", True),
        ("sealane.layers.memory", True),
        ("sealane.consumers._machine", False),
        ("sealane._speed.core", False),
        ("sealane.management", False),
        ("sealane.management.commands.runserver", False),
        ("sealane.managementlike", True),
    ],
)
def test_is_public(name: str, public: bool) -> None:
    assert is_public(name) is public
