"""get_default_application, and what goes wrong with the setting."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from sealane.routing import get_default_application
from tests.routing.recording import Recorder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory to import modules from; what was imported from there is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("sealane_test_"):
            del sys.modules[name]


def test_the_application_that_the_setting_names(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Recorder()
    module: Any = types.ModuleType("sealane_test_site.asgi")
    module.application = app
    monkeypatch.setitem(sys.modules, "sealane_test_site", types.ModuleType("sealane_test_site"))
    monkeypatch.setitem(sys.modules, "sealane_test_site.asgi", module)
    settings.ASGI_APPLICATION = "sealane_test_site.asgi.application"
    assert get_default_application() is app


@pytest.mark.parametrize("value", [None, ""])
def test_the_setting_is_empty(settings: Any, value: object) -> None:
    settings.ASGI_APPLICATION = value
    with pytest.raises(ImproperlyConfigured, match=r"The ASGI_APPLICATION setting is missing\. Set it to the dotted"):
        get_default_application()


def test_the_setting_is_absent(settings: Any) -> None:
    del settings.ASGI_APPLICATION
    with pytest.raises(ImproperlyConfigured, match=r"The ASGI_APPLICATION setting is missing"):
        get_default_application()


@pytest.mark.parametrize("value", ["application", ".application", "module.", 3, ["a.b"]])
def test_the_setting_is_not_a_dotted_name(settings: Any, value: object) -> None:
    settings.ASGI_APPLICATION = value
    with pytest.raises(ImproperlyConfigured, match=r"setting is .*; expected the dotted name of a module and an"):
        get_default_application()


@pytest.mark.parametrize("dotted", ["sealane_test_nowhere.app", "sealane_test_nowhere.asgi.app"])
def test_there_is_no_such_module(settings: Any, dotted: str) -> None:
    settings.ASGI_APPLICATION = dotted
    with pytest.raises(ImproperlyConfigured, match=r"there is no module 'sealane_test_nowhere'$") as caught:
        get_default_application()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_there_is_a_package_but_no_such_module(settings: Any, project: Path) -> None:
    (project / "sealane_test_package").mkdir()
    (project / "sealane_test_package" / "__init__.py").touch()
    settings.ASGI_APPLICATION = "sealane_test_package.asgi.application"
    with pytest.raises(ImproperlyConfigured, match=r"but there is no module 'sealane_test_package\.asgi'$"):
        get_default_application()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import sealane_test_absent", "ModuleNotFoundError: No module named 'sealane_test_absent'"),
        ("from math import nothing", "ImportError: cannot import name 'nothing' from 'math'"),
    ],
)
def test_the_module_imports_something_that_fails(settings: Any, project: Path, source: str, problem: str) -> None:
    (project / "sealane_test_failing.py").write_text(source)
    settings.ASGI_APPLICATION = "sealane_test_failing.application"
    with pytest.raises(
        ImproperlyConfigured, match=f"but importing module 'sealane_test_failing' failed: {problem}"
    ) as caught:
        get_default_application()
    assert isinstance(caught.value.__cause__, ImportError)


def test_other_errors_of_the_module_pass(settings: Any, project: Path) -> None:
    (project / "sealane_test_broken.py").write_text("1 / 0")
    settings.ASGI_APPLICATION = "sealane_test_broken.application"
    with pytest.raises(ZeroDivisionError):
        get_default_application()


def test_the_module_has_no_such_name(settings: Any) -> None:
    settings.ASGI_APPLICATION = "tests.asgi.app"
    with pytest.raises(ImproperlyConfigured, match=r"but module 'tests\.asgi' has no attribute 'app'$") as caught:
        get_default_application()
    assert isinstance(caught.value.__cause__, AttributeError)


def test_what_it_names_cannot_be_called(settings: Any) -> None:
    settings.ASGI_APPLICATION = "tests.asgi.__name__"
    with pytest.raises(ImproperlyConfigured, match=r"but that is 'tests\.asgi', which cannot be called as an ASGI"):
        get_default_application()
