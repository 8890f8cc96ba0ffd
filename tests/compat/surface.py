"""Describe what the modules of Channels and channels_redis offer: names, signatures, attributes of classes.

As a program it prints the description of the packages that it imports as ``channels`` and ``channels_redis``, as JSON:
the real ones, in an environment that has them. ``make peers`` writes it to ``surface.json``. The tests call
``describe()`` where Sealane stands in their place.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import sys
import textwrap
from collections.abc import Iterable
from importlib.metadata import version
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["PACKAGES", "describe", "describe_signature", "modules_of"]

PACKAGES = ("channels", "channels_redis")

#: Names of these come along by import, and are nobody's API.
_FOREIGN = (
    "abc",
    "asgiref",
    "asyncio",
    "base64",
    "binascii",
    "collections",
    "copy",
    "cryptography",
    "daphne",
    "datetime",
    "django",
    "functools",
    "http",
    "importlib",
    "inspect",
    "json",
    "logging",
    "redis",
    "typing",
    "unittest",
    "urllib",
)

#: Classes of these are bases whose attributes come from elsewhere with either.
_BASES_ELSEWHERE = ("abc", "asyncio", "builtins", "daphne", "django", "unittest")


def modules_of(package: str) -> list[str]:
    """List the modules of a package by their files."""
    found = importlib.import_module(package)
    below = pkgutil.walk_packages(found.__path__, f"{package}.")
    return [package, *sorted(module.name for module in below)]


def describe(modules: list[str], names: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Describe modules: all of their public names, or those of another description that they have."""
    return {module: _describe_module(module, None if names is None else names.get(module, {})) for module in modules}


def _describe_module(name: str, names: dict[str, Any] | None) -> dict[str, Any]:
    module = importlib.import_module(name)
    if names is None:
        names = {public: {} for public, value in vars(module).items() if _is_public(public, value)}
    return {
        public: _describe_value(getattr(module, public), names[public].get("attributes", {}))
        for public in sorted(names)
        if hasattr(module, public)
    }


def _is_public(name: str, value: object) -> bool:
    if name == "__version__":
        return True
    if name.startswith("_") or isinstance(value, ModuleType):
        return False
    # An instance has the module of its class: a LazySettings of Django, a Logger.
    home = getattr(value, "__module__", None) or type(value).__module__
    return home.partition(".")[0] not in _FOREIGN


def _describe_value(value: Any, attributes: Iterable[str]) -> dict[str, Any]:
    if inspect.isclass(value):
        found = _attributes(value)
        for name in attributes:
            # One that the peer has of its own may come from Django here.
            if name not in found and hasattr(value, name):
                found[name] = _describe_attribute(inspect.getattr_static(value, name))
        signature = describe_signature(value)
        return {"kind": "class", "home": value.__module__, "signature": signature, "attributes": found}
    if callable(value):
        home = getattr(value, "__module__", None) or getattr(getattr(value, "func", None), "__module__", None)
        return {"kind": "function", "home": home, "signature": describe_signature(value)}
    if value is None or isinstance(value, str | int | float | bool):
        return {"kind": "constant", "value": value}
    return {"kind": "object", "attributes": _attributes(type(value))}


def _attributes(cls: type) -> dict[str, Any]:
    """The public attributes that a class has from its own package."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in _BASES_ELSEWHERE or base.__module__ == "asgiref.sync":
            continue
        for name in vars(base):
            if not name.startswith("_") and name not in found:
                found[name] = _describe_attribute(inspect.getattr_static(base, name))
        for name in [*inspect.get_annotations(base), *_assigned(base)]:
            if not name.startswith("_"):
                found.setdefault(name, {"kind": "attribute"})
    return dict(sorted(found.items()))


def _assigned(cls: type) -> list[str]:
    """The attributes that methods of a class give to its instances."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):
        return []
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]


def _describe_attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, property):
        return {"kind": "property"}
    if isinstance(value, staticmethod | classmethod):
        kind = type(value).__name__
        # A bound method drops its first parameter by itself.
        signature = describe_signature(value.__func__, bound=isinstance(value, classmethod))
        return {"kind": kind, "signature": signature}
    if isinstance(value, FunctionType):
        return {"kind": "method", "signature": describe_signature(value, bound=True)}
    wrapped = getattr(value, "func", None)
    if isinstance(wrapped, FunctionType):  # what database_sync_to_async makes of a method
        return {"kind": "method", "signature": describe_signature(wrapped, bound=True)}
    return {"kind": "attribute"}


def describe_signature(value: Any, *, bound: bool = False) -> list[list[str]] | None:
    """Describe a signature: for each parameter its name, its kind and its default, if it has one."""
    wrapped = getattr(value, "func", None)
    if isinstance(wrapped, FunctionType):
        value = wrapped
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return None
    return [_describe_parameter(parameter) for parameter in parameters[1 if bound else 0 :]]


def _describe_parameter(parameter: inspect.Parameter) -> list[str]:
    described = [parameter.name, parameter.kind.name]
    if parameter.default is not parameter.empty:
        described.append(repr(parameter.default))
    return described


def main() -> None:
    """Print the description of the installed packages."""
    from django.conf import settings

    settings.configure(SECRET_KEY="for this program only")
    described = {
        "versions": {package: version(package) for package in (*PACKAGES, "daphne")},
        "modules": {package: describe(modules_of(package)) for package in PACKAGES},
    }
    json.dump(described, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
