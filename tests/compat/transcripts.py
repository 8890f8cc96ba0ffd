"""Run the programs, and print what they said: on Channels, or on Sealane in its place.

    python -m tests.compat.transcripts [--sealane] PROGRAM...

prints a JSON object: program, case, lines. It needs what the programs import, and no more, so that it runs in an
environment that holds nothing but Channels.
"""

import argparse
import asyncio
import importlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

__all__ = ["PROGRAMS", "REDIS_PROGRAMS", "WAIT", "Transcript", "case", "configure", "failing", "run_program"]

#: What there is to run.
PROGRAMS = ("consumers", "sync_consumers", "http", "routing", "middleware", "testing", "database", "layers", "worker")

#: What needs a server, whose URL is in COMPAT_REDIS.
REDIS_PROGRAMS = ("redis_core", "redis_pubsub")

#: Seconds that a case may take, which only bound a hang.
PATIENCE = 120.0

#: Seconds that a program waits for what has to come. Where an application has failed, a communicator of Channels waits
#: for all of them, so there are less.
WAIT = float(os.environ.get("COMPAT_WAIT", "30"))

Case = Callable[["Transcript"], Awaitable[None]]


class Transcript:
    """What a case says, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, *values: object) -> None:
        """Add a line: texts as they are, of everything else its repr."""
        self.lines.append(" ".join(value if isinstance(value, str) else repr(value) for value in values))


def case(function: Case) -> Case:
    """Make a coroutine function of a program one of its cases."""
    function.is_case = True  # type: ignore[attr-defined]
    return function


async def failing(transcript: Transcript, what: str, call: Callable[[], Awaitable[Any]], *, text: bool = True) -> None:
    """Say which of the errors that people catch a call raises, or what it returns."""
    try:
        value = await call()
    except (asyncio.CancelledError, Exception) as error:
        names = [base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins"]
        transcript.say(what, "raises", names[0], str(error) if text else "")
    else:
        transcript.say(what, "returns", value)


def configure() -> None:
    """Set up Django, with a database of its own."""
    from django.conf import settings

    scratch = Path(tempfile.mkdtemp(prefix="compat-"))
    settings.configure(
        SECRET_KEY="for these programs only",
        ALLOWED_HOSTS=["example.com"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "channels",
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": scratch / "db.sqlite3"}},
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    )
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    logging.disable(logging.CRITICAL)


def run_program(name: str) -> dict[str, list[str]]:
    """Run the cases of a program, each in an event loop of its own."""
    module = importlib.import_module(f"tests.compat.programs.{name}")
    found: dict[str, list[str]] = {}
    for function in list(vars(module).values()):
        if getattr(function, "is_case", False) and function.__module__ == module.__name__:
            found[function.__name__] = asyncio.run(_run_case(function))
    return found


async def _run_case(function: Case) -> list[str]:
    from channels.layers import channel_layers

    channel_layers.backends = {}
    transcript = Transcript()
    try:
        async with asyncio.timeout(PATIENCE):
            await function(transcript)
    except Exception as error:
        error.add_note(f"in {function.__module__}.{function.__name__}, after {transcript.lines}")
        raise
    return transcript.lines


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sealane", action="store_true")
    parser.add_argument("programs", nargs="+")
    options = parser.parse_args()
    if options.sealane:
        from sealane.compat import install_as_channels

        install_as_channels(force=True)
    configure()
    json.dump({name: run_program(name) for name in options.programs}, sys.stdout, indent=1)
    sys.stdout.flush()
    # Layers and threads of the peers may keep the interpreter from ending.
    os._exit(0)


if __name__ == "__main__":
    main()
