"""Which tests share a worker of xdist: those that share what is dear to start."""

import re

from xdist.scheduler import LoadScopeScheduling

__all__ = ["TOGETHER", "GroupScheduling", "group_of"]

#: How the names of tests begin that share servers or browsers beyond a module, and what these are.
TOGETHER = {
    "tests/asgi_servers/": "the four servers",
    "tests/example/test_browser.py": "two browsers",
    "tests/example/test_pictures.py": "two browsers",
    "tests/example/test_redis.py": "two browsers",
}

#: The contract on Redis is a class for each arrangement of servers, in one module for each layer.
_ARRANGEMENT = re.compile(r"tests/layers/redis/test_\w+_contract\.py::(\w+)::")


def group_of(nodeid: str) -> str:
    """Name the group of a test. Where nothing else is said, that is its module."""
    if arrangement := _ARRANGEMENT.match(nodeid):
        return arrangement[1]
    for head, name in TOGETHER.items():
        if nodeid.startswith(head):
            return name
    return nodeid.partition("::")[0]


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Give each worker one group after the other, the largest first.

    A worker that stole tests from the midst of a group would start the group's servers and browsers once more.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
