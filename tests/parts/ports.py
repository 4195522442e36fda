"""Ports of loopback for what tests and benches start."""

from __future__ import annotations

import contextlib
import random
import socket

# Below those that the kernel gives to clients: one of these may be taken before it is listened on.
FIRST, LAST = 10_000, 32_000
_CHANCE = random.SystemRandom()  # whoever seeds the common one would have all processes try the same ports


_GIVEN: set[int] = set()  # by this process: one may be used some time after it was given


def free_port() -> int:
    """A port that nobody has at this moment, neither for TCP nor for UDP; never the same twice."""
    while True:
        port = _CHANCE.randrange(FIRST, LAST)
        if port in _GIVEN:
            continue
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        ):
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
            _GIVEN.add(port)
            return port
