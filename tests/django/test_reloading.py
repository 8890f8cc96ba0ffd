"""The parent and the child of the autoreloader, each at the level of processes and signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.utils import autoreload

from sealane.server import reloading
from sealane.server.reloading import Supervisor, leave_within, run_with_reloader

#: A child that counts its starts in a file, and ends with the statuses that it is given, one after another.
COUNTING = """
import os, sys
path, statuses = sys.argv[1], sys.argv[2].split(",")
with open(path, "a") as starts:
    starts.write(os.environ["RUN_MAIN"] + " ")
sys.exit(int(statuses[len(open(path).read().split()) - 1]))
"""

#: A child that ends with a status of its own on the first SIGTERM, on the second one, or not at all.
WAITING = """
import pathlib, signal, sys, time
left = {"obedient": 1, "hard of hearing": 2, "stubborn": 1000}[sys.argv[2]]
def leave(*args):
    global left
    left -= 1
    if not left:
        # As every child does: else the next one ends it, while Python is leaving.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(9)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, leave)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(3600)
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a child writes, in a process that is a parent."""
    monkeypatch.delenv(autoreload.DJANGO_AUTORELOAD_ENV, raising=False)
    return tmp_path / "notes"


def run_child(monkeypatch: pytest.MonkeyPatch, source: str, *arguments: object) -> None:
    """Make Supervisor start this instead of the command that pytest was started with."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    monkeypatch.setattr(autoreload, "get_child_arguments", lambda: command)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the handlers of the signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def when_ready(notes: Path, supervisor: Supervisor, *signals: int) -> threading.Thread:
    """Send this process signals as soon as the child has written its note; each when the last one has been handled."""

    main = threading.main_thread().ident
    assert main is not None

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)

    def send() -> None:
        until(notes.exists)
        for number in signals:
            handled = len(supervisor._signals)
            # A supervisor has no other thread, and this process may: one that would not wake who waits for the child.
            signal.pthread_kill(main, number)
            if signal.getsignal(number) is not signal.SIG_IGN:
                until(lambda: len(supervisor._signals) > handled)  # noqa: B023

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def supervise(notes: Path, *signals: int) -> Supervisor:
    """Start a child and send this process signals, until the child has left."""
    supervisor = Supervisor()
    sender = when_ready(notes, supervisor, *signals)

    assert supervisor.run() == 0

    sender.join()
    return supervisor


def status_of(supervisor: Supervisor) -> int:
    """Return what the last child ended with; 9 where it has left by itself."""
    assert supervisor._child is not None
    assert supervisor._child.returncode is not None
    return supervisor._child.returncode


