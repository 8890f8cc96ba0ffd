"""``manage.py runserver``: Django's own command, serving ``ASGI_APPLICATION`` on uvicorn."""

import argparse
import functools
import importlib.util
import os
import signal
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import autoreload
from django.utils.version import get_docs_version

from sealane.exceptions import StartupFailed
from sealane.layers import DEFAULT_CHANNEL_LAYER
from sealane.routing import get_default_application
from sealane.server.reloading import LEAVE_AFTER, leave_within, run_with_reloader
from sealane.types import ASGIApplication

if TYPE_CHECKING:
    from django.core.management.commands.runserver import Command as RunserverCommand

    from sealane.server.development import DevelopmentServer
    from sealane.worker import Worker
elif apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
else:
    from django.core.management.commands.runserver import Command as RunserverCommand

__all__ = ["Command"]

#: Seconds for the jobs of ``--worker`` when the server stops, and for what is cancelled then.
WORKER_SHUTDOWN, WORKER_CANCEL = 1.0, 0.5

#: Seconds that a WebSocket may stay neither accepted nor refused, unless the command says otherwise.
HANDSHAKE_TIMEOUT = 5.0


class Command(RunserverCommand):
    """Django's ``runserver`` with another server: addresses, checks and reloading are Django's."""

    help = "Starts a lightweight development server for ASGI_APPLICATION: HTTP, WebSockets and static files."

    server: "DevelopmentServer | None" = None
    # Django's own, set by handle(); its type stubs leave them out.
    addr: str
    _raw_ipv6: bool

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of an ASGI server to Django's."""
        super().add_arguments(parser)
        parser.add_argument(
            "--noasgi",
            action="store_false",
            dest="use_asgi",
            help="Run Django's own WSGI development server instead, without the options below.",
        )
        parser.add_argument(
            "--ws-max-size",
            type=_size,
            metavar="BYTES",
            help="The largest message that a WebSocket client may send; a larger one closes the connection "
            "with 1009. Default: uvicorn's, 16777216.",
        )
        parser.add_argument(
            "--http-timeout",
            "--http_timeout",
            type=_seconds,
            metavar="SECONDS",
            help="Answer 503 to a request without a complete response in this time, or close its connection "
            "if the response has begun. Event streams are responses too. Default: no limit.",
        )
        parser.add_argument(
            "--websocket-handshake-timeout",
            "--websocket_handshake_timeout",
            type=_seconds,
            default=HANDSHAKE_TIMEOUT,
            metavar="SECONDS",
            help="Refuse a WebSocket that the application has neither accepted nor refused in this time; 0 "
            f"for no limit. Default: {HANDSHAKE_TIMEOUT:g}.",
        )
        parser.add_argument(
            "--worker",
            action="append",
            default=[],
            dest="worker_channels",
            metavar="CHANNEL",
            help="Handle what is sent to this channel too, as manage.py runworker --ack does, in the server's process, "
            "so that the in-memory channel layer will do. May be given several times.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse to start without uvicorn or ASGI_APPLICATION, before a child process does."""
        if options["use_asgi"]:
            # Looked up, not imported: the parent of the reloader has no use for it.
            if importlib.util.find_spec("uvicorn") is None:
                raise CommandError(
                    "runserver needs uvicorn to serve an ASGI application. Install it with: "
                    'pip install "sealane[server]" (or serve WSGI with --noasgi)'
                )
            if not getattr(settings, "ASGI_APPLICATION", None):
                raise CommandError(
                    "The ASGI_APPLICATION setting is missing. Set it to the dotted name of your ASGI "
                    "application, such as 'mysite.asgi.application' (or serve WSGI with --noasgi)"
                )
            if options["worker_channels"] and os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
                # What cannot work at all is said once. In the child it is an error of a source file being edited.
                self.make_worker(options)
        elif options["worker_channels"]:
            raise CommandError("--worker needs the ASGI server: it does not go with --noasgi")
        super().handle(*args, **options)

    def run(self, **options: Any) -> None:
        """Run the server, under the autoreloader if needed. Any end of the process stops the server first."""
        if not options["use_asgi"]:
            super().run(**options)
        elif options["use_reloader"]:
            run_with_reloader(self.inner_run, stop=self.stop_server, **options)
        elif threading.current_thread() is threading.main_thread():
            # SIGTERM would kill the process before the server could end; Ctrl-C leaves by sys.exit(), too.
            before = signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))
            try:
                self.inner_run(None, **options)
            finally:
                # None: a handler that was not installed from Python, and cannot be put back from here.
                signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        else:
            self.inner_run(None, **options)

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Check the project, bind and serve as Django does, but with an ASGI server."""
        if options["use_asgi"]:
            self.server_cls = functools.partial(self.make_server, options)  # type: ignore[assignment]
            # Django would mix threads into the server's class.
            options["use_threading"] = False
        try:
            super().inner_run(*args, **options)
        except StartupFailed as error:
            if not options["use_reloader"]:
                raise CommandError(str(error)) from error
            # The reloader goes on watching: the next change of a source file tries again.
            self.stderr.write(f"Error: {error}. Waiting for a source file to change.")

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Return what is served: the ASGI application, or with ``--noasgi`` Django's WSGI handler."""
        if options["use_asgi"]:
            return self.get_application(options)
        return super().get_handler(*args, **options)

    def get_application(self, options: dict[str, Any]) -> ASGIApplication:
        """Return ASGI_APPLICATION, below Django's static files where they are to be served."""
        application = get_default_application()
        if options.get("use_static_handler", False) and (settings.DEBUG or options["insecure_serving"]):
            from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

            return cast(ASGIApplication, ASGIStaticFilesHandler(cast(Any, application)))
        return application

    def make_server(
        self, options: dict[str, Any], address: tuple[str, int], handler_class: object, *, ipv6: bool = False
    ) -> "DevelopmentServer":
        """Bind the server. Django calls it, past ``options``, like the class of its WSGI server."""
        from sealane.server.development import WS_MAX_SIZE, DevelopmentServer

        # Without a reloader it is a signal in the main thread that stops the server, and the process with it.
        alone = not options["use_reloader"] and threading.current_thread() is threading.main_thread()
        self.server = DevelopmentServer(
            address,
            ipv6=ipv6,
            style=self.style,
            ws_max_size=options["ws_max_size"] or WS_MAX_SIZE,
            http_timeout=options["http_timeout"],
            handshake_timeout=options["websocket_handshake_timeout"],
            on_shutdown=(lambda: leave_within(LEAVE_AFTER, 0)) if alone else None,
            worker=self.make_worker(options),
        )
        return self.server

    def make_worker(self, options: dict[str, Any]) -> "Worker | None":
        """Return the worker for the channels of ``--worker``; None where there are none."""
        if not options["worker_channels"]:
            return None
        from sealane.management.workers import make_worker

        return make_worker(
            options["worker_channels"],
            DEFAULT_CHANNEL_LAYER,
            shares_process=True,
            ack=True,
            shutdown_timeout=WORKER_SHUTDOWN,
            cancel_timeout=WORKER_CANCEL,
        )

    def stop_server(self) -> None:
        """Stop the server where there is one, in bounded time; the end of the process ends the rest."""
        if self.server is not None and not self.server.stop():
            self.stderr.write(self.style.WARNING(f"{self.server!r} did not stop in time; leaving it."))

    def on_bind(self, server_port: int) -> None:
        """Say where the server is, in Django's words."""
        if self.server is None:
            super().on_bind(server_port)
            return
        host = f"[{self.addr}]" if self._raw_ipv6 else "0.0.0.0" if self.addr == "0" else self.addr
        quit_command = "CTRL-BREAK" if sys.platform == "win32" else "CONTROL-C"
        self.stdout.write(
            f"{datetime.now():%B %d, %Y - %X}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            f"Starting ASGI/uvicorn development server at {self.protocol}://{host}:{server_port}/\n"
            f"Quit the server with {quit_command}."
        )
        if self.server.worker is not None:
            self.stdout.write(f"Worker on {', '.join(self.server.worker.channels)}, in this process.")
        if os.environ.get("DJANGO_RUNSERVER_HIDE_WARNING") != "true":
            self.stdout.write(
                self.style.WARNING(
                    "WARNING: This is a development server. Do not use it in a production setting. Use a "
                    "production ASGI server instead.\nFor more information on production servers see: "
                    f"https://docs.djangoproject.com/en/{get_docs_version()}/howto/deployment/"
                )
            )
        # Whoever reads it through a pipe waits for it.
        self.stdout.flush()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds: expected a number, 0 or more")
    return seconds


def _size(text: str) -> int:
    size = int(text) if text.isdecimal() else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in bytes: expected a whole number over 0")
    return size
