"""``manage.py runserver``, as a user starts it: real processes, signals, source files and clients."""

import argparse
import contextlib
import http.client
import importlib.util
import io
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.contrib.staticfiles.management.commands.runserver import Command as StaticFilesCommand
from django.core.management import CommandError, call_command
from django.core.management.commands.runserver import Command as CoreCommand
from django.core.servers.basehttp import WSGIServer
from django.test import modify_settings, override_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sealane.exceptions import StartupFailed
from sealane.management.commands import runserver
from sealane.management.commands.runserver import Command
from sealane.server.access import LOGGER_NAME
from tests.asgi import application as plain_application
from tests.servers.ports import free_port

PROJECT = Path(__file__).parent / "project"
SOURCE = Path(__file__).parents[2] / "src"

#: Seconds for anything that a server should do soon. Nothing waits that long where all is well.
SOON = 20.0

#: Seconds in which a reload or a signal has to be over, whatever hangs: LEAVE_AFTER, and what a new process takes to
#: start on a busy machine. What hangs does so for good.
BOUND = 20.0


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def until(condition: Callable[[], Any], limit: float = SOON) -> Any:
    deadline = time.monotonic() + limit
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class Manage:
    """One ``manage.py runserver`` in a copy of the sample project, in a process group of its own, like a terminal's."""

    def __init__(self, project: Path, *arguments: str, host: str = "127.0.0.1", **environment: str) -> None:
        self.project = project
        self.host = host
        self.port = free_port()
        self.lines: list[str] = []
        inherited = {name: value for name, value in os.environ.items() if name not in ("DJANGO_COLORS", "RUN_MAIN")}
        address = str(self.port) if host == "127.0.0.1" else f"[{host}]:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", address, *arguments],
            cwd=project,
            env={
                **inherited,
                "PYTHONPATH": str(SOURCE),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def ready(self) -> "Manage":
        """Wait until it serves."""
        try:
            until(lambda: self.answers() or self.process.poll() is not None)
            assert self.process.poll() is None
        except BaseException:
            self.end()
            print(self.output)  # noqa: T201 pytest shows it beside the failure
            raise
        return self

    def answers(self) -> bool:
        try:
            self.get("/")
        except OSError:
            return False
        return True

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection(self.host, self.port, timeout=SOON)) as client:
            client.request("GET", path, headers=headers or {})
            response = client.getresponse()
            return response.status, response.read().decode()

    def refused(self, path: str) -> tuple[int, str]:
        """Ask for a WebSocket; the status and the body of the response that refuses it."""
        return self.get(
            path,
            {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        )

    def connect(self, path: str) -> ClientConnection:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return connect(f"ws://{host}:{self.port}{path}")

    def logged(self, pattern: str) -> list[str]:
        """Wait for lines of the log that match; all of them."""
        return until(lambda: [line for line in self.lines if re.search(pattern, line)])  # type: ignore[no-any-return]

    def rewrite(self, version: str) -> None:
        """Change a source file, until the server has noticed: a change before its first look is none."""
        path = self.project / "urls.py"
        path.write_text(re.sub('VERSION = ".*"', f'VERSION = "{version}"', path.read_text()))
        seen = self.output.count("changed, reloading.")
        for seconds in range(1, 60):
            # A time of its own for each try, and never one that the server has seen.
            stamp = time.time() + seconds
            os.utime(path, (stamp, stamp))
            with contextlib.suppress(AssertionError):
                until(lambda: self.output.count("changed, reloading.") > seen, 0.5)
                return
        raise AssertionError("the server did not notice the change")

    def wait(self) -> int:
        """Wait for the end of the process; its status."""
        return self.process.wait(SOON)

    def end(self) -> None:
        """End what is left of it, and of its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(SOON)
        self._reader.join(SOON)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def managing(directory: Path, *arguments: str, **options: str) -> Iterator[Manage]:
    project = directory / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    manage = Manage(project, *arguments, **options)
    try:
        yield manage
    finally:
        manage.end()


def closed_with(websocket: ClientConnection) -> int | None:
    """Wait for the end of a connection; the code with which the server closed it."""
    with pytest.raises(ConnectionClosed) as error:
        while True:
            websocket.recv(timeout=SOON)
    return None if error.value.rcvd is None else error.value.rcvd.code


def echo(websocket: ClientConnection, text: str = "hello") -> None:
    websocket.send(text)
    assert websocket.recv(timeout=SOON) == text


# Under the autoreloader


@pytest.fixture(scope="module")
def reloading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manage]:
    """A server under the autoreloader with every limit set, and no colours. No busy machine outlasts its times."""
    limits = ("--ws-max-size", "1000", "--http-timeout", "20", "--websocket_handshake_timeout", "20")
    with managing(tmp_path_factory.mktemp("reloading"), *limits, "--no-color") as manage:
        yield manage.ready()


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Manage]:
    """One under the autoreloader for a single test, which changes the project or ends the server."""
    with managing(tmp_path, "--no-color") as manage:
        yield manage.ready()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manage]:
    """The same with times that are soon over, for the tests that wait for that."""
    limits = ("--http-timeout", "0.5", "--websocket_handshake_timeout", "0.5")
    with managing(tmp_path_factory.mktemp("impatient"), *limits, "--no-color") as manage:
        yield manage.ready()


def test_it_serves_http_static_files_and_websockets(reloading: Manage) -> None:
    assert reloading.get("/") == (200, "first")
    assert reloading.get("/static/site.css") == (200, "body { color: teal }\n")
    assert reloading.get("/static/nothing.css")[0] == 404
    with reloading.connect("/ws/echo") as websocket:
        echo(websocket)


def test_the_banner_is_djangos_with_the_servers_name(reloading: Manage) -> None:
    lines = reloading.lines
    start = lines.index(f"Starting ASGI/uvicorn development server at http://127.0.0.1:{reloading.port}/")

    assert re.fullmatch(r"Django version [\d.a-z]+, using settings 'settings'", lines[start - 1])
    assert lines[start + 1] == "Quit the server with CONTROL-C."
    assert lines[start + 2].startswith("WARNING: This is a development server.")
    assert any("System check identified no issues" in line for line in lines[:start])


def test_each_event_gives_one_plain_line(reloading: Manage) -> None:
    with reloading.connect("/ws/echo?token=secret") as websocket:
        port = websocket.socket.getsockname()[1]
        echo(websocket)
        reloading.get("/?page=7")
    reloading.logged(f"DISCONNECT /ws/echo 1000 .*:{port}")
    assert reloading.refused("/ws/refused") == (403, "")

    stamp = r"\[\d\d/\w+/\d{4} \d\d:\d\d:\d\d\] "
    client = r"127\.0\.0\.1:\d+\]"
    for line in (
        stamp + rf"WebSocket CONNECT /ws/echo \[127\.0\.0\.1:{port}\]",
        stamp + rf"WebSocket DISCONNECT /ws/echo 1000 \[127\.0\.0\.1:{port}\]",
        stamp + r"WebSocket REJECT /ws/refused 403 \[" + client,
        stamp + r"HTTP GET /\?page=7 200 \[\d\.\d\d s, " + client,
    ):
        assert len(reloading.logged(f"^{line}$")) == 1, line
    assert "secret" not in reloading.output
    assert "\x1b[" not in reloading.output
    assert "uvicorn.error" not in reloading.output


def test_a_message_over_the_limit_closes_with_1009(reloading: Manage) -> None:
    with reloading.connect("/ws/echo") as websocket:
        echo(websocket, "x" * 1000)
        websocket.send("x" * 1001)
        assert closed_with(websocket) == 1009
    assert reloading.logged("WebSocket DISCONNECT /ws/echo 1009 ")


def test_an_undecided_websocket_is_refused(impatient: Manage) -> None:
    assert impatient.refused("/ws/undecided") == (503, "No answer to the handshake in time\n")
    assert impatient.logged("WebSocket REJECT /ws/undecided 503 ")


def test_a_request_without_a_response_gets_a_503(impatient: Manage) -> None:
    assert impatient.get("/never") == (503, "No complete response within the server's time limit\n")
    # Not before its half a second is over.
    assert impatient.logged(r"HTTP GET /never 503 \[(0\.[5-9]|[1-9])")


def test_a_response_that_does_not_end_is_cut(impatient: Manage) -> None:
    with pytest.raises(http.client.IncompleteRead) as error:
        impatient.get("/partial")

    assert error.value.partial == b"part"
    assert impatient.logged(r"HTTP GET /partial 200 incomplete \[")


def test_a_taken_port_is_djangos_error(reloading: Manage) -> None:
    run = subprocess.run(
        [sys.executable, "manage.py", "runserver", str(reloading.port), "--noreload"],
        cwd=reloading.project,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=SOON,
    )

    assert run.returncode == 1
    assert run.stderr.strip().endswith("Error: That port is already in use.")


def test_a_change_of_a_source_file_closes_with_1012_and_clients_come_back(changing: Manage) -> None:
    with changing.connect("/ws/echo") as websocket:
        echo(websocket)
        changing.rewrite("second")
        assert closed_with(websocket) == 1012

    until(changing.answers)
    assert changing.get("/") == (200, "second")
    with changing.connect("/ws/echo") as websocket:
        echo(websocket)
    assert changing.logged("WebSocket DISCONNECT /ws/echo 1012 ")
    assert "/ws/echo 1012" in (changing.project / "notes.txt").read_text(), "the application has seen the end"


def test_sigterm_for_the_parent_closes_with_1012_and_ends_both_processes(changing: Manage) -> None:
    with changing.connect("/ws/echo") as websocket:
        echo(websocket)
        began = time.monotonic()
        changing.process.terminate()

        assert closed_with(websocket) == 1012
    assert changing.wait() == 0
    assert time.monotonic() - began < BOUND
    assert (changing.project / "notes.txt").read_text() == "/ws/echo 1012\n"
    assert not changing.answers(), "no child is left"
    assert "Traceback" not in changing.output


def test_what_hangs_does_not_hold_a_reload_nor_ctrl_c(tmp_path: Path) -> None:
    with managing(tmp_path) as manage:
        manage.ready()
        with (
            manage.connect("/ws/blocked") as blocked,
            contextlib.closing(http.client.HTTPConnection(manage.host, manage.port, timeout=SOON)) as client,
        ):
            echo(blocked)
            client.request("GET", "/events")
            events = client.getresponse()
            assert events.readline() == b"data: hello\n"
            manage.rewrite("second")
            began = time.monotonic()

            assert closed_with(blocked) == 1012
            # The stream was brought to its end: IncompleteRead would say that it was cut.
            assert events.read().endswith(b"\n\n")
            until(lambda: manage.answers() and manage.get("/") == (200, "second"))
            assert time.monotonic() - began < BOUND
        assert "A thread did not end in 3.5 s; leaving without it." in manage.output

        with manage.connect("/ws/blocked") as blocked:
            echo(blocked)
            began = time.monotonic()
            # As a terminal sends it: to the parent and the child.
            os.killpg(manage.process.pid, signal.SIGINT)
            assert closed_with(blocked) == 1012
        assert manage.wait() == 0
        assert time.monotonic() - began < BOUND
        assert "KeyboardInterrupt" not in manage.output


# Without it


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manage]:
    """A server in one process, on IPv6 where the machine has it, with colours and without static files."""
    arguments = ("--noreload", "--nostatic", "--skip-checks", "--force-color")
    directory = tmp_path_factory.mktemp("alone")
    host = "::1" if has_ipv6() else "127.0.0.1"
    with managing(
        directory, *arguments, host=host, DJANGO_COLORS="light;http_info=cyan;http_not_found=yellow"
    ) as manage:
        yield manage.ready()


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_it_serves_on_ipv6(alone: Manage) -> None:
    assert f"server at http://[::1]:{alone.port}/" in alone.output
    with alone.connect("/ws/echo") as websocket:
        echo(websocket)
        port = websocket.socket.getsockname()[1]
    assert alone.logged(rf"WebSocket DISCONNECT /ws/echo 1000 \[\[::1\]:{port}\]")


def test_nostatic_leaves_static_files_to_the_application(alone: Manage) -> None:
    assert alone.get("/static/site.css")[0] == 404


def test_skip_checks_skips_them(alone: Manage) -> None:
    assert "Performing system checks" not in alone.output


def test_lines_are_in_the_colours_of_django(alone: Manage) -> None:
    with alone.connect("/ws/echo"):
        pass
    alone.get("/nothing-here")

    # As DJANGO_COLORS has them.
    assert alone.logged(r"\] \x1b\[36mWebSocket CONNECT /ws/echo \[.*\]\x1b\[0m$")
    assert alone.logged(r"\] \x1b\[33mHTTP GET /nothing-here 404 \[.*\]\x1b\[0m$")
    assert alone.logged(r"\] WebSocket DISCONNECT /ws/echo 1000 \[.*\]$")


def test_sigint_closes_with_1012_and_ends_the_process(tmp_path: Path) -> None:
    with managing(tmp_path, "--noreload") as manage:
        manage.ready()
        with manage.connect("/ws/echo") as websocket:
            echo(websocket)
            began = time.monotonic()
            manage.process.send_signal(signal.SIGINT)

            assert closed_with(websocket) == 1012
        assert manage.wait() == 0
        assert time.monotonic() - began < BOUND
        assert (manage.project / "notes.txt").read_text() == "/ws/echo 1012\n"
        assert "Traceback" not in manage.output


def test_sigterm_without_a_reloader_is_as_gentle_even_where_a_thread_hangs(tmp_path: Path) -> None:
    with managing(tmp_path, "--noreload") as manage:
        manage.ready()
        with manage.connect("/ws/echo") as websocket, manage.connect("/ws/blocked") as blocked:
            echo(websocket)
            echo(blocked)
            began = time.monotonic()
            manage.process.terminate()
            assert closed_with(websocket) == 1012
            assert closed_with(blocked) == 1012
        assert manage.wait() == 0
        assert time.monotonic() - began < BOUND
        assert (manage.project / "notes.txt").read_text() == "/ws/echo 1012\n"


def test_noasgi_is_djangos_own_server(tmp_path: Path) -> None:
    with managing(tmp_path, "--noasgi", "--noreload") as manage:
        manage.ready()
        assert f"Starting development server at http://127.0.0.1:{manage.port}/" in manage.output
        assert manage.get("/") == (200, "first")
        assert manage.get("/static/site.css") == (200, "body { color: teal }\n")
        assert manage.refused("/ws/echo")[0] == 404


# The command's own decisions, in this process


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options with which the server would have been run."""
    options: list[dict[str, Any]] = []
    monkeypatch.setattr(Command, "run", lambda self, **given: options.append(given))
    return options


def test_the_defaults_of_the_options(ran: list[dict[str, Any]]) -> None:
    call_command("runserver")

    options = ran[0]
    assert options["use_asgi"] is True
    assert options["ws_max_size"] is None
    assert options["http_timeout"] is None
    assert options["websocket_handshake_timeout"] == 5.0
    assert options["use_static_handler"] is True
    assert options["insecure_serving"] is False


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--ws-max-size=2048", "ws_max_size", 2048),
        ("--http-timeout=1.5", "http_timeout", 1.5),
        ("--http_timeout=30", "http_timeout", 30.0),
        ("--websocket-handshake-timeout=0", "websocket_handshake_timeout", 0.0),
        ("--websocket_handshake_timeout=7", "websocket_handshake_timeout", 7.0),
        ("--noasgi", "use_asgi", False),
        ("--insecure", "insecure_serving", True),
        ("--nostatic", "use_static_handler", False),
    ],
)
def test_the_spellings_of_the_options(ran: list[dict[str, Any]], argument: str, name: str, value: object) -> None:
    call_command("runserver", argument)

    assert ran[0][name] == value


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", ""])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a time in seconds: expected a number, 0"):
        runserver._seconds(text)
    with pytest.raises(CommandError, match="is not a time in seconds"):
        call_command("runserver", f"--http-timeout={text}")


