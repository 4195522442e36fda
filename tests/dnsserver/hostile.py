"""Messages that nobody should send, and what is true of every reply to anything."""

from __future__ import annotations

from pathlib import Path

import dns.exception
import dns.message

from dnsserver.access import Clients
from dnsserver.aging import Clock
from dnsserver.cookies import Cookies
from dnsserver.forwarding.recursion import Recursion
from dnsserver.guests import Guests, Policy
from dnsserver.message import wire
from tests.dnsserver.kit import World
from tests.dnsserver.rows import DOMAIN, FOREIGN, RECORDS, edns, query

HEADER = 12


def odd() -> dict[str, bytes]:
    """The messages in data/odd.txt by title."""
    lines = (Path(__file__).parent / "data" / "odd.txt").read_text().splitlines()
    split = (line.split("\t") for line in lines if not line.startswith("#"))
    return {title: bytes.fromhex(octets) for title, octets in split}


ODD = odd()


def guests() -> Guests:
    """Cookies and a name of ours are given, and everybody may have others asked."""
    policy = Policy(recursive=Clients(("0.0.0.0/0", "::/0")), identity="n1", version="pilotfish 0")
    return Guests(policy, Cookies(bytes(range(16))), clock=Clock(1.0, 1_700_000_000.0))


def filled(recursion: Recursion | None = None, made: Guests | None = None) -> World:
    """A world that was asked before, so that finished answers of each kind are at hand."""
    world = World(guests=made or guests(), recursion=recursion)
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
    check_reply(message, reply, tcp=tcp)
    return reply


def check_reply(message: bytes, reply: bytes | None, *, tcp: bool, recursive: bool = False) -> None:
    """Hold a reply against what is true of all of them."""
    if reply is None:
        guarded = b"\xfd\xf3\x00" in message  # SkyDNS's guard against loops of stub zones
        assert len(message) < HEADER or message[2] & 0x80 or guarded, "what is too short, replies and loops get none"
        return
    assert len(reply) >= HEADER
    asked, flags = wire.head(message), wire.head(reply).flags
    assert (wire.head(reply).id, flags & wire.OPCODE_MASK) == (asked.id, asked.flags & wire.OPCODE_MASK)
    assert flags & wire.QR
    assert recursive or not flags & (wire.RA | wire.AD | wire.CD)
    assert not flags & 0x0040
    assert flags & wire.RD == asked.flags & wire.RD
    read = dns.message.from_wire(reply, ignore_trailing=False)
    if read.question:
        end = HEADER + len(read.question[0].name.to_wire()) + 4
        assert reply[HEADER:end] == message[HEADER:end], "the question comes back octet by octet"
    assert read.edns <= 0
    assert len(reply) <= wire.MAX_PLAIN_UDP or len(reply) <= (wire.MAX_TCP if tcp else limit(message))


def limit(message: bytes) -> int:
    """Most octets of a reply over UDP, as dnspython understands the offer."""
    try:
        asked = dns.message.from_wire(message, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return wire.MAX_UDP  # data of a record that only we let pass
    return wire.MAX_PLAIN_UDP if asked.edns < 0 else min(wire.MAX_UDP, max(wire.MAX_PLAIN_UDP, asked.payload))


# What everybody else asks meanwhile. Names that do not exist are answered from what was said of others like them.
OTHERS = [
    make(text, rtype)
    for text in (f"web.{DOMAIN}", f"nope.{DOMAIN}", f"a.b.{DOMAIN}", f"nope.web.{DOMAIN}", f"alias.{DOMAIN}")
    for rtype in ("A", "TXT")
    for make in (query, lambda text, rtype: edns(text=text, rtype=rtype))
]


def told_others(world: World, step: int = 1) -> list[tuple[bytes, int]]:
    """Header and length of what everybody else is told, over both transports; addresses turn."""
    told = [world.send(message, tcp=tcp) or b"" for message in OTHERS[::step] for tcp in (False, True)]
    return [(reply[:HEADER], len(reply)) for reply in told]
