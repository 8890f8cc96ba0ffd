"""pytest's part of sealane.testing: the fixture ``sealane_live_server``.

pytest loads it by itself where Sealane is installed, before anything else, so it imports no Django at its
head.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sealane.testing import LiveServer
    from sealane.types import ASGIApplication

__all__ = ["sealane_application"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixture in the form that fits: with the database where pytest-django is there.

    pytest-django orders the tests and chooses their kind of database by the fixtures that a test names when
    it is collected, so the dependency has to stand in the signature.
    """
    manager = config.pluginmanager
    with_django = manager.hasplugin("django") or manager.hasplugin("pytest_django.plugin")
    manager.register(_WithDatabase() if with_django else _WithoutDatabase(), "sealane_live_server")


@pytest.fixture
def sealane_application() -> "ASGIApplication":
    """Return the application that ``sealane_live_server`` serves. Override it to serve another one."""
    from sealane.routing import get_default_application

    return get_default_application()


class _WithDatabase:
    @pytest.fixture
    def sealane_live_server(
        self, transactional_db: None, sealane_application: "ASGIApplication"
    ) -> "Iterator[LiveServer]":
        """Serve the project's ASGI application on a real server: a LiveServer with .url, .ws_url, .restart().

        Each test has its own: its sockets and groups are gone, and every disconnect() has run, before the
        database is emptied for the next one.
        """
        yield from _serve(sealane_application)


class _WithoutDatabase:
    @pytest.fixture
    def sealane_live_server(self, sealane_application: "ASGIApplication") -> "Iterator[LiveServer]":
        """Serve the project's ASGI application on a real server: a LiveServer with .url, .ws_url, .restart()."""
        yield from _serve(sealane_application)


def _serve(application: "ASGIApplication") -> "Iterator[LiveServer]":
    from django.apps import apps

    from sealane.testing import LiveServer

    if not apps.ready:  # an application without Django
        with LiveServer(application) as server:
            yield server
        return
    from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

    from sealane.testing.live import django_server

    static = ASGIStaticFilesHandler if apps.is_installed("django.contrib.staticfiles") else None
    with django_server(application, static_wrapper=static) as server:
        yield server
