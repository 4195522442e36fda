"""The answers of the server on its sockets beside those of Knot DNS, which serves zone files of the same facts."""

from __future__ import annotations

import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.process import Process
from lab.tools import Tools
from lab.waiting import wait_until
from pilotfish.catalog.record import encode
from pilotfish.catalog.store import Put
from tests.dnsserver import generated
from tests.dnsserver.conftest import Running
from tests.dnsserver.kit import Said, key_of, said
from tests.dnsserver.rows import edns
from tests.dnsserver.test_differential import REVERSE, ZONES, Compared
from tests.dnsserver.zone_files import zone_file

WORLDS, QUESTIONS = 12, 1000
CONFIG = """\
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
zone:
"""
ZONE = """\
  - domain: {zone}
    file: "{folder}/{zone}"
    zonefile-sync: -1
    journal-content: none
"""


@contextmanager
def knot(files: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Knot DNS with some zones; where it answers."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-knot-") as path, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()
        folder, config = Path(path), CONFIG.format(folder=path, port=port)
        for zone, text in files.items():
            # Every zone has a name server for Knot; our reverse zones have none.
            (folder / zone).write_text(text + (f"@ 10 NS ns.dns.{ZONES[0]}.\n" if zone == REVERSE else ""))
            config += ZONE.format(zone=zone, folder=path)
        (folder / "knot.conf").write_text(config)
        tools = Tools(("bench",))
        command = [str(tools.find("knotd")), "--config", str(folder / "knot.conf")]
        process = Process(command, name="knotd", log=folder / "log", env=tools.env())
        try:
            wait_until(lambda: "server started" in (folder / "log").read_text(), within_s=30, what="Knot to serve")
            yield "127.0.0.1", port
        finally:
            process.terminate()


async def fill(running: Running, made: generated.Facts) -> None:
    """Let the store hold the facts; each of the two prefixes is waited for."""
    own = [Put(key_of(record, place), encode(record)) for record, place in generated.records(made)]
    others = [Put(f"/skydns/{key}", value.encode()) for key, value in generated.skydns(made).items()]
    for puts in (own, others):
        await running.seen((await running.store.commit([], puts)).revision)


def shown(found: Said) -> tuple[object, ...]:
    """What two servers have to agree on; the additional section is a matter of taste."""
    rows = {row.lower() for row in found.answer}
    data = {(owner, rtype, says) for owner, _, rtype, says in (row.split(" ", 3) for row in rows)}
    authority = [row.split(" ")[2] for row in found.authority] if not found.answer else []
    return found.rcode, "AA" in found.flags, "TC" in found.flags, frozenset(data), authority


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(WORLDS))
async def test_as_knot_says(run, seed):
    """The same rcode, AA, TC, answer and SOA as Knot's, for a thousand plain questions over UDP."""
    chance = random.Random(seed)
    compared = Compared(chance)
    compared.become(generated.facts(chance))
    running = await run(domain=ZONES, ttl=generated.DEFAULT_TTL)
    await fill(running, compared.facts)
    files = {zone: zone_file(compared.facts, zone, running.service.responder.serial) for zone in ZONES}
    asked, wrong = 0, []
    with knot(files) as at:
        while asked < QUESTIONS:
            for name, rtype in compared.questions():
                # Where aliases end without data, or lead to another zone, servers go different ways; ANY too.
                says = compared.reference.says(name, rtype)
                elsewhere = {
                    data for _, kind, data in says.answer if kind == "CNAME" and zone_of(data) != zone_of(name)
                }
                if rtype == "ANY" or says.leads_nowhere or elsewhere:
                    continue
                message = edns(text=name, rtype=rtype)
                ours, theirs = said(await running.udp(message)), said(await running.udp(message, at))
                asked += 1
                if shown(ours) != shown(theirs):
                    wrong.append(f"{name} {rtype}\n  ours: {ours}\n  Knot: {theirs}")
    assert wrong[:5] == []


def zone_of(name: str) -> str | None:
    return next((zone for zone in ZONES if f".{name.lower()}".endswith(f".{zone}.")), None)
