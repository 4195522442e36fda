"""Which messages are answered, refused or dropped; and that no octets whatever get an exception out of the server."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.message import wire
from dnsserver.screen import HEAD_RULES, QUERY_RULES, screen
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, lan, question, said

NAME = b"\x03web\x03svc\x08internal\x00"
A_IN = b"\x00\x01\x00\x01"
OPT = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"


def head(*, flags: int = 0x0100, qd: int = 1, an: int = 0, ns: int = 0, ar: int = 0) -> bytes:
    return struct.pack("!6H", 0x1234, flags, qd, an, ns, ar)


def opt(*, owner: bytes = b"\x00", version: int = 0, flags: int = 0, rdata: bytes = b"", size: int = 1232) -> bytes:
    return owner + struct.pack("!HHBBHH", 41, size, 0, version, flags, len(rdata)) + rdata


def long_name(octets: int) -> bytes:
    """A name of exactly so many octets below svc.internal."""
    room = octets - len(NAME[4:])
    labels = b""
    while room > 64:
        labels += b"\x3f" + b"a" * 63
        room -= 64
    return labels + bytes((room - 1,)) + b"b" * (room - 1) + NAME[4:]


Q = NAME + A_IN
DROPPED = None

ROWS = {
    # reliability of the header
    "shorter than a header": (head()[:11], DROPPED),
    "empty": (b"", DROPPED),
    "a reply": (head(flags=0x8100) + Q, DROPPED),
    "a reply with an unknown opcode": (head(flags=0xF900) + Q, DROPPED),
    "opcode IQUERY": (head(flags=0x0800) + Q, "NOTIMP"),
    "opcode STATUS": (head(flags=0x1000) + Q, "NOTIMP"),
    "opcode 3": (head(flags=0x1800) + Q, "NOTIMP"),
    "opcode NOTIFY": (head(flags=0x2000) + Q, "NOTIMP"),
    "opcode UPDATE": (head(flags=0x2800) + Q, "NOTIMP"),
    "opcode 15": (head(flags=0x7800) + Q, "NOTIMP"),
    "no question": (head(qd=0), "FORMERR"),
    "two questions": (head(qd=2) + Q + Q, "FORMERR"),
    "65535 questions": (head(qd=65535) + Q, "FORMERR"),
    "an answer in a query": (head(an=1) + Q, "FORMERR"),
    "an authority record in a query": (head(ns=1) + Q, "FORMERR"),
    "three additional records": (head(ar=3) + Q + OPT, "FORMERR"),
    "65535 additional records": (head(ar=65535) + Q + OPT, "FORMERR"),
    "more than 4096 octets": (head(ar=1) + Q + opt(rdata=b"\x00\x0c\x0f\xff" + bytes(4095)), "FORMERR"),
    # the question
    "label of 63": (head() + b"\x3f" + b"a" * 63 + Q[4:], "NXDOMAIN"),
    "label type 01": (head() + b"\x41" + b"a" * 65 + Q[4:], "FORMERR"),
    "label type 10": (head() + b"\x81" + b"a" * 65 + Q[4:], "FORMERR"),
    "pointer to itself": (head() + b"\xc0\x0c" + A_IN, "FORMERR"),
    "pointer forward": (head() + b"\xc0\x10" + A_IN + NAME, "FORMERR"),
    "pointer into the header": (head() + b"\xc0\x00" + A_IN, "FORMERR"),
    "pointer behind a label, a loop": (head() + b"\x01a\xc0\x0c" + A_IN, "FORMERR"),
    "pointer beyond the end": (head() + b"\xff\xff" + A_IN, "FORMERR"),
    "name of 255 octets": (head() + long_name(255) + A_IN, "NXDOMAIN"),
    "name of 256 octets": (head() + long_name(256) + A_IN, "FORMERR"),
    "name without its end": (head() + NAME[:-1], "FORMERR"),
    "label longer than the message": (head() + b"\x3fabc", "FORMERR"),
    "question without its class": (head() + NAME + b"\x00\x01", "FORMERR"),
    "octets behind the message": (head() + Q + b"\x00", "FORMERR"),
    "NUL, dot and high octets in a label": (head() + b"\x04\x00.\x80\xff" + Q, "NXDOMAIN"),
    # classes and types
    "class CH": (head() + NAME + b"\x00\x01\x00\x03", "REFUSED"),
    "class ANY": (head() + NAME + b"\x00\x01\x00\xff", "REFUSED"),
    "class NONE": (head() + NAME + b"\x00\x01\x00\xfe", "REFUSED"),
    "type 0": (head() + NAME + b"\x00\x00\x00\x01", "NOERROR"),
    "type 666": (head() + NAME + b"\x02\x9a\x00\x01", "NOERROR"),
    "type 65535": (head() + NAME + b"\xff\xff\x00\x01", "NOERROR"),
    "type 666 of no name": (head() + b"\x01x" + NAME[4:] + b"\x02\x9a\x00\x01", "NXDOMAIN"),
    "type OPT": (head() + NAME + b"\x00\x29\x00\x01", "FORMERR"),
    "type AXFR": (head() + NAME[4:] + b"\x00\xfc\x00\x01", "REFUSED"),
    "type IXFR": (head() + NAME[4:] + b"\x00\xfb\x00\x01", "REFUSED"),
    "type MAILA": (head() + NAME + b"\x00\xfe\x00\x01", "REFUSED"),
    "type TSIG": (head() + NAME + b"\x00\xfa\x00\x01", "REFUSED"),
    "type 128": (head() + NAME + b"\x00\x80\x00\x01", "REFUSED"),
    # EDNS
    "OPT": (head(ar=1) + Q + OPT, "NOERROR"),
    "two OPT": (head(ar=2) + Q + OPT + OPT, "FORMERR"),
    "OPT with an owner": (head(ar=1) + Q + opt(owner=b"\x01a\x00"), "FORMERR"),
    "OPT with a compressed owner": (head(ar=1) + Q + opt(owner=b"\xc0\x0c"), "FORMERR"),
    "OPT longer than the message": (head(ar=1) + Q + OPT[:-1] + b"\x05", "FORMERR"),
    "OPT promised and absent": (head(ar=1) + Q, "FORMERR"),
    "option cut short": (head(ar=1) + Q + opt(rdata=b"\x00\x0a\x00"), "FORMERR"),
    "option longer than its record": (head(ar=1) + Q + opt(rdata=b"\x00\x0a\x00\x09abc"), "FORMERR"),
    "unknown option": (head(ar=1) + Q + opt(rdata=b"\xff\xfe\x00\x02ab"), "NOERROR"),
    "tcp-keepalive over UDP": (head(ar=1) + Q + opt(rdata=b"\x00\x0b\x00\x00"), "NOERROR"),
    "padding": (head(ar=1) + Q + opt(rdata=b"\x00\x0c\x00\x10" + bytes(16)), "NOERROR"),
    "EDNS version 1": (head(ar=1) + Q + opt(version=1), "BADVERS"),
    "EDNS version 255": (head(ar=1) + Q + opt(version=255), "BADVERS"),
    "another record beside OPT": (
        head(ar=2) + Q + OPT + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00",
        "NOERROR",
    ),
    "names outside our domains": (head() + b"\x07example\x03com\x00" + A_IN, "REFUSED"),
    "the root": (head() + b"\x00" + A_IN, "REFUSED"),
}


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    return made


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("message", "rcode"), ROWS.values(), ids=ROWS.keys())
def test_fate(world, message, rcode, tcp):
    """Each kind of message meets the fate that the table gives it, over UDP and TCP alike."""
    reply = world.send(message, tcp=tcp)
    if rcode is None:
        assert reply is None
        return
    assert reply is not None
    found = dns.message.from_wire(reply, ignore_trailing=False)
    assert (found.rcode().name if rcode != "BADVERS" else "BADVERS") == rcode
    assert reply[:2] == message[:2]


def test_every_rule_has_a_row():
    """No rule is without a message that meets it."""
    met = set()
    for message, _ in ROWS.values():
        if len(message) < wire.HEADER:
            continue
        first = next((rule.title for rule in HEAD_RULES if rule.applies(wire.head(message), len(message))), None)
        if first is None:
            try:
                query = wire.read(message)
            except wire.Malformed:
                continue
            first = next((rule.title for rule in QUERY_RULES if rule.applies(query)), None)
        met.add(first)
    assert met >= {rule.title for rule in HEAD_RULES} | {rule.title for rule in QUERY_RULES}


@pytest.mark.parametrize("bit", ["AA", "TC", "RA", "Z", "AD", "CD"])
def test_bits_of_the_query_do_not_leak(world, bit):
    """AA, TC, RA, Z, AD and CD of a query are not in the reply (RFC 8906 §8.1.3)."""
    mask = {"AA": 0x0400, "TC": 0x0200, "RA": 0x0080, "Z": 0x0040, "AD": 0x0020, "CD": 0x0010}[bit]
    reply = world.send(head(flags=mask) + Q)
    assert struct.unpack_from("!H", reply, 2)[0] == 0x8400


@pytest.mark.parametrize("rd", [False, True], ids=["without", "with"])
def test_rd_is_copied_and_nothing_is_offered(world, rd):
    """RD comes back as it was sent; RA is never set: we do not recurse."""
    reply = dns.message.from_wire(world.send(head(flags=0x0100 * rd) + Q))
    assert bool(reply.flags & dns.flags.RD) == rd
    assert not reply.flags & dns.flags.RA


def test_spelling_is_kept_and_does_not_matter(world):
    """The question comes back octet by octet, in the owner too; names match in any case (RFC 4343)."""
    asked = head() + b"\x03wEB\x03Svc\x08INternaL\x00" + A_IN
    reply = world.send(asked)
    assert reply[12 : len(asked)] == asked[12:]
    assert said(reply).answer == ["wEB.Svc.INternaL. 5 A 192.168.0.1"]


@pytest.mark.parametrize(
    ("given", "answered"),
    {"DO": ({"want_dnssec": True}, True), "no DO": ({"use_edns": 0}, False)}.values(),
    ids=["DO", "no DO"],
)
def test_do_is_copied(world, given, answered):
    """DO comes back (RFC 3225 §3); all other EDNS flags are zero."""
    reply = dns.message.from_wire(world.send(question(f"web.{DOMAIN}.", **given)))
    assert reply.ednsflags & 0xFFFF == (0x8000 if answered else 0)


def test_unknown_edns_flags_are_zero(world):
    """Flags that we do not know are not copied (RFC 6891 §6.1.4)."""
    reply = dns.message.from_wire(world.send(head(ar=1) + Q + opt(flags=0x7FFF)))
    assert reply.ednsflags & 0xFFFF == 0


@pytest.mark.parametrize("rtype", ["A", "TXT"])
@pytest.mark.parametrize("name", [f"web.{DOMAIN}.", f"nope.{DOMAIN}.", "example.com."])
def test_opt_for_opt_and_none_without(world, name, rtype):
    """Exactly one OPT in every reply to a query that has one, refusals included; none otherwise; no option echoed."""
    assert not said(world.send(question(name, rtype))).edns
    import dns.edns

    nsid = dns.edns.GenericOption(65001, b"abc")
    reply = dns.message.from_wire(world.send(question(name, rtype, use_edns=0, options=[nsid])))
    assert reply.edns == 0
    assert [option.otype for option in reply.options if option.otype != 15] == []


def test_badvers_has_version_0_and_no_data(world):
    """BADVERS: OPT of version 0, no answer (RFC 6891 §6.1.3)."""
    reply = dns.message.from_wire(world.send(head(ar=1) + Q + opt(version=7)))
    assert (reply.edns, reply.rcode().name, reply.answer) == (0, "BADVERS", [])


def test_options_do_not_make_answers_of_their_own(world):
    """Queries that differ in their options only share one finished answer."""
    before = world.responder.misses
    for number in range(50):
        world.send(head(ar=1) + Q + opt(rdata=b"\x00\x0a\x00\x08" + struct.pack("!Q", number), size=1400))
    assert world.responder.misses <= before + 1


def test_pointer_chains_cost_nothing():
    """The longest message of pointers and labels is refused without following any (RFC 9267 §2)."""
    for filler in (b"\xc0\x0c", b"\x01a", b"\x00"):
        message = (head(ar=2) + filler * 2048)[: wire.MAX_QUERY]
        assert isinstance(screen(message), bytes)


@given(st.binary(max_size=600))
def test_any_octets(message):
    """Any octets: a reply within bounds that a second implementation can read, or silence; never an exception."""
    check_reply(message)


@given(st.binary(max_size=80), st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_almost_a_query(tail, qd, ar, good):
    """A right header and any octets behind it."""
    check_reply(head(qd=qd, ar=ar) + (Q if good else b"") + tail)


@given(st.data())
def test_a_query_with_one_wrong_octet(data):
    """A good query with some octets changed."""
    message = bytearray(head(ar=1) + Q + opt(rdata=b"\x00\x0a\x00\x08abcdefgh"))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(2, len(message) - 1))] = data.draw(st.integers(0, 255))
    check_reply(bytes(message))


_WORLD = World()
_WORLD.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
_WORLD.skydns({"internal/svc/x/1": {"host": "10.0.0.1"}, "internal/svc/y": {"host": "x.svc.internal", "text": "t"}})


def check_reply(message: bytes) -> None:
    for tcp in (False, True):
        reply = _WORLD.send(message, tcp=tcp)
        if reply is None:
            continue
        assert reply[:2] == message[:2]
        assert len(reply) <= (wire.MAX_TCP if tcp else wire.MAX_UDP)
        assert reply[2] & 0x80
        dns.message.from_wire(reply)


def test_the_page_has_every_rule():
    """docs/dns.md shows the rules in their order, with their replies."""
    page = (Path(__file__).parents[2] / "docs" / "dns.md").read_text()
    shown = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", page.partition("Which messages are answered")[2], re.M)
    at = 0
    for rule in (*HEAD_RULES, *QUERY_RULES):
        title, reply = re.sub(r" \(RFC [^)]*\)", "", rule.title), rule.rcode.name if rule.rcode else "none"
        found = next((row for row in shown[at:] if row[0].startswith(title)), None)
        assert found is not None, f"no row, or not in its place: {title}"
        assert found[1].startswith(reply)
        at = shown.index(found) + 1
