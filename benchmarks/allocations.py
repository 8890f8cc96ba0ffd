"""Where the memory of a server goes, by package and line, as tracemalloc has it."""

import gc
import sysconfig
import tracemalloc
from pathlib import Path

__all__ = ["Allocations", "allocations"]

#: Bytes by the place where they were allocated: "package/module.py:line".
Allocations = dict[str, int]

_ROOT = str(Path(__file__).resolve().parent.parent) + "/"
_PLACES = (
    sysconfig.get_path("purelib") + "/",
    sysconfig.get_path("stdlib") + "/",
    f"{_ROOT}src/",
    _ROOT,
)


def allocations() -> Allocations:
    """Return what is allocated now. tracemalloc must have been started."""
    gc.collect()
    found: Allocations = {}
    for statistic in tracemalloc.take_snapshot().statistics("lineno"):
        frame = statistic.traceback[0]
        place = f"{_short(frame.filename)}:{frame.lineno}"
        found[place] = found.get(place, 0) + statistic.size
    return found


def _short(filename: str) -> str:
    for place in _PLACES:
        if filename.startswith(place):
            return filename.removeprefix(place)
    return filename
