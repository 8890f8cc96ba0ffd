"""The tests that share a worker: what is named there is there."""

import re

from xdist.scheduler import LoadScopeScheduling

from tests.packaging.conftest import ROOT
from tests.sharing import TOGETHER, GroupScheduling, group_of


def test_what_is_named_is_there() -> None:
    assert [head for head in TOGETHER if not (ROOT / head).exists()] == []


def test_an_arrangement_of_redis_is_one_group_in_both_layers() -> None:
    groups = []
    for name in ("streams", "pubsub"):
        path = f"tests/layers/redis/test_{name}_contract.py"
        classes = re.findall(r"^class (Test\w+)", (ROOT / path).read_text(), re.MULTILINE)
        groups.append({group_of(f"{path}::{one}::test_it[a::b]") for one in classes})
        assert groups[-1] == set(classes)
    assert {"TestSentinel", "TestCluster"} <= groups[0] & groups[1]


def test_any_other_module_is_a_group_of_its_own() -> None:
    assert group_of("tests/routing/test_url.py::test_it[a::b]") == "tests/routing/test_url.py"
    assert group_of("tests/compat/test_parts.py::TestIt::test_it") == "tests/compat/test_parts.py"


def test_xdist_asks_for_the_group() -> None:
    # No public name of xdist's: under another one, nobody would notice that the groups are gone.
    assert set(vars(GroupScheduling)) & set(vars(LoadScopeScheduling)) >= {"_split_scope"}
