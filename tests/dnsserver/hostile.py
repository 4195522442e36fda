"""Messages that nobody should send, and what is true of every reply to anything."""

from __future__ import annotations

from pathlib import Path

import dns.message

from dnsserver import wire
from tests.dnsserver.kit import World
from tests.dnsserver.rows import FOREIGN, RECORDS

HEADER = 12


def odd() -> dict[str, bytes]:
    """The messages in data/odd.txt by title."""
    lines = (Path(__file__).parent / "data" / "odd.txt").read_text().splitlines()
    split = (line.split("\t") for line in lines if not line.startswith("#"))
    return {title: bytes.fromhex(octets) for title, octets in split}


ODD = odd()


def filled() -> World:
    """A world that was asked before, so that finished answers of each kind are at hand."""
    world = World()
    for record, place in RECORDS:
        world.put(record, place=place)
    world.skydns({f"internal/svc/{key}": value for key, value in FOREIGN.items()})
    for message in [*ODD.values()] * 3:
        for tcp in (False, True):
            world.send(message, tcp=tcp)
    return world


def check(world: World, message: bytes, *, tcp: bool) -> bytes | None:
    """Send a message, and hold the reply against what is true of all replies of a server that does not forward."""
    reply = world.send(message, tcp=tcp)
    if reply is None:
        guarded = b"\xfd\xf3\x00" in message  # SkyDNS's guard against loops of stub zones
        assert len(message) < HEADER or message[2] & 0x80 or guarded, "what is too short, replies and loops get none"
        return None
    assert len(reply) >= HEADER
    assert len(reply) <= (wire.MAX_TCP if tcp else wire.MAX_UDP)
    asked, flags = wire.head(message), wire.head(reply).flags
    assert (wire.head(reply).id, flags & wire.OPCODE_MASK) == (asked.id, asked.flags & wire.OPCODE_MASK)
    assert flags & wire.QR
    assert not flags & (wire.RA | wire.AD | wire.CD | 0x0040)
    assert flags & wire.RD == asked.flags & wire.RD
    read = dns.message.from_wire(reply, ignore_trailing=False)
    if read.question:
        end = HEADER + len(read.question[0].name.to_wire()) + 4
        assert reply[HEADER:end] == message[HEADER:end], "the question comes back octet by octet"
    if read.edns < 0 and not tcp:
        assert len(reply) <= wire.MAX_PLAIN_UDP
    assert read.edns <= 0
    return reply
