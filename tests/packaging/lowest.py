"""Print pip constraints that pin every dependency in pyproject.toml to its lower bound.

`make test-lowest` asks it, before any environment exists: standard library only. The pins are read, not
repeated, so they cannot drift from what the package declares.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["pin", "pins"]

#: The extras whose lower bounds are tried. The rest are tools of ours.
EXTRAS = ("crypto", "redis", "server", "test")

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,\s-]+\])?>=(?P<version>[\w.]+)(?P<marker>\s*;.*)?")


def pin(requirement: str) -> str:
    """Turn `name[extra]>=1.2; marker` into `name==1.2; marker`."""
    match = REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} has no lower bound that can be tried: write it as name>=version")
    return f"{match['name']}=={match['version']}{match['marker'] or ''}"


def pins(project: Mapping[str, Any], *, extras: Iterable[str] = EXTRAS) -> list[str]:
    """List the pins of the run-time dependencies and of the extras, one for each distribution."""
    requirements = [*project["dependencies"]]
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    return sorted({pin(requirement) for requirement in requirements if not requirement.startswith("sealane")})


if __name__ == "__main__":
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    sys.stdout.write("\n".join(pins(tomllib.loads(pyproject.read_text())["project"])) + "\n")
