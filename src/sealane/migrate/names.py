"""Which name of Channels, channels_redis and Daphne is which of Sealane, for whoever rewrites a project's source.

The table is that of ``sealane.compat``, which says where a name is at home. Source imports it from where it is public:
``AsyncConsumer`` from ``sealane.consumers``, and not from the module below that defines it.
"""

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sealane.compat.table import COMMANDS, MODULES, Home

__all__ = ["OLD_PACKAGES", "Names", "Target", "names"]

#: The packages whose names are replaced.
OLD_PACKAGES = ("channels", "channels_redis", "daphne")

#: The modules of commands, which Django finds by their place, and from which projects derive theirs.
_COMMANDS: Mapping[str, str] = {
    f"{package}.{command}": f"sealane.management.commands.{command}"
    for package in COMMANDS
    for command in ("runserver", "runworker")
}

#: Modules whose place another one takes as a whole, whatever becomes of single names; None where nothing does. A name
#: of an application is written in INSTALLED_APPS, and is no class to derive from.
_WHOLE: Mapping[str, str | None] = {
    **_COMMANDS,
    "channels": "sealane",
    "channels.apps": None,
    "daphne.apps": None,
}

_COMPAT = "sealane.compat"


@dataclass(frozen=True)
class Target:
    """A name of Sealane and the module to import it from, or the module itself where ``name`` is None."""

    module: str
    name: str | None = None

    def __str__(self) -> str:
        return self.module if self.name is None else f"{self.module}.{self.name}"


class Names:
    """The modules and names of the old packages, and what they are in Sealane.

    ``modules`` has for each module the home of each of its names, ``whole`` the module that takes a module's place
    where that is not the one in which most of its names are.
    """

    def __init__(self, modules: Mapping[str, Mapping[str, Home]], whole: Mapping[str, str | None]) -> None:
        self._names: dict[str, Target] = {}
        self._modules: dict[str, str | None] = {}
        for module, members in modules.items():
            targets = {name: Target(_public_module(*home), home[1]) for name, home in members.items()}
            self._modules[module] = _most_common([target.module for target in targets.values()])
            if whole.get(module, module) is not None:
                self._names |= {f"{module}.{name}": target for name, target in targets.items()}
        self._modules |= whole

    def is_module(self, dotted: str) -> bool:
        """Tell whether it is a module of the old packages, perhaps one without a successor."""
        return dotted in self._modules

    def find(self, dotted: str) -> Target | None:
        """Return what a name or a module of the old packages is in Sealane; None where it is nothing."""
        if dotted in self._names:
            return self._names[dotted]
        module = self._modules.get(dotted)
        return None if module is None else Target(module)

    def find_prefix(self, dotted: str) -> tuple[int, Target] | None:
        """Return how many parts of a dotted name are one that is known, and what that is in Sealane.

        What follows those is an attribute of a class or a function. All names of a module are known, so the answer is
        None where the longest part that is known is a module and something follows.
        """
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            prefix = ".".join(parts[:count])
            if self.is_module(prefix) and count < len(parts):
                return None
            if (target := self.find(prefix)) is not None:
                return count, target
        return None

    def is_meant(self, dotted: str) -> bool:
        """Tell whether a dotted text is surely about the old packages, whether or not all of it is known.

        ``channels.Channel`` may be a model of an application that somebody has named so.
        """
        parts = dotted.split(".")
        if parts[0] not in OLD_PACKAGES or len(parts) < 2:
            return False
        return parts[0] != "channels" or self.is_module(".".join(parts[:2]))


@cache
def names() -> Names:
    """Return the names of Channels, channels_redis and Daphne."""
    commands = {old: {**MODULES.get(old, {}), "Command": (new, "Command")} for old, new in _COMMANDS.items()}
    return Names({**MODULES, **commands}, _WHOLE)


def _most_common(modules: list[str]) -> str | None:
    """The module that is there most often; one of Sealane's own rather than one of the compatibility layer."""
    proper = [module for module in modules if not f"{module}.".startswith(f"{_COMPAT}.")] or modules
    return max(dict.fromkeys(proper), key=proper.count, default=None)


def _public_module(module: str, name: str) -> str:
    """The shortest module of Sealane that offers a name which is at home in this one, or below it."""
    parts = module.split(".")
    if parts[0] == "sealane":
        for count in range(2, len(parts)):
            package = ".".join(parts[:count])
            if name in _offered(package):
                return package
    return module


@cache
def _offered(package: str) -> frozenset[str]:
    """The names in a package's ``__all__``, which is read and not run: it may want the settings of a project."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return frozenset()
    for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                return frozenset(ast.literal_eval(value))
    return frozenset()
