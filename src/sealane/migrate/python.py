"""Rewrite one Python module."""

import re

import libcst as cst

from sealane.migrate.change import Changes, Finding
from sealane.migrate.imports import rewrite_imports
from sealane.migrate.installed_apps import rewrite_installed_apps
from sealane.migrate.names import Names
from sealane.migrate.parsed import Parsed
from sealane.migrate.strings import rewrite_strings

__all__ = ["rewrite_python"]

#: Parsing takes long, and "channels" is a word of many other trades: of images, of payments.
_MENTIONED = re.compile(
    r"""\b(?:import|from)\b[^\n]*\bchannels\b|["'.]channels\b|\bchannels\.[a-z]|\bchannels_redis\b|\bdaphne\b"""
)


def rewrite_python(text: str, names: Names, newline: str = "\n") -> Changes:
    """Return what is to be done to a module. One that is no Python, for this Python's grammar, is left alone."""
    if not _MENTIONED.search(text):
        return Changes()
    try:
        parsed = Parsed(text)
    except cst.ParserSyntaxError as error:
        return Changes(
            findings=[Finding(error.raw_line, f"cannot be read as Python, and is left alone: {error.message}")]
        )
    changes = rewrite_imports(parsed, names, newline)
    apps, seen = rewrite_installed_apps(parsed)
    changes.add(apps)
    changes.add(rewrite_strings(parsed, names, seen))
    return changes
