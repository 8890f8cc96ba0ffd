"""Django's autoreloader around a server with connections to close: it is told of any end of the process.

Django runs the server in a daemon thread of a child process, and leaves with ``sys.exit(3)`` when a source
file has changed; a parent starts the next child. Its parent kills the child on SIGTERM at once, and on Ctrl-C
after a quarter of a second. The parent here passes the signal on and waits.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from django.utils import autoreload

__all__ = ["KILL_AFTER", "LEAVE_AFTER", "RELOAD", "Supervisor", "leave_within", "run_with_reloader"]

#: The exit status with which Django's autoreloader asks for the next child.
RELOAD = 3

#: Seconds from the beginning of the end until a process leaves, whatever its threads still do.
LEAVE_AFTER = 3.5

#: Seconds between two looks at the source files, while there is no child that does it.
LOOK_AGAIN = 0.5

#: Seconds from a signal until the parent kills a child that has not left.
KILL_AFTER = 6.0

#: Seconds after which the parent passes a signal on once more.
PASS_ON_AGAIN = 1.0


def run_with_reloader(
    serve: Callable[..., None], *, stop: Callable[[], object], outlive_failures: bool = False, **options: Any
) -> None:
    """Run ``serve(**options)`` under Django's autoreloader, in a child process. Main thread only.

    ``stop()`` is called in the child's main thread before the child ends: on a change of a source file, on
    SIGINT and on SIGTERM. It has LEAVE_AFTER seconds, and so have the threads of executors: then the process
    leaves without them. In the parent it does not return: it ends with the child's status, 0 after a signal.

    ``outlive_failures``: a child that fails is followed by another one when a source file changes. Django sees to that
    for ``runserver`` alone: any other command fails where the project's applications cannot be imported.
    """
    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
        sys.exit(Supervisor(outlive_failures=outlive_failures).run())
    with _leaving(stop):
        autoreload.run_with_reloader(serve, **options)


@contextlib.contextmanager
def _leaving(stop: Callable[[], object]) -> Iterator[None]:
    """Call ``stop()`` at the end of the block, which is the end of the process.

    From then on SIGINT and SIGTERM are ignored, since a parent passes on what its terminal sent to both, and
    the process leaves within LEAVE_AFTER seconds.
    """
    status = 0
    try:
        yield
    except SystemExit as request:
        # As Python itself reads it: nothing is success, and a text is an error.
        status = request.code if isinstance(request.code, int) else int(request.code is not None)
        raise
    except BaseException:
        status = 1
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        leave_within(LEAVE_AFTER, status)
        stop()


def leave_within(seconds: float, status: int) -> threading.Timer:
    """End the process with ``status`` in ``seconds``, unless it has ended by then.

    Python waits for the threads of its executors, so a synchronous handler that hangs would keep the process
    from ending for ever. Returns the timer: cancel it to stay.
    """

    def leave() -> None:
        # Not through sys.exit(): in a thread that ends the thread, and exit handlers are what may hang.
        with contextlib.suppress(Exception):
            sys.stderr.write(f"A thread did not end in {seconds:g} s; leaving without it.\n")
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    return timer


def _source_files() -> dict[Path, float]:
    found = {}
    for path in autoreload.iter_all_python_module_files():
        with contextlib.suppress(OSError):  # an editor may be about to put it in place
            found[path] = path.stat().st_mtime
    return found


class Supervisor:
    """The parent: start this command again as a child, and again each time that the child asks for it.

    SIGINT and SIGTERM are passed on to the child as SIGTERM, until it has left, for which it gets KILL_AFTER seconds; a
    second SIGINT kills it. A SIGINT that is ignored (a background job of a shell) stays ignored.

    ``outlive_failures``: wait for a source file to change where the child ends by itself, in place of ending too. The
    files are those that this process has imported.
    """

    def __init__(self, *, outlive_failures: bool = False) -> None:
        self._outlive_failures = outlive_failures
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []

    def __repr__(self) -> str:
        child = "no child" if self._child is None else f"child {self._child.pid}"
        return f"<Supervisor: {child}, {len(self._signals)} signals received>"

    def run(self) -> int:
        """Supervise until a child ends with another status than RELOAD. Returns it, or 0 after a signal."""
        arguments = autoreload.get_child_arguments()
        environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
        if getattr(sys.stdout, "write_through", False):
            # `python -u` is not among the child's arguments.
            environment.setdefault("PYTHONUNBUFFERED", "1")
        with self._handling_signals():
            while True:
                status = self._run_child(arguments, environment)
                if self._signals:
                    return 0
                if status == RELOAD:
                    continue
                if not self._outlive_failures:
                    return status
                self._wait_for_change(status)
                if self._signals:
                    return 0

    def _wait_for_change(self, status: int) -> None:
        """Wait until a source file was changed, or a signal came."""
        before = _source_files()
        sys.stderr.write(f"It ended with status {status}. Waiting for a source file to change.\n")
        sys.stderr.flush()
        while not self._signals and _source_files() == before:
            time.sleep(LOOK_AGAIN)

    def _run_child(self, arguments: list[str], environment: dict[str, str]) -> int:
        self._child = subprocess.Popen(arguments, env=environment, close_fds=False)
        if self._signals:
            # It came while the child was being started, so nobody has passed it on.
            self._pass_on()
        return self._child.wait()

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._received) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
        if len(self._signals) == 1:
            self._pass_on()
        elif self._signals.count(signal.SIGINT) > 1 and self._child is not None:
            self._child.kill()

    def _pass_on(self) -> None:
        if self._child is not None:
            threading.Thread(target=_end, args=(self._child,), daemon=True).start()


def _end(child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + KILL_AFTER
    while (left := deadline - time.monotonic()) > 0:
        # On Windows the console has sent Ctrl-C to the child as well, and terminating is killing.
        if sys.platform != "win32":
            # Again and again: Django's handler raises SystemExit, which gets lost where Python is just calling
            # somebody back about a weak reference. A child that is on its way out ignores the signal.
            child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(min(left, PASS_ON_AGAIN))
            return
    child.kill()
