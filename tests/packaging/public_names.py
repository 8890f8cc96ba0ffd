"""Import every public name of Sealane and print what was found, as JSON.

The packaging tests run this file on its own, in an environment that holds nothing but the installed wheel and
its declared dependencies: standard library and Django only.
"""

import importlib
import json
import pkgutil
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_public_names", "is_public", "public_modules"]

#: Django finds these by their place, nobody imports names from them.
FOUND_BY_PLACE = ("sealane.management", "sealane.migrations", "sealane.templatetags")


def is_public(module: str) -> bool:
    """Tell whether users import from a module: not from private ones, nor from those that Django finds."""
    if any(part.startswith("_") for part in module.split(".")):
        return False
    return not any(module == place or module.startswith(f"{place}.") for place in FOUND_BY_PLACE)


def public_modules() -> list[str]:
    """List the dotted names of the public modules, in order, importing `sealane` alone."""
    import sealane

    names = ["sealane"]
    waiting = [("sealane.", list(sealane.__path__))]
    while waiting:
        prefix, path = waiting.pop()
        for found in pkgutil.iter_modules(path, prefix):
            if is_public(found.name):
                names.append(found.name)
                if found.ispkg:
                    last = found.name.rpartition(".")[2]
                    waiting.append((f"{found.name}.", [f"{entry}/{last}" for entry in path]))
    return sorted(names)


def import_public_names() -> dict[str, dict[str, Any]]:
    """Import each public module and each name in its ``__all__``; report which foreign module was missing."""
    report: dict[str, dict[str, Any]] = {}
    for name in public_modules():
        try:
            module: ModuleType = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "sealane":
                raise
            report[name] = {"needs": (error.name or "").partition(".")[0]}
            continue
        exported: list[str] = getattr(module, "__all__", [])
        for public in exported:
            try:
                getattr(module, public)
            except ImportError as error:
                # It needs an extra, and says which.
                if f"sealane[{error.name}]" not in str(error):
                    raise
        report[name] = {"file": module.__file__, "names": exported}
    return report


if __name__ == "__main__":
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=[
            "sealane",
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
        ],
        SECRET_KEY="for this script only",
    )
    django.setup()
    json.dump(import_public_names(), sys.stdout)
