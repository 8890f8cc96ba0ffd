"""Record what Channels does, with what Sealane does in its place, or check that the record still holds.

    python -m tests.compat.record PYTHON [--check]

PYTHON is an interpreter that has Channels and its friends, and nothing of Sealane. ``make peers`` and ``make
check-peers`` call it. The tests compare Sealane with the record, and need no Channels for it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.compat.comparison import RECORDED
from tests.compat.python import ROOT
from tests.compat.transcripts import PROGRAMS, REDIS_PROGRAMS
from tests.servers import Server

__all__ = ["TRANSCRIPTS", "merge", "run_programs"]

TRANSCRIPTS = Path(__file__).parent / "transcripts.json"

#: Seconds, which only bound a hang.
PATIENCE = 600


def run_programs(python: str | Path, url: str, programs: tuple[str, ...], *, sealane: bool) -> dict[str, Any]:
    """Run programs with an interpreter, on Channels or on Sealane, and return what they said."""
    path = [str(ROOT), *([str(ROOT / "src")] if sealane else [])]
    option = ["--sealane"] if sealane else []
    arguments = [str(python), "-W", "ignore", "-m", "tests.compat.transcripts", *option, *programs]
    return _json_of(arguments, PYTHONPATH=os.pathsep.join(path), COMPAT_REDIS=url, COMPAT_WAIT="30" if sealane else "4")


def _json_of(arguments: list[str], **environment: str) -> dict[str, Any]:
    unset = ("DJANGO_SETTINGS_MODULE", "PYTHONASYNCIODEBUG")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=PATIENCE, env=kept | environment, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def merge(theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
    """Put what both said side by side; what Sealane said only where it differs."""
    return {
        program: {
            case: {"channels": lines}
            if mine[program][case] == lines
            else {"channels": lines, "sealane": mine[program][case]}
            for case, lines in cases.items()
        }
        for program, cases in theirs.items()
    }


def main() -> None:
    """Record, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    surface = _json_of([options.python, "-m", "tests.compat.surface"], PYTHONPATH=str(ROOT))
    programs = (*PROGRAMS, *REDIS_PROGRAMS)
    with Server("valkey") as server:
        theirs = run_programs(options.python, server.url, programs, sealane=False)
        if options.check:
            recorded = json.loads(TRANSCRIPTS.read_text())
            said = {
                program: {case: found["channels"] for case, found in cases.items()}
                for program, cases in recorded.items()
            }
            changed = [
                f"{program}.{case}: it says {lines}"
                for program, cases in theirs.items()
                for case, lines in cases.items()
                if said.get(program, {}).get(case) != lines
            ]
            if surface != json.loads(RECORDED.read_text()):
                changed.append(f"the surface, of {surface['versions']}")
            if changed:
                sys.exit("Channels is not what was recorded (make peers records it):\n" + "\n".join(changed))
            return
        mine = run_programs(sys.executable, server.url, programs, sealane=True)
    RECORDED.write_text(json.dumps(surface, indent=1) + "\n")
    TRANSCRIPTS.write_text(json.dumps(merge(theirs, mine), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
