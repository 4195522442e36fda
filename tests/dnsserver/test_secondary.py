"""Knot DNS as a secondary of the server on its sockets: it takes the zone, hears of changes, and answers the same."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.asyncquery
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest

from lab.process import Process
from lab.tools import Tools
from lab.waiting import wait_until
from tests.dnsserver import generated
from tests.dnsserver.conftest import Running, until
from tests.dnsserver.kit import question, said
from tests.dnsserver.test_differential import Compared
from tests.dnsserver.test_knot import fill
from tests.parts.ports import free_port

ZONE = "svc.internal"
CONFIG = """\
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{folder}"
remote:
  - id: primary
    address: 127.0.0.1@{primary}
acl:
  - id: notices
    address: 127.0.0.1
    action: notify
zone:
  - domain: {zone}
    master: primary
    acl: notices
    storage: "{folder}"
    zonefile-sync: -1
    semantic-checks: on
"""


@contextmanager
def knot(port: int, primary: int) -> Iterator[Path]:
    """A secondary; its log."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-knot-") as path:
        folder = Path(path)
        config = CONFIG.format(folder=path, port=port, primary=primary, zone=ZONE)
        (folder / "knot.conf").write_text(config)
        tools = Tools(("bench",))
        command = [str(tools.find("knotd")), "--config", str(folder / "knot.conf")]
        process = Process(command, name="knotd", log=folder / "log", env=tools.env())
        try:
            wait_until(lambda: "server started" in (folder / "log").read_text(), within_s=30, what="Knot to serve")
            yield folder / "log"
        finally:
            process.terminate()


async def serial_at(running: Running, at: tuple[str, int]) -> int:
    rows = said(await running.udp(question(f"{ZONE}.", "SOA"), at)).answer
    return int(rows[0].split()[5]) if rows else -1


async def test_a_transfer_over_real_sockets(run):
    """A client that checks each message takes the zone over TCP, and finds it well-formed."""
    running = await run(transfer=("127.0.0.0/8",))
    for number in range(200):
        await running.put_raw(f"/skydns/internal/svc/n{number}", b'{"host": "10.0.0.1", "port": 80}')
    await running.put_raw("/skydns/internal/svc/dns/ns/a", b'{"host": "127.0.0.1"}')
    zone = dns.zone.Zone(f"{ZONE}.")
    query, _ = dns.xfr.make_query(zone, serial=None)
    await dns.asyncquery.inbound_xfr("127.0.0.1", zone, query, port=running.at[1], timeout=20, lifetime=20)

    assert len([name for name in zone.nodes if str(name).startswith("n")]) >= 200


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
async def test_knot_follows(run, seed):
    """Knot loads each zone with its checks on, has every change within a few seconds, and answers as we do."""
    chance = random.Random(seed)
    compared = Compared(chance)
    compared.become(generated.facts(chance))
    port = free_port()
    at = ("127.0.0.1", port)
    running = await run(
        domain=(ZONE,), ttl=generated.DEFAULT_TTL, transfer=("127.0.0.0/8",), notify=(at,), forward=(("127.0.0.1", 9),)
    )
    await fill(running, compared.facts)
    with knot(port, running.at[1]) as log:

        async def follows() -> bool:
            return await serial_at(running, at) == running.service.responder.serial & 0xFFFFFFFF

        await until(follows, "Knot has the zone")
        for number in range(3):
            await running.put_raw(f"/skydns/internal/svc/late{number}", b'{"host": "10.0.0.1", "mail": true}')
            await until(follows, "Knot has the change")
        names = [name for name in compared.reference.names if name.endswith(f".{ZONE}.") and "*" not in name]
        wrong, asked = [], 0
        for name in [*names, f"late0.{ZONE}.", f"late2.{ZONE}."]:
            for rtype in ("A", "AAAA", "SRV", "TXT", "MX", "CNAME"):
                message = question(name, rtype, id=7)
                ours, theirs = said(await running.udp(message)), said(await running.udp(message, at))
                asked += bool(ours.answer)
                if ours.answer and shown(ours.answer) != shown(theirs.answer) and not elsewhere(ours.answer):
                    wrong.append(f"{name} {rtype}\n  ours: {ours}\n  Knot: {theirs}")

        assert wrong[:5] == []
        assert asked > 20
        assert "error" not in log.read_text()
        assert "semantic check" not in log.read_text()


# A chain has the lowest TTL of all that is in it with us, and each its own with Knot.
def shown(rows: list[str]) -> list[str]:
    chained = any(" CNAME " in row for row in rows)
    return sorted(
        f"{owner} {'' if chained else ttl} {says}" for owner, ttl, says in (row.split(" ", 2) for row in rows)
    )


# Aliases that lead out of the zone, or to another one of ours, are chased by us alone.
def elsewhere(rows: list[str]) -> bool:
    return any(" CNAME " in row and not row.endswith(f".{ZONE}.") for row in rows)
