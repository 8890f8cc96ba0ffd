"""Test a whole Django project through its ASGI application on a real server."""

import contextlib
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.test import TransactionTestCase, modify_settings
from django.utils.functional import classproperty

from sealane.routing import get_default_application
from sealane.testing.database import shared_databases
from sealane.testing.server import LiveServer
from sealane.types import ASGIApplication

__all__ = ["LiveServerTestCase", "django_server"]


@contextlib.contextmanager
def django_server(
    application: ASGIApplication, *, host: str = "localhost", port: int = 0, static_wrapper: Any = None
) -> Iterator[LiveServer]:
    """Serve a Django project's application while the block runs: a LiveServer, with what Django needs around it.

    ``host`` is in ``ALLOWED_HOSTS``, the server's threads can use the test databases, in memory or not (see
    ``shared_databases``), and ``static_wrapper`` serves the static files.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(modify_settings(ALLOWED_HOSTS={"append": host}))
        stack.enter_context(shared_databases())
        if static_wrapper is not None:
            application = static_wrapper(application)
        yield stack.enter_context(LiveServer(application, host=host, port=port))


class LiveServerTestCase(TransactionTestCase):
    """Run the project's ASGI application on a real server, for browsers and other real clients.

    One server serves all tests of the class: uvicorn, in a thread, on ``host`` and a free port.
    ``live_server_url`` and ``live_server_ws_url`` say where; ``server`` is the LiveServer, whose
    ``restart()`` a test may call. The application is the one that ``ASGI_APPLICATION`` names, or the class
    attribute ``application``. With ``serve_static`` the static files of the installed applications are served
    as ``runserver`` does it, where ``django.contrib.staticfiles`` is installed.

    What a test writes is committed, and the database is emptied after each test. Before that the connections
    that are left are closed and every ``disconnect()`` has run, so that no test finds what the one before it
    has left; a server that a test has stopped is started again. Test methods may be asynchronous. What keeps
    the server from starting is raised, as it is, by ``setUpClass()``.
    """

    host = "localhost"
    port = 0
    application: ASGIApplication | None = None
    serve_static = True
    static_wrapper: Any = ASGIStaticFilesHandler
    server: LiveServer

    @classproperty
    def live_server_url(cls) -> str:  # noqa: N805
        """The server's root, ``http://localhost:40123``."""
        return cls.server.url

    @classproperty
    def live_server_ws_url(cls) -> str:  # noqa: N805
        """The root for WebSockets, ``ws://localhost:40123``."""
        return cls.server.ws_url

    @classmethod
    def get_application(cls) -> ASGIApplication:
        """Return the application to serve, without static files."""
        return get_default_application() if cls.application is None else cls.application

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        static = cls.serve_static and apps.is_installed("django.contrib.staticfiles")
        cls.server = cls.enterClassContext(
            django_server(
                cls.get_application(),
                host=cls.host,
                port=cls.port,
                static_wrapper=cls.static_wrapper if static else None,
            )
        )

    def _fixture_teardown(self) -> None:
        # Not tearDown(), nor a clean-up: those of the test come first, and may use the server.
        self.server.close_connections()
        if not self.server.running:
            self.server.start()
        super()._fixture_teardown()  # type: ignore[misc]  # django-stubs leaves it out
