"""What ``importlib.metadata`` says of the packages whose place Sealane takes."""

import os
import re
from importlib.metadata import Distribution

from sealane.compat.table import RELEASES

__all__ = ["ReleaseInfo", "normalized"]


def normalized(name: str) -> str:
    """Return the one spelling of a distribution's name that is compared: ``channels-redis``."""
    return re.sub(r"[-_.]+", "-", name).lower()


class ReleaseInfo(Distribution):
    """The name and the version of a package, for libraries that ask which Channels there is. It has no files."""

    def __init__(self, package: str) -> None:
        self._package = package

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        return (
            "Metadata-Version: 2.1\n"
            f"Name: {self._package}\n"
            f"Version: {RELEASES[self._package]}\n"
            "Summary: Sealane in the place of this package\n"
        )

    def locate_file(self, path: str | os.PathLike[str]) -> os.PathLike[str]:  # type: ignore[override]
        """Raise FileNotFoundError: there is no file."""
        raise FileNotFoundError(f"{self._package} is Sealane here, and has no file {os.fspath(path)!r}")
