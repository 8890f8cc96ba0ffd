"""What a report says of the machine, the versions and the date."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import sealane
from benchmarks.processor import cores
from benchmarks.runner import Programs
from benchmarks.store import version as store_version

__all__ = ["describe"]

#: What a figure depends on, in the order of the report. What is not installed is left out.
_DISTRIBUTIONS = (
    "channels",
    "django",
    "asgiref",
    "uvicorn",
    "websockets",
    "httptools",
    "uvloop",
    "msgpack",
    "redis",
    "hiredis",
)

#: What a figure of channels_redis depends on, in the environment that it runs in.
_PEER_DISTRIBUTIONS = ("channels_redis", "channels", "redis", "hiredis")

_ASK = "import importlib.metadata, sys; print(*(importlib.metadata.version(name) for name in sys.argv[1:]))"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Return the commit that is checked out, with a `+` where files differ; None outside of a repository."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _peer(python: str) -> str | None:
    """Return what channels_redis runs on, or None where it isn't installed for that interpreter."""
    try:
        done = subprocess.run([python, "-c", _ASK, *_PEER_DISTRIBUTIONS], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    own, *others = done.stdout.split()
    beside = (f"{name} {version}" for name, version in zip(_PEER_DISTRIBUTIONS[1:], others, strict=True))
    return f"{own} with {', '.join(beside)}"


def describe(programs: Programs | None = None) -> dict[str, str]:
    """Return the facts that a figure depends on, from the processor to the versions, and the date.

    With `programs`, also those of the Redis rows.
    """
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {len(cores())} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sealane": sealane.__version__,
    }
    if revision := _revision():
        facts["revision"] = revision
    for distribution in _DISTRIBUTIONS:
        if version := _version(distribution):
            facts[distribution] = version
    if programs is not None:
        facts[programs.store] = store_version(programs.store)
        if peer := _peer(programs.peer_python):
            facts["channels_redis"] = peer
    return facts
