"""The import of ``channels``: a finder for its modules, which are made of names of Sealane's."""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, NamespaceLoader
from importlib.metadata import Distribution, DistributionFinder
from types import ModuleType
from typing import Any, Final

from sealane.compat.distribution import ReleaseInfo, normalized
from sealane.compat.logs import adopt_loggers
from sealane.compat.table import COMMANDS, MODULES, PACKAGES, RELEASES, Home

__all__ = ["FINDER", "ChannelsFinder", "ChannelsLoader", "ChannelsModule"]


def _command(name: str) -> str:
    """Return the module of Sealane with the command that Django looks for in another's package."""
    return f"sealane.management.commands.{name.rpartition('.')[2]}"


class ChannelsModule(ModuleType):
    """A module whose names are at home in other modules.

    To set one of them sets it at home too, where that is in Sealane, so that a test that patches
    ``channels.auth.get_user`` changes what AuthMiddleware calls.
    """

    _sealane_homes: dict[str, Home]

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        home = self.__dict__.get("_sealane_homes", {}).get(name)
        if home is not None and home[0].startswith("sealane."):
            module, attribute = home
            setattr(importlib.import_module(module), attribute, value)


class ChannelsLoader(Loader):
    """Fills a module with the names that the table has for it. A reload takes them from home again."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ChannelsModule(spec.name, f"The names of ``{spec.name}``, as Sealane has them: see ``sealane.compat``.")

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        homes: dict[str, Home]
        if name not in MODULES:
            source = importlib.import_module(_command(name))
            homes = {public: (source.__name__, public) for public in source.__all__}
        else:
            homes = dict(MODULES[name])
        values = {public: getattr(importlib.import_module(at), attribute) for public, (at, attribute) in homes.items()}
        if name in RELEASES:
            values["__version__"] = RELEASES[name]
        else:
            # Not with the first import of the package: settings do that before they configure logging.
            adopt_loggers()
        vars(module).update(values, _sealane_homes=homes, __all__=sorted(homes))


class ChannelsFinder(DistributionFinder):
    """Finds the modules of the table, and what ``importlib.metadata`` asks about their packages.

    It stands before the finders of the path. A module that the table lacks is not found: not in a real package of
    the same name either.
    """

    def __init__(self) -> None:
        self._loader = ChannelsLoader()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        if fullname not in MODULES and fullname.rpartition(".")[0] not in COMMANDS:
            return None
        if package not in RELEASES and fullname == package and self.installed_elsewhere(package):
            return None
        if fullname != package and not isinstance(sys.modules.get(package), ChannelsModule):
            return None
        if fullname not in MODULES and importlib.util.find_spec(_command(fullname)) is None:
            return None
        # No places to search, so that nothing is found below a package but by this finder.
        return ModuleSpec(fullname, self._loader, is_package=fullname in PACKAGES)

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        context = DistributionFinder.Context() if context is None else context
        # Asked for all, it adds nothing: whoever lists what is installed wants the truth.
        if context.name is None or context.path != sys.path:
            return ()
        return [ReleaseInfo(name) for name in RELEASES if normalized(name) == normalized(context.name)]

    def installed_elsewhere(self, package: str) -> str | None:
        """Return where a package is that another finder would import under a name; None where there is none."""
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec = find_spec(package, None)
            # A directory of that name without an __init__.py, which may stand anywhere on the path, is no package.
            if spec is not None and spec.loader is not None and not isinstance(spec.loader, NamespaceLoader):
                return str(spec.origin or "an unknown place")
        return None


#: The one of this process, which install_as_channels() puts into ``sys.meta_path``.
FINDER: Final = ChannelsFinder()
