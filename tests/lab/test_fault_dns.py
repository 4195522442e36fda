"""The addresses of a host change under the DNS server: row D11, on hosts without engines."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from dnsserver.transport.io_edges import REBIND_S
from lab.etcd import Member
from lab.host import INTERFACE, Host
from lab.lab import Lab
from lab.process import Process
from lab.waiting import wait_until
from tests.lab.faults import FOREIGN, Timeline, fetch, missing, state
from tests.lab.suite import DOMAIN, STATUS

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

NAME, ADDRESS = f"web.{DOMAIN}", "10.250.1.1"
EVERYWHERE = ("--listen", "0.0.0.0:53", "--listen", "[::]:53")
QUICK = ("--etcd-stall", "3s", "--etcd-timeout", "2s", "--stale-after", "3s")
OLD, NEW, NEW6 = "10.88.0.66", "10.88.0.77", "fd88::77"
REBOUND_S = REBIND_S + 5.0
AGAIN_S = 10.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    """Two hosts; etcd is on the first."""
    with Lab(hosts=2, etcd=1, engines=False) as lab:
        lab.etcd.ctl("put", f"{FOREIGN}/web", json.dumps({"host": ADDRESS}))
        yield lab


def _server(host: Host, etcd: str, *flags: str) -> Process:
    command = [sys.executable, "-m", "pilotfish", "dns", "--etcd", etcd, *QUICK, *flags]
    process = host.popen(command, name="dns", cwd=Path.cwd())
    wait_until(lambda: fetch(host, STATUS["dns"], "/ready")[0] == 200, within_s=30, what="the DNS server to be ready")
    return process


def _answers(lab: Lab, at: str, *, tcp: bool = False) -> list[str] | None:
    """What a client outside gets from an address; None: nothing, or not from that address."""
    ask = dns.query.tcp if tcp else dns.query.udp
    try:
        with lab.switch.inside():
            reply = ask(dns.message.make_query(NAME, "A"), at, timeout=1)
    except (dns.exception.DNSException, OSError):
        return None
    return [record.to_text() for rrset in reply.answer for record in rrset]


def _served(lab: Lab, *addresses: str) -> bool:
    return all(_answers(lab, at, tcp=tcp) == [ADDRESS] for at in addresses for tcp in (False, True))


def _ip(host: Host, *commands: str) -> None:
    host.run(["ip", "-batch", "-"], input_text="\n".join(commands) + "\n")


def test_fault_D11_addresses(pair):
    """An address that comes is answered at, one that goes is let go, and all others are answered at meanwhile."""
    host = pair.hosts[1]
    line = Timeline("D11 addresses come and go")
    _ip(host, f"address add {OLD}/24 dev {INTERFACE}")
    process = _server(host, pair.etcd.urls, *EVERYWHERE)
    wait_until(lambda: _served(pair, OLD, host.address, host.address6), within_s=10, what="all to be answered at")
    line.mark("injected")
    _ip(host, f"address del {OLD}/24 dev {INTERFACE}", f"address add {NEW}/24 dev {INTERFACE}",
        f"address add {NEW6}/64 dev {INTERFACE} nodad")  # fmt: skip
    assert _answers(pair, NEW) is None  # it bit
    assert _served(pair, host.address, host.address6)
    wait_until(lambda: _served(pair, NEW, NEW6), within_s=REBOUND_S, what="the new ones to be answered at")
    line.mark("recovered")
    listening = state(host, "dns")["listening"]
    assert {f"{NEW}:53", f"[{NEW6}]:53", f"{host.address}:53", f"[{host.address6}]:53"} <= set(listening)
    assert f"{OLD}:53" not in listening
    assert _served(pair, host.address, host.address6)
    line.mark("verified equal")
    line.show()
    _ip(host, f"address del {NEW}/24 dev {INTERFACE}", f"address del {NEW6}/64 dev {INTERFACE}")
    assert process.terminate() == 0


def test_fault_D11_interface(pair):
    """The interface goes down and comes up: IPv4 is answered at again at once, and the store is found again."""
    host = pair.hosts[1]
    line = Timeline("D11 the interface goes down and up")
    process = _server(host, pair.etcd.urls, *EVERYWHERE)
    line.mark("injected")
    _ip(host, f"link set {INTERFACE} down")
    assert _answers(pair, host.address) is None  # it bit
    wait_until(lambda: "dns data" in missing(host, "dns"), within_s=15, what="the server to say so")
    line.mark("detected")
    with host.inside():
        reply = dns.query.udp(dns.message.make_query(NAME, "A", use_edns=0), "127.0.0.1", timeout=2)
    assert [record.to_text() for rrset in reply.answer for record in rrset] == [ADDRESS]  # loopback is as it was
    _ip(host, f"link set {INTERFACE} up", f"address add {host.address6}/64 dev {INTERFACE} nodad")
    line.mark("healed")
    wait_until(lambda: _served(pair, host.address), within_s=AGAIN_S, what="IPv4 to be answered at")
    line.mark("IPv4")
    wait_until(lambda: not missing(host, "dns"), within_s=AGAIN_S, what="the store to be heard again")
    line.mark("fresh")
    wait_until(lambda: _served(pair, host.address6), within_s=REBOUND_S, what="IPv6 to be answered at")
    line.mark("recovered")
    line.show()
    assert "Traceback" not in process.text()
    assert process.terminate() == 0


def test_fault_D11_no_IPv4(pair):
    """A host that has only IPv6 besides loopback: found, answered at, and the store reached."""
    host = pair.hosts[1]
    member = Member(2, host.place, "[::1]", host.folder / "etcd6", "etcd2=http://[::1]:2380")
    member.start()
    health = ["etcdctl", "--endpoints", member.url, "endpoint", "health"]
    wait_until(lambda: host.run(health, check=False).returncode == 0, within_s=30, what="etcd to serve", every_s=0.1)
    host.run(["etcdctl", "--endpoints", member.url, "put", f"{FOREIGN}/web", json.dumps({"host": ADDRESS})])
    _ip(host, f"address del {host.address}/24 dev {INTERFACE}")
    process = _server(host, member.url, *EVERYWHERE)
    with (
        host.inside(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
        pytest.raises(OSError, match="reach"),
    ):
        probe.connect(("10.88.0.1", 53))  # it bit: there is no way out over IPv4
    assert _served(pair, host.address6)
    assert set(state(host, "dns")["listening"]) == {"127.0.0.1:53", "[::1]:53", f"[{host.address6}]:53"}
    print(f"\nD11: an IPv6-only host is answered at {host.address6}")
    assert process.terminate() == 0
    member.kill()
