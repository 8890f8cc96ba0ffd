"""What the tests of the development server share."""

import logging
from collections.abc import Iterator

import pytest

from sealane.server.access import LOGGER_NAME


@pytest.fixture
def loggers() -> Iterator[dict[str, logging.Logger]]:
    """The loggers concerned, as Django leaves them in a new project, with a stream to read instead of stderr."""
    named = {name: logging.getLogger(name) for name in ("django", "django.server", "django.channels", LOGGER_NAME)}
    before = {
        name: (logger.handlers[:], logger.propagate, logger.level, logger.disabled) for name, logger in named.items()
    }
    for name, logger in named.items():
        logger.handlers = []
        logger.propagate = name != "django.server"
        logger.setLevel(logging.INFO if name in ("django", "django.server") else logging.NOTSET)
    yield named
    for name, (handlers, propagate, level, disabled) in before.items():
        logger = named[name]
        logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
        logger.setLevel(level)
