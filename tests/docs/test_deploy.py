"""The guide to deploys: its project is served, and its files are read by the programs that they are for."""

import ast
import configparser
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import uvicorn
from django.core.management import call_command
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

import sealane
from sealane.routing import Drain, health
from tests.docs.snippets import DOCS, Block, blocks_of
from tests.servers import Server
from tests.servers.ports import free_port

PAGE = DOCS / "how-to" / "deploy.md"

#: Seconds that anything here may take.
LIMIT = 30


@cache
def files() -> dict[str, Block]:
    return {block.file: block for block in blocks_of(PAGE) if block.file is not None}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A new project with the files of the page, and what a reader has from the tutorial."""
    directory = tmp_path / "project"
    directory.mkdir()
    call_command("startproject", "mysite", str(directory))
    (directory / "chat").mkdir()
    (directory / "chat" / "consumers.py").write_text(
        "from sealane.consumers import AsyncWebsocketConsumer\n\n\nclass ChatConsumer(AsyncWebsocketConsumer): ...\n"
    )
    for block in files().values():
        block.write(directory)
    with (directory / "mysite" / "settings.py").open("a") as settings:
        settings.write('\nINSTALLED_APPS.insert(0, "sealane")\nASGI_APPLICATION = "mysite.asgi.application"\n')
    return directory


def environment(**more: str) -> dict[str, str]:
    source = str(Path(sealane.__file__).parents[1])
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "mysite.settings", "PYTHONPATH": source, **more}


def test_every_file_is_looked_at_here() -> None:
    assert set(files()) == {
        "Dockerfile",
        "deploy/mysite.service",
        "deploy/mysite.yaml",
        "deploy/nginx.conf",
        "gunicorn.conf.py",
        "mysite/asgi.py",
        "mysite/settings.py",
        "mysite/workers.py",
    }


# The project


@pytest.mark.untraced
def test_the_checks_of_a_deployment_find_nothing(project: Path) -> None:
    command = [sys.executable, "manage.py", "check", "--deploy", "--tag", "sealane", "--fail-level", "WARNING"]
    done = subprocess.run(
        command, cwd=project, env=environment(WEB_CONCURRENCY="4"), capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


@pytest.mark.untraced
def test_the_project_is_served_as_in_the_container(project: Path) -> None:
    port = free_port()
    arguments = container_command()
    arguments[arguments.index("--host") + 1] = "127.0.0.1"
    arguments[arguments.index("--port") + 1] = str(port)
    asgi = project / "mysite" / "asgi.py"
    asgi.write_text(asgi.read_text().replace("spread=10", "spread=1"))
    with Server() as server:
        process = subprocess.Popen(
            [sys.executable, *arguments[1:]],
            cwd=project,
            env=environment(REDIS_URL=server.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_for(port, process)
            assert get(port, "/live") == (200, {"status": "alive"})
            assert get(port, "/ready") == (200, {"status": "ready", "checks": {"layer default": "ok"}})
            socket = f"ws://127.0.0.1:{port}/ws/chat/lobby/"
            with pytest.raises(InvalidStatus, match="403"):
                connect(socket, additional_headers={"Origin": "https://elsewhere.example"}, proxy=None)
            with connect(socket, additional_headers={"Origin": "https://www.example.com"}, proxy=None) as page:
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosedError, match="received 1012"):
                    page.recv(timeout=LIMIT)
            output, _ = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
            process.wait()
    assert process.returncode in (0, -signal.SIGTERM), output
    assert "Traceback" not in output


def wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            get(port, "/live")
            return
        except urllib.error.URLError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)


def get(port: int, path: str) -> tuple[int, object]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=LIMIT) as response:
        return response.status, json.load(response)


# Commands for uvicorn


def container_command() -> list[str]:
    [command] = re.findall(r"^CMD (.+)$", files()["Dockerfile"].text, re.MULTILINE)
    arguments: list[str] = json.loads(command)
    return arguments


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(files()["deploy/mysite.service"].text)
    return parser


@pytest.mark.parametrize(
    "arguments", [container_command(), shlex.split(unit()["Service"]["ExecStart"])], ids=["container", "systemd"]
)
def test_uvicorn_knows_its_options(arguments: list[str]) -> None:
    assert Path(arguments[0]).name == "python"
    assert arguments[1:3] == ["-m", "uvicorn"]
    options = import_module("uvicorn.main").main.make_context("uvicorn", arguments[3:]).params
    assert options["app"] == "mysite.asgi:application"
    assert options["ws"] == "websockets-sansio"
    assert options["timeout_graceful_shutdown"] == uvicorn_timeout()


# Files for other programs


def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("not on the PATH: systemd-analyze")
    text = files()["deploy/mysite.service"].text.replace("/srv/mysite/.venv/bin/python", sys.executable)
    file = tmp_path / "mysite.service"
    file.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=50, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "mysite.service" in line]
    assert complaints == []


def test_the_unit_has_what_a_stop_needs() -> None:
    service = unit()["Service"]
    assert service["KillMode"] == "mixed"
    assert "Environment" not in service


NGINX = {
    "alias",
    "default",
    "keepalive",
    "listen",
    "location",
    "map",
    "proxy_buffering",
    "proxy_http_version",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "proxy_set_header",
    "server",
    "server_name",
    "ssl_certificate",
    "ssl_certificate_key",
    "upstream",
    '""',
}


def directives(text: str) -> list[tuple[int, str]]:
    """The depth and the words of each directive, as nginx takes its file apart."""
    found, depth, words = [], 0, ""
    for part in re.split(r"([{};])", re.sub(r"#.*", "", text)):
        match part:
            case "{" | ";":
                assert words, f"{part!r} after nothing"
                found.append((depth, words))
                depth += part == "{"
            case "}":
                assert not words, f"no ';' after {words!r}"
                depth -= 1
                assert depth >= 0
        words = "" if part in "{};" and part else " ".join(part.split())
    assert (depth, words) == (0, "")
    return found


# That nginx reads it, and what goes through it, is in tests/deploys/test_nginx.py.
def test_nginx_knows_the_directives() -> None:
    found = directives(files()["deploy/nginx.conf"].text)
    assert {words.split()[0] for _, words in found} == NGINX
    assert [words for depth, words in found if depth == 0] == [
        "upstream mysite",
        "map $http_upgrade $connection_upgrade",
        "server",
    ]
    assert (2, "proxy_set_header Upgrade $http_upgrade") in found
    assert (2, "proxy_set_header Connection $connection_upgrade") in found
    assert (2, "proxy_buffering off") in found


def test_the_ping_is_more_frequent_than_the_patience_of_nginx() -> None:
    from sealane.consumers import AsyncEventStreamConsumer

    patience = {int(seconds) for seconds in re.findall(r"proxy_\w+_timeout (\d+)s", files()["deploy/nginx.conf"].text)}
    ping = inspect.signature(uvicorn.Config).parameters["ws_ping_interval"].default
    comment = AsyncEventStreamConsumer.keep_alive
    assert comment is not None
    assert max(ping, comment) * 2 < min(patience)
    text = " ".join(files()["deploy/nginx.conf"].text.split())
    assert f"a WebSocket every {ping:g} seconds, and an event stream has a comment every {comment:g}" in text


def test_gunicorns_worker_is_there() -> None:
    settings = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(files()["gunicorn.conf.py"].text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    module, _, name = settings["worker_class"].rpartition(".")
    [worker] = [
        node
        for node in ast.parse(files()[f"{module.replace('.', '/')}.py"].text).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    [assignment] = worker.body
    assert isinstance(assignment, ast.Assign)
    options = ast.literal_eval(assignment.value)
    assert set(options) <= set(inspect.signature(uvicorn.Config).parameters)
    assert options["timeout_graceful_shutdown"] == uvicorn_timeout()
    assert settings["graceful_timeout"] > drain_timeout() + uvicorn_timeout()


def test_docker_knows_the_instructions() -> None:
    found = [line.split()[0] for line in files()["Dockerfile"].text.splitlines() if not line.startswith("#")]
    assert found == ["FROM", "ENV", "WORKDIR", "COPY", "RUN", "COPY", "RUN", "USER", "EXPOSE", "CMD"]


def test_kubernetes_asks_for_what_is_there() -> None:
    text = files()["deploy/mysite.yaml"].text
    probes = dict(re.findall(r"(\w+)Probe:\n +httpGet: \{path: (/\w+), port: http\}", text))
    assert probes == {"startup": "/live", "liveness": "/live", "readiness": "/ready"}
    routes = re.findall(r'path\("(\w+)", (health\.\w+)\)', files()["mysite/asgi.py"].text)
    assert dict(routes) == {"live": "health.live", "ready": "health.ready"}
    patience = [int(seconds) for seconds in re.findall(r"timeoutSeconds: (\d+)", text)]
    assert all(seconds > health.TIMEOUT for seconds in patience)
    assert "\t" not in text


# How long things take


def drain_timeout() -> int:
    text = files()["mysite/asgi.py"].text
    [spread], [timeout] = (re.findall(rf"^    {name}=(\d+),$", text, re.MULTILINE) for name in ("spread", "timeout"))
    defaults = inspect.signature(Drain).parameters
    assert (int(spread), int(timeout)) == (defaults["spread"].default, defaults["timeout"].default)
    return int(timeout)


def uvicorn_timeout() -> int:
    arguments = container_command()
    return int(arguments[arguments.index("--timeout-graceful-shutdown") + 1])


def test_who_kills_waits_for_longer() -> None:
    longest = drain_timeout() + uvicorn_timeout()
    text = files()["deploy/mysite.yaml"].text
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    [before] = re.findall(r'command: \["sleep", "(\d+)"\]', text)
    assert int(grace) > longest + int(before)
    assert int(unit()["Service"]["TimeoutStopSec"]) > longest
    [stop] = re.findall(r"`--stop-timeout (\d+)`", PAGE.read_text())
    assert int(stop) > longest