@pytest.mark.parametrize("text", ["big", "-1", "0", "1.5", ""])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a size in bytes: expected a whole number"):
        runserver._size(text)


@pytest.mark.parametrize("spelling", ["8000", "0:8000", "[::1]:8000", "localhost:8000"])
def test_the_addresses_are_djangos(ran: list[dict[str, Any]], spelling: str) -> None:
    call_command("runserver", spelling)

    assert ran[0]["addrport"] == spelling


def test_without_uvicorn_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, ran: list[dict[str, Any]]) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None if name == "uvicorn" else real(name))

    with pytest.raises(CommandError, match=re.escape('pip install "sealane[server]"')):
        call_command("runserver")

    call_command("runserver", "--noasgi")
    assert len(ran) == 1


def test_without_asgi_application_it_says_so(ran: list[dict[str, Any]]) -> None:
    with override_settings(ASGI_APPLICATION=None):
        with pytest.raises(CommandError, match="The ASGI_APPLICATION setting is missing"):
            call_command("runserver")
        call_command("runserver", "--noasgi")
    assert len(ran) == 1


def handler(debug: bool = True, **options: Any) -> Any:
    with override_settings(DEBUG=debug):
        return Command().get_handler(
            **{"use_asgi": True, "use_static_handler": True, "insecure_serving": False, **options}
        )


