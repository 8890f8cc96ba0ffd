"""The guard of `make bench-check`: it counts the same each time, and fails on what costs 15 % more."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux", allow_module_level=True)

from benchmarks.counted import COUNTED
from benchmarks.guard import compare, main, stored_file
from benchmarks.runner import SLOWING

#: Seconds after which a command hangs. It takes five, and several times that on a busy machine.
HANGS = 200

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(HANGS + 20)]

STORED = ROOT / "benchmarks" / "counts"

#: Rows that are measured in a moment.
SOME = ("broadcast", "connect", "redis-group-send-streams", "redis-sync-streams")


def run_python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python as `make` does: nothing measures the measuring."""
    environment = {name: value for name, value in os.environ.items() if name not in SLOWING}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


def counted(directory: Path) -> dict[str, dict[str, float]]:
    """Return what a run of some rows stores."""
    only = [argument for row in SOME for argument in ("--only", row)]
    done = run_python("-m", "benchmarks.guard", "--write", "--counts", str(directory), *only)
    assert done.returncode == 0, done.stderr
    rows: dict[str, dict[str, float]] = json.loads(stored_file(directory).read_text())["rows"]
    return rows


def test_three_runs_at_once_count_the_same(tmp_path: Path) -> None:
    # That they disturb one another is the point.
    with ThreadPoolExecutor() as pool:
        first, *others = pool.map(counted, [tmp_path / name for name in "abc"])
    assert sorted(first) == sorted(SOME)
    for row, counts in first.items():
        for name, value in counts.items():
            assert [other[row][name] for other in others] == pytest.approx([value] * 2, rel=0.02), (row, name)


#: Stores the counts of a row; then a function of Sealane does more and more, a share of the row's instructions.
PLANT = """
import contextlib, functools, io, json, sys
from pathlib import Path
from benchmarks import guard
from benchmarks.instructions import Counter
from sealane.consumers import AsyncWebsocketConsumer
from sealane.layers import InMemoryChannelLayer, RedisChannelLayer
from sealane.layers.redis.blocking import RedisSyncChannelLayer

row, directory, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
owner, name = {
    "echo": (AsyncWebsocketConsumer, "send"),
    "broadcast": (InMemoryChannelLayer, "group_send"),
    "redis-group-send-streams": (RedisChannelLayer, "group_send"),
    "redis-sync-streams": (RedisSyncChannelLayer, "group_send"),
}[row]
original = getattr(owner, name)

def plant(burden):
    def planted(*args, **kwargs):
        for _ in range(burden):
            pass
        return original(*args, **kwargs)
    setattr(owner, name, planted)

def cost(burden):
    global original
    kept, original = original, int
    plant(burden)
    with Counter() as counted:
        getattr(owner, name)()
    original = kept
    setattr(owner, name, kept)
    return counted.instructions

assert guard.main(["--write", "--only", row, "--counts", directory]) == 0
stored = json.loads(guard.stored_file(Path(directory)).read_text())["rows"][row]["instructions"]
each = (cost(100) - cost(0)) / 100
for share in (0.05, 0.15):
    plant(round((share * stored * times - cost(0)) / each))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = guard.main(["--only", row, "--counts", directory])
    print(json.dumps([status, said.getvalue()]))
"""


@pytest.mark.parametrize(
    ("row", "deliveries"),
    [("echo", 1), ("broadcast", 50), ("redis-group-send-streams", 1), ("redis-sync-streams", 1)],
)
def test_planted_regression(row: str, deliveries: int, tmp_path: Path) -> None:
    done = run_python("-c", PLANT, row, str(tmp_path), str(deliveries))
    assert done.returncode == 0, done.stderr
    small, large = (json.loads(line) for line in done.stdout.splitlines()[1:])
    stored = json.loads(stored_file(tmp_path).read_text())["rows"][row]["instructions"]

    status, said = small
    assert status == 0
    (line,) = [line for line in said.splitlines() if f"{row}, instructions:" in line]
    assert line.startswith("ok ")
    assert "(+4." in line or "(+5." in line

    status, said = large
    assert status == 1
    (line,) = [line for line in said.splitlines() if f"{row}, instructions:" in line]
    assert line.startswith(f"LOST {row}, instructions: ")
    assert f", stored {stored:,.2f} (+1" in line
    assert "make bench-check-store" in said


SCAN = """
import sys
from benchmarks import guard
from sealane.layers.exchange import Exchange

original = Exchange.receive

def scanning(self, *args):
    max(self.board.channels)
    return original(self, *args)

Exchange.receive = scanning
sys.exit(guard.main(["--only", "receive", "--counts", sys.argv[1]]))
"""


def test_scan_in_c_is_found(tmp_path: Path) -> None:
    stored_file(tmp_path).write_text(stored_file(STORED).read_text())
    done = run_python("-c", SCAN, str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("LOST receive, growth: ")]


@pytest.mark.parametrize(
    ("measured", "lost", "won"),
    [(100.0, False, False), (109.9, False, False), (110.1, True, False), (89.0, False, True)],
)
def test_ten_percent_is_the_bound(measured: float, lost: bool, won: bool) -> None:
    (finding,) = compare({"echo": {"calls": measured}}, {"echo": {"calls": 100.0}})
    assert (finding.lost, finding.won) == (lost, won)


def test_what_is_not_stored_is_lost() -> None:
    (finding,) = compare({"echo": {"calls": 3.0}}, {})
    assert finding.lost
    assert str(finding) == "echo, calls: 3.00, none stored"


@pytest.mark.parametrize(("growth", "lost"), [(3.9, False), (4.1, True)])
def test_growth_has_a_bound_of_its_own(growth: float, lost: bool) -> None:
    (finding,) = compare({"receive": {"growth": growth}}, {"receive": {"growth": 0.1}})
    assert finding.lost is lost
    assert str(finding) == f"receive, growth: {growth:.2f}, at most 4"


def test_every_supported_python_has_its_counts() -> None:
    for path in STORED.glob("*.json"):
        assert list(json.loads(path.read_text())["rows"]) == list(COUNTED)
    assert {f"cpython-3.{minor}.json" for minor in (11, 12, 13)} <= {path.name for path in STORED.iterdir()}


def test_python_without_counts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLOWING:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match=r"nothing is stored for this Python"):
        main(["--counts", str(tmp_path)])


def test_what_slows_python_down_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    with pytest.raises(SystemExit, match=r"PYTHONASYNCIODEBUG.* would change what is counted"):
        main([])
