"""The addresses of a DNS server process: taken at the start, and shared for an upgrade without a gap (row D10)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from bench.watched import Watched, added
from dnsserver.aging import Clock
from dnsserver.transport import io_addresses
from dnsserver.transport.io_udp import UdpEdge
from tests.parts.dns_program import DOMAIN, LOCAL, Program, quiet_port, until
from tests.parts.etcd_server import EtcdCluster

pytestmark = pytest.mark.timeout(120)

KINDS = {"UDP": socket.SOCK_DGRAM, "TCP": socket.SOCK_STREAM}
WORKERS = {"one process": (), "two workers": ("--workers", "2")}
CANNOT_START = 1
NOWHERE = "http://127.0.0.1:1"
RATE, NAMES = 2000, 20
UPGRADES = 10 if os.environ.get("SOAK") == "1" else 1


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


def _truth() -> list[str]:
    return [f"n{number}.{DOMAIN} A NOERROR 10.0.0.{number}" for number in range(1, NAMES)] + [
        f"nope.{DOMAIN} A NXDOMAIN -"
    ]


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
async def test_fault_D10_upgrade(tmp_path, workers):
    """A new server beside the old one, which is then ended: no question is lost, none is answered otherwise."""
    with EtcdCluster(tmp_path / "etcd") as etcd:
        member = etcd.members[0]
        for number in range(1, NAMES):
            member.ctl("put", f"/skydns/internal/svc/n{number}", f'{{"host": "10.0.0.{number}"}}')
        port, shares = quiet_port(), []
        old = Program(tmp_path, member.url, *workers, port=port, name="old")
        await old.start()
        await old.until_ready()
        with Watched(tmp_path, (LOCAL, port), _truth(), RATE) as witness:
            for number in range(UPGRADES):
                await asyncio.to_thread(witness.wait, 1)
                new = Program(tmp_path, member.url, "--beside", *workers, port=port, name=f"new{number}")
                await new.start()
                await new.until_ready()
                await asyncio.to_thread(witness.wait, 1)
                before = await new.metric("pilotfish_dns_queries_total")
                shares.append(before / (before + await old.metric("pilotfish_dns_queries_total")))
                old.send(signal.SIGTERM)
                assert await old.ended() == 0
                old = new
            await asyncio.to_thread(witness.wait, 1)
        old.send(signal.SIGTERM)
        assert await old.ended() == 0
    found = added(witness.windows())
    assert all(shares)  # it bit: both answered
    print(f"\nD10 {len(shares)} upgrades: {found.text()}")
    assert found.fresh == found.asked, witness.windows()


class Silent:
    """Takes everything and answers nothing."""

    def __init__(self) -> None:
        self.clock, self.hot, self.got = Clock(), lambda _: None, 0

    def udp(self, _message: bytes, _client: bytes) -> None:
        self.got += 1


@pytest.mark.parametrize("ip", [LOCAL, "::1"])
async def test_fault_D10_who_stands_aside(ip):
    """Of two at one address the one that stands aside gets nothing more, and keeps what it has."""
    waiting, later = 50, 500
    udp, tcp = io_addresses.open_pair(ip, 0)
    other, other_tcp = io_addresses.open_pair(ip, udp.getsockname()[1], shared=True)
    old, new = Silent(), Silent()
    edges = [UdpEdge(one, answers, lambda *_: None) for one, answers in ((udp, old), (other, new))]
    clients = [socket.socket(udp.family, socket.SOCK_DGRAM) for _ in range(waiting)]
    for client in clients:
        client.connect((ip, udp.getsockname()[1]))
        client.send(b"before")
    edges[0].stand_aside()
    for number in range(later):
        clients[number % waiting].send(b"after")
    edges[0].close()
    had = old.got
    await until(lambda: old.got + new.got == waiting + later, "everything has come")
    assert 0 < had < waiting
    for one in (edges[1], tcp, other_tcp, *clients):
        one.close()