def test_static_files_are_served_with_debug_or_insecure() -> None:
    assert isinstance(handler(), ASGIStaticFilesHandler)
    assert handler().application is plain_application
    assert isinstance(handler(debug=False, insecure_serving=True), ASGIStaticFilesHandler)
    assert handler(debug=False) is plain_application
    assert handler(use_static_handler=False) is plain_application


def test_without_staticfiles_the_base_is_the_core_command() -> None:
    assert issubclass(Command, StaticFilesCommand)

    with modify_settings(INSTALLED_APPS={"remove": "django.contrib.staticfiles"}):
        specification = importlib.util.spec_from_file_location("core_runserver", runserver.__file__)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    core: type[Command] = module.Command

    assert issubclass(core, CoreCommand)
    assert not issubclass(core, StaticFilesCommand)
    with pytest.raises(CommandError, match="unrecognized arguments: --nostatic"):
        call_command(core(), "--nostatic")
    assert core().get_handler(use_asgi=True) is plain_application


def test_the_wsgi_server_is_left_alone() -> None:
    assert Command.server_cls is WSGIServer


def test_a_failed_startup_waits_for_a_change_or_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, *args: Any, **options: Any) -> None:
        raise StartupFailed

    monkeypatch.setattr(CoreCommand, "inner_run", fail)
    errors = io.StringIO()
    command = Command(stderr=errors, no_color=True)

    command.inner_run(use_asgi=True, use_reloader=True)
    assert errors.getvalue() == (
        "Error: The application's lifespan startup failed (the reason is logged above). Waiting for a source file "
        "to change.\n"
    )
    with pytest.raises(CommandError, match="lifespan startup failed"):
        command.inner_run(None, use_asgi=True, use_reloader=False)


