"""Ports that nobody else takes while a server is down."""

import random
import socket

__all__ = ["free_port"]

HOST = "127.0.0.1"

#: Below the ports that Linux (from 32768) and the other systems (from 49152) give to outgoing connections. A client
#: that tries again and again to reach a server which is down could otherwise get its own port as both ends of the
#: connection, and find itself connected.
RANGE = range(20000, 32000)

_given: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on now, and that was not given out in this process before.

    Another process may still take it before it is used: who starts a server has to try again with another.
    """
    # A generator of its own: tests that seed the shared one in two runs side by side would get the same ports.
    source = random.SystemRandom()
    for _ in range(1000):
        port = source.choice(RANGE)
        if port in _given:
            continue
        try:
            with socket.create_server((HOST, port)):
                pass
        except OSError:
            continue
        _given.add(port)
        return port
    raise OSError(f"found no free port in {RANGE.start}..{RANGE.stop - 1} in 1000 tries")
