"""The addresses of a whole DNS server process: taken at the start, and shared for an upgrade without a gap (row D10)."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest

from bench.watched import Watched, added
from tests.parts.dns_program import DOMAIN, LOCAL, Program
from tests.parts.etcd_server import EtcdCluster, free_port

pytestmark = pytest.mark.timeout(120)

KINDS = {"UDP": socket.SOCK_DGRAM, "TCP": socket.SOCK_STREAM}
WORKERS = {"one process": (), "two workers": ("--workers", "2")}
CANNOT_START = 1
NOWHERE = "http://127.0.0.1:1"
RATE, NAMES = 2000, 20


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_fault_D10(tmp_path, kind, workers):
    """A port that is taken at the start: the message names it and what to do, the exit code is 1."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind((LOCAL, 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        server = Program(tmp_path, NOWHERE, *workers, port=port)
        await server.start()
        assert await server.ended() == CANNOT_START
    assert f"cannot listen at {LOCAL}:{port}" in (said := server.log.read_text())
    assert "another program has it" in said
    assert "--listen" in said
    assert "Traceback" not in said