def test_a_child_that_asks_for_a_reload_is_started_again(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_child(monkeypatch, COUNTING, notes, "3,3,5")
    before = signal.getsignal(signal.SIGTERM)

    assert Supervisor().run() == 5

    assert notes.read_text() == "true true true "
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_child_as_sigterm_and_the_parent_waits(
    notes: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run_child(monkeypatch, WAITING, notes, "obedient")
    signal.signal(signal.SIGINT, signal.default_int_handler)

    supervisor = supervise(notes, number)

    assert status_of(supervisor) == 9
    assert supervisor._child is not None
    assert repr(supervisor) == f"<Supervisor: child {supervisor._child.pid}, 1 signals received>"


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_got_lost_in_the_child_is_passed_on_again(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "KILL_AFTER", 3600)
    monkeypatch.setattr(reloading, "PASS_ON_AGAIN", 0.1)
    run_child(monkeypatch, WAITING, notes, "hard of hearing")

    supervisor = supervise(notes, signal.SIGTERM)

    assert status_of(supervisor) == 9


@pytest.mark.usefixtures("handlers")
def test_a_child_that_stays_is_killed(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "KILL_AFTER", 0.1)
    run_child(monkeypatch, WAITING, notes, "stubborn")

    supervisor = supervise(notes, signal.SIGTERM)

    assert status_of(supervisor) == -signal.SIGKILL


@pytest.mark.usefixtures("handlers")
def test_a_second_ctrl_c_kills_the_child(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody else kills it.
    monkeypatch.setattr(reloading, "KILL_AFTER", 3600)
    run_child(monkeypatch, WAITING, notes, "stubborn")
    signal.signal(signal.SIGINT, signal.default_int_handler)

    supervisor = supervise(notes, signal.SIGINT, signal.SIGINT)

    assert status_of(supervisor) == -signal.SIGKILL


@pytest.mark.usefixtures("handlers")
def test_an_ignored_sigint_stays_ignored(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_child(monkeypatch, WAITING, notes, "obedient")
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    supervisor = supervise(notes, signal.SIGINT, signal.SIGTERM)

    assert supervisor._signals == [signal.SIGTERM]


@pytest.mark.usefixtures("handlers")
def test_a_signal_while_no_child_runs_reaches_the_next_one(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without handlers of its own it is killed by SIGTERM, whenever that comes.
    run_child(monkeypatch, "import time; time.sleep(3600)")
    supervisor = Supervisor()
    assert repr(supervisor) == "<Supervisor: no child, 0 signals received>"
    supervisor._received(signal.SIGTERM, None)

    assert supervisor.run() == 0

    assert status_of(supervisor) == -signal.SIGTERM


@pytest.mark.parametrize("unbuffered", [True, False])
def test_an_unbuffered_parent_has_an_unbuffered_child(
    notes: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: bool
) -> None:
    source = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ.get('PYTHONUNBUFFERED', 'no'))"
    run_child(monkeypatch, source, notes)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with open(notes.with_name("stdout"), "w") as stdout:
        stdout.reconfigure(write_through=unbuffered)
        monkeypatch.setattr(sys, "stdout", stdout)
        assert Supervisor().run() == 0

    assert notes.read_text() == ("1" if unbuffered else "no")


def test_the_parent_ends_with_the_childs_status(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_child(monkeypatch, COUNTING, notes, "4")

    with pytest.raises(SystemExit, match="4"):
        run_with_reloader(print, stop=print)


def test_a_timer_to_leave_can_be_cancelled() -> None:
    timer = leave_within(3600, 1)
    timer.cancel()
    timer.join(10)

    assert timer.daemon
    assert not timer.is_alive()


def test_a_process_that_has_to_leave_flushes_and_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)

    leave_within(0.01, 3).join(10)

    assert statuses == [3]
    assert capsys.readouterr().err == "A thread did not end in 0.01 s; leaving without it.\n"


def leaving_in(source: str, leave_after: float = 20) -> tuple[int, str, float]:
    """Run a child's main program: its exit status, its output and how long it took, in seconds.

    The time to leave counts from before the stop. Where the child is to leave by itself, it gets more than that takes.
    """
    program = f"""
import os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from django.utils import autoreload
from sealane.server import reloading
reloading.LEAVE_AFTER = {leave_after}
os.environ["RUN_MAIN"] = "true"

def run(main, **options):
    main(**options)
    {source}

autoreload.run_with_reloader = run
reloading.run_with_reloader(lambda: print("serving"), stop=lambda: print("stopped"))
"""
    began = time.monotonic()
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    return run.returncode, run.stdout + run.stderr, time.monotonic() - began


@pytest.mark.parametrize(
    ("end", "status"),
    [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('why')", 1), ("return", 0), ("raise OSError('why')", 1)],
)
def test_every_end_of_the_child_stops_the_server_and_keeps_its_status(end: str, status: int) -> None:
    code, output, _ = leaving_in(end)

    assert code == status
    assert output.startswith("serving\nstopped\n")
    assert ("why" in output) == ("why" in end)


@pytest.mark.parametrize(("end", "status"), [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('why')", 1)])
def test_a_thread_that_hangs_does_not_keep_the_child(end: str, status: int) -> None:
    code, output, took = leaving_in(f"ThreadPoolExecutor().submit(time.sleep, 3600); {end}", leave_after=2)

    assert code == status
    assert "stopped" in output
    assert "A thread did not end in 2 s; leaving without it." in output
    assert took < 10


def test_signals_during_the_stop_are_ignored() -> None:
    code, output, _ = leaving_in(
        "\n    reloading.leave_within = lambda *args: [os.kill(os.getpid(), n) for n in (2, 15)]; sys.exit(3)"
    )

    assert code == 3
    assert "stopped" in output
