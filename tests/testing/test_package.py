"""sealane.testing as a package: lazy names, and what its import costs those who do not use it."""

import subprocess
import sys

import pytest

import sealane.testing


def test_every_name_is_there_and_the_same() -> None:
    for name in sealane.testing.__all__:
        assert getattr(sealane.testing, name).__name__ == name
        assert getattr(sealane.testing, name) is getattr(sealane.testing, name)
    assert set(sealane.testing.__all__) <= set(dir(sealane.testing))
    assert sorted(sealane.testing.__all__) == sealane.testing.__all__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'sealane\.testing' has no attribute 'Nothing'$"):
        _ = sealane.testing.Nothing


def test_the_plugin_imports_nothing_else() -> None:
    # pytest imports it in every run, before coverage starts and before Django is configured.
    code = (
        "import sys; sys.path[:] = {path!r}; import sealane.testing.pytest_plugin; "
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in "
        "('asgiref', 'django', 'msgpack', 'sealane', 'uvicorn')))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", code.format(path=sys.path)], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["sealane", "sealane.testing", "sealane.testing.pytest_plugin"]
