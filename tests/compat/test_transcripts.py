"""What Sealane does in the place of Channels is what Channels did, but for the differences that the page lists."""

import json
import sys
from typing import Any

import pytest

from tests.compat.differences import CASES
from tests.compat.python import ROOT
from tests.compat.record import TRANSCRIPTS, merge, run_programs
from tests.compat.transcripts import PROGRAMS, REDIS_PROGRAMS
from tests.layers.conftest import need
from tests.servers import Server

pytestmark = pytest.mark.untraced

RECORD: dict[str, dict[str, dict[str, list[str]]]] = json.loads(TRANSCRIPTS.read_text())
PAGE = ROOT / "docs" / "how-to" / "move-from-channels.md"


def compare(programs: tuple[str, ...], said: dict[str, Any]) -> None:
    """Fail with every line that is not what the record has."""
    theirs = {program: {case: found["channels"] for case, found in RECORD[program].items()} for program in programs}
    assert merge(theirs, said) == {program: RECORD[program] for program in programs}


def test_programs_say_what_they_say_on_channels() -> None:
    compare(PROGRAMS, run_programs(sys.executable, "", PROGRAMS, sealane=True))


def test_programs_over_redis_say_what_they_say_on_channels_redis() -> None:
    need("valkey")
    with Server("valkey") as server:
        compare(REDIS_PROGRAMS, run_programs(sys.executable, server.url, REDIS_PROGRAMS, sealane=True))


def test_every_difference_stands_on_the_page_and_no_other() -> None:
    different = {
        f"{program}.{case}" for program, cases in RECORD.items() for case, found in cases.items() if "sealane" in found
    }
    assert different == set(CASES)
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for phrase in CASES.values():
        assert [row for row in rows if phrase in row.split(" | ")[0]] != [], phrase


def test_the_record_has_every_program() -> None:
    assert set(RECORD) == {*PROGRAMS, *REDIS_PROGRAMS}