def test_it_serves_from_another_thread_than_the_main_one(
    monkeypatch: pytest.MonkeyPatch, loggers: dict[str, logging.Logger]
) -> None:
    monkeypatch.setattr(Command, "check_migrations", lambda self: None)
    monkeypatch.setenv("DJANGO_RUNSERVER_HIDE_WARNING", "true")
    output = io.StringIO()
    command = Command(stdout=output, no_color=True)
    # Port 0 is any free one.
    thread = threading.Thread(target=call_command, args=(command, "0:0", "--noreload", "--skip-checks"))
    thread.start()
    server = until(lambda: "Quit the server" in output.getvalue() and command.server)
    try:
        assert (
            f"Starting ASGI/uvicorn development server at http://0.0.0.0:{server.server_port}/\n" in output.getvalue()
        )
        assert output.getvalue().endswith("Quit the server with CONTROL-C.\n"), "the warning was asked to be hidden"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=SOON)) as client:
            client.request("GET", "/")
            assert client.getresponse().read() == b"Django: /"
    finally:
        command.stop_server()
        thread.join(SOON)
    assert not thread.is_alive()
    assert loggers[LOGGER_NAME].level == loggers["django.server"].level


def test_a_server_that_does_not_stop_is_named() -> None:
    class Stuck:
        def __repr__(self) -> str:
            return "<the server>"

        def stop(self) -> bool:
            return False

    errors = io.StringIO()
    command = Command(stderr=errors, no_color=True)
    command.stop_server()
    assert errors.getvalue() == ""

    command.server = Stuck()  # type: ignore[assignment]
    command.stop_server()
    assert errors.getvalue() == "<the server> did not stop in time; leaving it.\n"


@pytest.mark.parametrize("reloads", [True, False])
def test_noasgi_runs_as_django_does(monkeypatch: pytest.MonkeyPatch, reloads: bool) -> None:
    ran: list[dict[str, Any]] = []
    monkeypatch.setattr(CoreCommand, "run", lambda self, **options: ran.append(options))

    Command().run(use_asgi=False, use_reloader=reloads)

    assert ran == [{"use_asgi": False, "use_reloader": reloads}]


def test_sigterm_is_put_back_where_the_command_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    during: list[Any] = []

    def fail(self: Any, *args: Any, **options: Any) -> None:
        during.append(signal.getsignal(signal.SIGTERM))
        raise CommandError("no")

    monkeypatch.setattr(Command, "inner_run", fail)
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(CommandError, match="no"):
        Command().run(use_asgi=True, use_reloader=False)

    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit, match="0"):
        during[0](signal.SIGTERM, None)
