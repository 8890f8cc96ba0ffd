"""What holds for every test: no second copy of a package, asyncio's debug mode, and the browser's rule."""

import asyncio.constants
import asyncio.format_helpers
import gc
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Generator, Iterator

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from tests.servers import PostgreSQL, postgresql_programs

# pytest-asyncio switches debug mode on for its own loops. The variable does it for the loops that servers and
# workers start in threads and subprocesses: asyncio reads it each time a loop is made.
os.environ["PYTHONASYNCIODEBUG"] = "1"

# A shell that runs the tests in its background has its programs ignore this signal, and theirs would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: How many frames of the stack debug mode keeps for each call_soon() and each future, in case of an error. It would
#: keep ten, and for the futures that are written in C all, of which fifty are pytest's: half of the time of a test on
#: a loop. None is enough to find what is wrong; for some, while you look for where something was made, raise it.
FRAMES = int(os.environ.get("SEALANE_FRAMES", "0"))
asyncio.constants.DEBUG_STACK_DEPTH = FRAMES  # type: ignore[misc]
if not FRAMES:
    # To keep none takes time, too, once it has looked for the first.
    asyncio.format_helpers.extract_stack = lambda f=None, limit=None: traceback.StackSummary()
# C has taken the function already, and calls it without a limit.
traceback.extract_stack.__defaults__ = (None, FRAMES)

# How long an example takes, or its making, says more of the machine than of the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

#: The repository's top-level packages, which are installed as sealane.consumers and so on.
LINKED = ("consumers", "layers", "routing")


def _stray_modules() -> list[str]:
    """List what was imported from the top of the checkout, and so is a second copy of a package."""
    return [name for name in LINKED if name in sys.modules]


def _complaint(stray: list[str]) -> str:
    return (
        f"imported as top-level modules: {', '.join(stray)}. That is a second copy of the package, with "
        f"classes and state of its own. Import it as sealane.{stray[0]}."
    )


def _missing_browser_programs() -> list[str]:
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


@pytest.fixture(autouse=True)
def _no_second_copy() -> Iterator[None]:
    """Fail the very test that imports `consumers`, `routing` or `layers` from the top of the checkout."""
    yield
    if stray := _stray_modules():
        pytest.fail(_complaint(stray))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Keep the garbage collector from what is collected here: it is a million objects, and all of them stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop the run where collecting the tests has imported a second copy."""
    if stray := _stray_modules():
        raise pytest.UsageError(_complaint(stray))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a browser test where there is no browser; fail it where SEALANE_REQUIRE_BROWSER=1 demands one."""
    if item.get_closest_marker("browser") is None:
        return
    if missing := _missing_browser_programs():
        reason = f"not on the PATH: {', '.join(missing)}"
        if os.environ.get("SEALANE_REQUIRE_BROWSER") == "1":
            pytest.fail(f"SEALANE_REQUIRE_BROWSER=1, but {reason}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL for the whole session; skip where there is none, fail where SEALANE_REQUIRE_POSTGRESQL=1."""
    if postgresql_programs() is None:
        reason = "there is no PostgreSQL here"
        if os.environ.get("SEALANE_REQUIRE_POSTGRESQL") == "1":
            pytest.fail(f"SEALANE_REQUIRE_POSTGRESQL=1, but {reason}", pytrace=False)
        pytest.skip(reason)
    with PostgreSQL() as server:
        yield server


#: Where coverage, which measures subprocesses too, tells them of it.
_COVERAGE_OF_SUBPROCESSES = "COVERAGE_PROCESS_CONFIG"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Take coverage's tracer off a test that is marked so, and off the processes that it starts.

    Around the whole of it, fixtures too: one of a wider scope belongs to the first test that asks for it.
    """
    coverage = Coverage.current()
    if coverage is None or item.get_closest_marker("untraced") is None:
        return (yield)
    configuration = os.environ.pop(_COVERAGE_OF_SUBPROCESSES, None)
    coverage.stop()
    try:
        return (yield)
    finally:
        coverage.start()
        if configuration is not None:
            os.environ[_COVERAGE_OF_SUBPROCESSES] = configuration


def is_of_interest(record: logging.LogRecord) -> bool:
    """Tell a slow step of an event loop, which says more of the machine than of the code, from what else is logged."""
    return not str(record.msg).startswith("Executing %s took")


logging.getLogger("asyncio").addFilter(is_of_interest)
