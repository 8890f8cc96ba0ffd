"""Ports that nobody else takes while a server is down."""

import random
import socket
import sys

__all__ = ["free_port"]

HOST = "127.0.0.1"

#: Below the ports that Linux (from 32768) and the other systems (from 49152) give to outgoing connections. A client
#: that tries again and again to reach a server which is down could otherwise get its own port as both ends of the
#: connection, and find itself connected.
RANGE = range(20000, 32000)

_given: set[int] = set()


def free_port(count: int = 1) -> int:
    """Return a port that nobody listens on now, and that was not given out before: on Linux, by no process.

    count: of so many in a row, the first. Somebody else may still take one before it is used: who starts a server
    has to try again with another.
    """
    # A generator of its own: tests that seed the shared one in two runs side by side would get the same ports.
    source = random.SystemRandom()
    for _ in range(1000):
        first = source.choice(RANGE[: len(RANGE) - count + 1])
        if all(_claim(port) for port in range(first, first + count)):
            return first
    raise OSError(f"found no free port in {RANGE.start}..{RANGE.stop - 1} in 1000 tries")


def _claim(port: int) -> bool:
    """Take a port for this process; tell whether it was free."""
    if port in _given:
        return False
    claim = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            # This is no file: the kernel forgets the name with the process, which never closes it.
            claim.bind(f"\0sealane-tests-port-{port}")
        with socket.create_server((HOST, port)):
            pass
    except OSError:
        claim.close()
        return False
    _given.add(port)
    claim.detach()
    return True
