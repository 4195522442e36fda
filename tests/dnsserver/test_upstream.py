"""Queries to other name servers as octets, and their replies: what is believed, what is left out, what is refused."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver.forwarding import upstream
from dnsserver.forwarding.upstream import STUB_OPTION, BadReply, Said, Wrong
from dnsserver.message import dname
from dnsserver.message.rr import Data, Record, Type
from dnsserver.message.wire import Ede, Rcode
from dnsserver.outside import Asked
from tests.parts.fake_upstream import AA, AD, OPT, QR, RA, TC, Raw, a, reply, soa, wire

NAME = "www.example.com."
ID = 0x1234
CHANCE = bytes(range(256))


def asked(name: str = NAME, rtype: str = "A", **bits: bool) -> Asked:
    return Asked(wire(name), dns.rdatatype.from_text(rtype), **bits)


def sent(what: Asked, **how: bool) -> bytes:
    return upstream.query(ID, what, upstream.question(what.name, what.type), **how)


def read(message: bytes, what: Asked | None = None, *, exact: bool = False, tcp: bool = False) -> Said:
    what = what or asked()
    return upstream.read(message, ID, upstream.question(what.name, what.type), what, exact=exact, tcp=tcp)


def wrong_of(message: bytes, **how: bool) -> Wrong | None:
    """What is wrong with a reply; None when it can be read."""
    try:
        read(message, **how)
    except BadReply as error:
        return error.wrong
    return None


# --- queries


@pytest.mark.parametrize("do", [False, True], ids=["plain", "DO"])
@pytest.mark.parametrize("cd", [False, True], ids=["checked", "CD"])
@pytest.mark.parametrize("stub", [False, True], ids=["forward", "stub"])
def test_a_query_is_what_dnspython_reads(do, cd, stub):
    """Question, RD, AD, CD, DO, 1232 octets and the stub zones' option stand where they belong, nothing else does."""
    message = dns.message.from_wire(sent(asked(do=do, cd=cd), stub=stub))

    assert [rrset.to_text() for rrset in message.question] == [f"{NAME} IN A"]
    assert message.flags == dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
    assert (message.id, message.edns, message.payload) == (ID, 0, 1232)
    assert message.ednsflags == (dns.flags.DO if do else 0)
    assert [(option.otype, option.to_wire()) for option in message.options] == ([(65011, b"\x01")] if stub else [])


def test_a_query_without_edns():
    """Servers that do not know EDNS are asked without."""
    message = dns.message.from_wire(sent(asked(), edns=False))

    assert (message.edns, len(message.question)) == (-1, 1)


def test_the_stub_guard_is_known_again():
    """What we send to a stub zone's server is known when it comes here; other queries are not taken for it."""
    assert STUB_OPTION in sent(asked(), stub=True)
    assert STUB_OPTION not in sent(asked())


LETTERS = {
    "all letters": (b"\x03abc\x00", b"\xff" * 5, b"\x03ABC\x00"),
    "none": (b"\x03abc\x00", b"\x00" * 5, b"\x03abc\x00"),
    "digits and hyphens stay": (b"\x03a-1\x00", b"\xff" * 5, b"\x03A-1\x00"),
    "lengths and odd octets stay": (b"\x05\x00\x40\x80\xc1\x7b\x00", b"\xff" * 7, b"\x05\x00\x40\x80\xc1\x7b\x00"),
    "root": (b"\x00", b"\xff", b"\x00"),
}


@pytest.mark.parametrize(("name", "chance", "expected"), LETTERS.values(), ids=LETTERS)
def test_letters_are_made_large_by_chance(name, chance, expected):
    """Only letters change, where chance says so."""
    assert upstream.spelled(name, chance) == expected


@given(st.binary(min_size=1, max_size=255), st.binary(min_size=255, max_size=255))
def test_a_spelled_name_is_the_same_name(name, chance):
    """Whatever the name and the chance: it differs in case at most."""
    assert upstream.spelled(name.lower(), chance).lower() == name.lower()


# --- what is believed

CNAME, DNAME, NS = Type.CNAME, Type.DNAME, Type.NS


def at(owner: str, rtype: int, target: str, ttl: int = 300) -> Raw:
    return Raw(rtype, ttl, wire(target), wire(owner))


def address(owner: str, ip: str = "192.0.2.1", ttl: int = 300) -> Raw:
    return a(ip, ttl, wire(owner))


def shown(records: tuple[Record, ...]) -> list[str]:
    return [f"{dname.to_text(owner)} {ttl} {dns.rdatatype.to_text(rtype)} {_data(data)}"
            for owner, rtype, ttl, data in records]  # fmt: skip


def _data(data: Data) -> str:
    if data.names:
        return " ".join(dname.to_text(name) for name in data.names)
    return ".".join(map(str, data.head)) if len(data.head) == 4 else data.head.hex()


# Title -> records of the answer section, what is kept of them.
CHAINS = {
    "an address": ([a()], ["www.example.com. 300 A 192.0.2.1"]),
    "two addresses": (
        [a(), a("192.0.2.2")],
        ["www.example.com. 300 A 192.0.2.1", "www.example.com. 300 A 192.0.2.2"],
    ),
    "the same twice": ([a(), a()], ["www.example.com. 300 A 192.0.2.1"]),
    "the same twice with other TTLs": ([a(ttl=9), a(ttl=5)], ["www.example.com. 5 A 192.0.2.1"]),
    "the least TTL of a set": (
        [a(ttl=90), a("192.0.2.2", 10)],
        ["www.example.com. 10 A 192.0.2.1", "www.example.com. 10 A 192.0.2.2"],
    ),
    "somebody else's name": ([a(), address("evil.example.com")], ["www.example.com. 300 A 192.0.2.1"]),
    "only somebody else's name": ([address("evil.example.com")], []),
    "another type": ([a(), Raw(16, 300, b"\x01x")], ["www.example.com. 300 A 192.0.2.1"]),
    "another class": ([a(), Raw(1, 300, b"\x01\x02\x03\x04", klass=3)], ["www.example.com. 300 A 192.0.2.1"]),
    "alias and target": (
        [at(NAME, CNAME, "x.test"), address("x.test")],
        ["www.example.com. 300 CNAME x.test.", "x.test. 300 A 192.0.2.1"],
    ),
    "target before alias": (
        [address("x.test"), at(NAME, CNAME, "x.test")],
        ["www.example.com. 300 CNAME x.test.", "x.test. 300 A 192.0.2.1"],
    ),
    "alias without target": ([at(NAME, CNAME, "x.test")], ["www.example.com. 300 CNAME x.test."]),
    "three aliases, one beside them": (
        [
            at("b.test", CNAME, "c.test"),
            at(NAME, CNAME, "a.test"),
            at("z.test", CNAME, "a.test"),
            at("a.test", CNAME, "b.test"),
            address("c.test"),
            address("z.test"),
        ],
        [
            "www.example.com. 300 CNAME a.test.",
            "a.test. 300 CNAME b.test.",
            "b.test. 300 CNAME c.test.",
            "c.test. 300 A 192.0.2.1",
        ],
    ),
    "aliases in a circle": (
        [at(NAME, CNAME, "a.test"), at("a.test", CNAME, NAME)],
        ["www.example.com. 300 CNAME a.test."],
    ),
    "an alias of itself": ([at(NAME, CNAME, NAME)], []),
    "two aliases at one name": (
        [at(NAME, CNAME, "a.test"), at(NAME, CNAME, "b.test"), address("b.test"), address("a.test")],
        ["www.example.com. 300 CNAME a.test.", "a.test. 300 A 192.0.2.1"],
    ),
    "an alias beside data": ([at(NAME, CNAME, "a.test"), a(), address("a.test")], ["www.example.com. 300 A 192.0.2.1"]),
    "a whole branch that is an alias": (
        [at("example.com", DNAME, "x.test"), at(NAME, CNAME, "www.x.test"), address("www.x.test")],
        [
            "example.com. 300 DNAME x.test.",
            "www.example.com. 300 CNAME www.x.test.",
            "www.x.test. 300 A 192.0.2.1",
        ],
    ),
    "a branch that leads elsewhere": (
        [at("example.com", DNAME, "x.test"), at(NAME, CNAME, "y.test"), address("y.test")],
        ["www.example.com. 300 CNAME y.test.", "y.test. 300 A 192.0.2.1"],
    ),
    "a branch of others": ([at("example.org", DNAME, "x.test"), a()], ["www.example.com. 300 A 192.0.2.1"]),
    "name servers": ([a(), at("example.com", NS, "ns.evil.test")], ["www.example.com. 300 A 192.0.2.1"]),
    "letters of owners": ([a(owner=wire("WWW.Example.COM"))], ["www.example.com. 300 A 192.0.2.1"]),
    "letters of aliases": (
        [at("WWW.example.com", CNAME, "X.Test"), address("x.TEST")],
        ["www.example.com. 300 CNAME X.Test.", "x.test. 300 A 192.0.2.1"],
    ),
    "a TTL of more than a day": ([a(ttl=2**31 - 1)], ["www.example.com. 86400 A 192.0.2.1"]),
    "a TTL with its top bit": ([a(ttl=2**31 + 5)], ["www.example.com. 0 A 192.0.2.1"]),
    "signatures nobody wants": (
        [a(), Raw(46, 300, b"\x00\x01" + b"x" * 20)],
        ["www.example.com. 300 A 192.0.2.1"],
    ),
}


@pytest.mark.parametrize(("records", "kept"), CHAINS.values(), ids=CHAINS)
def test_only_the_chain_is_kept(records, kept):
    """Records on the way from the asked name are kept, aliases first; all others are left out."""
    assert shown(read(reply(sent(asked()), *records)).sections.answer) == kept


def test_a_chain_has_an_end():
    """Of a hundred aliases sixteen are followed."""
    aliases = [at(f"n{number}.test", CNAME, f"n{number + 1}.test") for number in range(100)]
    found = read(reply(sent(asked("n0.test")), *aliases), asked("n0.test"))

    assert len(found.sections.answer) == 16


def test_the_fence_stands_behind_the_aliases():
    """A reply says how many of its records must stay in front."""
    records = [
        at(NAME, CNAME, "a.test"),
        at("a.test", CNAME, "b.test"),
        address("b.test"),
        address("b.test", "192.0.2.9"),
    ]

    assert read(reply(sent(asked()), *records)).reply.fence == 2


SOA_ROW = "example.com. 60 SOA . ."
PROOF = Raw(47, 60, wire("z.example.com") + b"\x00\x01\x40", wire("a.example.com"))
SIGNED_PROOF = Raw(46, 60, b"\x00\x2f" + b"s" * 30, wire("a.example.com"))
SIGNED_SOA = Raw(46, 60, b"\x00\x06" + b"s" * 30, wire("example.com"))
AUTHORITIES = {
    "the zone's own": ([soa("example.com")], False, ["SOA"]),
    "the root's": ([soa("")], False, ["SOA"]),
    "the name's": ([soa(NAME)], False, ["SOA"]),
    "another zone's": ([soa("example.org")], False, []),
    "a zone below": ([soa("x.www.example.com")], False, []),
    "two": ([soa("example.com"), soa("com")], False, ["SOA"]),
    "name servers": ([soa("example.com"), at("example.com", NS, "ns.evil.test")], False, ["SOA"]),
    "an address": ([soa("example.com"), address("evil.test")], False, ["SOA"]),
    "proofs nobody wants": ([soa("example.com"), SIGNED_SOA, PROOF, SIGNED_PROOF], False, ["SOA"]),
    "proofs": ([PROOF, SIGNED_PROOF, soa("example.com"), SIGNED_SOA], True, ["SOA", "NSEC", "RRSIG", "RRSIG"]),
}


@pytest.mark.parametrize("rcode", [0, 3], ids=["no data", "no name"])
@pytest.mark.parametrize(("records", "do", "kept"), AUTHORITIES.values(), ids=AUTHORITIES)
def test_what_proves_nothing_is_left_out(records, do, kept, rcode):
    """The authority section keeps an SOA of the name's zone, and with DO what proves it."""
    found = read(reply(sent(asked(do=do)), authority=records, rcode=rcode), asked(do=do)).sections.authority

    assert [dns.rdatatype.to_text(record.type) for record in found] == kept


def test_a_positive_answer_has_no_authority():
    """Name servers and an SOA beside an answer are nobody's business."""
    records = [soa("example.com"), at("example.com", NS, "ns.evil.test")]

    assert read(reply(sent(asked()), a(), authority=records)).sections.authority == ()


def test_signatures_come_with_what_they_sign():
    """With DO each set has its signatures, of its own type only, and nothing of others."""
    rows = [at(NAME, CNAME, "a.test"), Raw(46, 300, b"\x00\x05sig"), address("a.test"),
            Raw(46, 300, b"\x00\x01sig", wire("a.test")), Raw(46, 300, b"\x00\x10sig", wire("a.test")),
            Raw(46, 300, b"\x00\x01sig", wire("evil.test"))]  # fmt: skip
    found = read(reply(sent(asked(do=True)), *rows), asked(do=True)).sections

    assert [(record.type, dname.to_text(record.owner)) for record in found.answer] == [
        (Type.CNAME, NAME), (Type.RRSIG, NAME), (Type.A, "a.test."), (Type.RRSIG, "a.test.")
    ]  # fmt: skip
    assert found.aliases == 2


def test_an_alias_that_is_asked_for_comes_with_its_branch():
    """The CNAME that follows from a DNAME is proved by it, also when just that is wanted."""
    rows = [at("example.com", DNAME, "x.test"), at(NAME, CNAME, "www.x.test")]
    found = read(reply(sent(asked(rtype="CNAME")), *rows), asked(rtype="CNAME")).sections

    assert ([record.type for record in found.answer], found.aliases) == ([DNAME, CNAME], 1)


def test_any_is_everything_at_the_name():
    """ANY takes all types at the name, and follows nothing."""
    rows = [a(), Raw(16, 300, b"\x01x"), at(NAME, CNAME, "a.test"), address("a.test")]
    found = read(reply(sent(asked(rtype="ANY")), *rows), asked(rtype="ANY")).sections

    assert [record.type for record in found.answer] == [Type.A, Type.TXT, Type.CNAME]


FLAGS = {
    "nothing": (QR, {}),
    "RA": (QR | RA, {"recursion": True}),
    "AA": (QR | AA, {"authoritative": True}),
    "AD": (QR | AD, {"authentic": True}),
}


@pytest.mark.parametrize(("flags", "expected"), FLAGS.values(), ids=FLAGS)
def test_header_bits(flags, expected):
    """Each bit says its own."""
    said = read(reply(sent(asked()), a(), flags=flags))

    assert {
        bit: getattr(said, bit) for bit in ("recursion", "authoritative", "authentic") if getattr(said, bit)
    } == expected


def opt(*options: tuple[int, bytes], extended: int = 0) -> bytes:
    packed = b"".join(struct.pack("!HH", code, len(data)) + data for code, data in options)
    return b"\x00\x00\x29\x04\xd0" + bytes((extended, 0, 0, 0)) + struct.pack("!H", len(packed)) + packed


EXTENDED = {
    "none": (OPT, None, None),
    "stale": (opt((15, b"\x00\x03words")), 3, Ede.STALE),
    "the first of two": (opt((10, b"12345678"), (15, b"\x00\x16"), (15, b"\x00\x17")), 22, Ede.NO_REACHABLE_AUTHORITY),
    "one that we do not know": (opt((15, b"\x7f\xff")), 32767, None),
    "too short": (opt((15, b"\x00")), None, None),
}


@pytest.mark.parametrize(("record", "code", "passed_on"), EXTENDED.values(), ids=EXTENDED)
def test_extended_errors_are_passed_on(record, code, passed_on):
    """An extended error that we know goes on to those who asked us."""
    said = read(reply(sent(asked()), rcode=2, additional=[record]))

    assert (said.ede, said.reply.ede, said.edns) == (code, passed_on, True)


RCODES = {
    "NOERROR": (0, 0, Rcode.NOERROR),
    "NXDOMAIN": (3, 0, Rcode.NXDOMAIN),
    "REFUSED": (5, 0, Rcode.REFUSED),
    "YXDOMAIN": (6, 0, Rcode.SERVFAIL),
    "NOTAUTH": (9, 0, Rcode.SERVFAIL),
    "BADCOOKIE": (7, 1, Rcode.SERVFAIL),
}


@pytest.mark.parametrize(("low", "high", "expected"), RCODES.values(), ids=RCODES)
def test_response_codes(low, high, expected):
    """The upper bits in the OPT record count; what we cannot pass on is a failure."""
    said = read(reply(sent(asked()), rcode=low, additional=[opt(extended=high)]))

    assert (said.rcode, said.reply.rcode) == (high << 4 | low, expected)


LAME = {
    "a referral": ({"flags": QR, "authority": [at("com", NS, "a.gtld-servers.net")]}, True),
    "nothing at all": ({"flags": QR}, True),
    "no data": ({"flags": QR, "authority": [soa("example.com")]}, False),
    "a resolver's no data without SOA": ({"flags": QR | RA}, False),
    "an authority's no data without SOA": ({"flags": QR | AA}, False),
}


@pytest.mark.parametrize(("how", "expected"), LAME.values(), ids=LAME)
def test_who_does_not_look_further_is_lame(how, expected):
    """A server that only points elsewhere does not answer."""
    assert read(reply(sent(asked()), **how)).lame is expected


def test_a_cut_reply_gives_no_records():
    """Over UDP a reply with TC says only that there is more; over TCP it is read."""
    message = reply(sent(asked()), a(), flags=QR | TC)

    assert read(message[:-5]) == Said(0, truncated=True)
    assert read(message, tcp=True).truncated
    assert read(message, tcp=True).sections.found


# --- what is no reply

GOOD = reply(sent(asked()), a(), a("192.0.2.2"))
ELSEWHERE = 12 + len(wire(NAME)) + 4  # where the first record begins


def patched(at: int, octets: bytes, message: bytes = GOOD) -> bytes:
    return message[:at] + octets + message[at + len(octets) :]


def named(owner: bytes) -> bytes:
    return reply(sent(asked()), a(owner=owner), additional=())


FOREIGN, MALFORMED = Wrong.FOREIGN, Wrong.MALFORMED
LONG = b"\x3f" + b"x" * 63
REFUSED_MESSAGES = {
    "empty": (b"", MALFORMED),
    "eleven octets": (GOOD[:11], MALFORMED),
    "a header that is NOERROR": (GOOD[:4] + bytes(8), FOREIGN),
    "a header that is NXDOMAIN": (GOOD[:2] + b"\x80\x03" + bytes(8), FOREIGN),
    "another id": (patched(0, b"\x00\x00"), FOREIGN),
    "a query": (patched(2, b"\x01\x00"), FOREIGN),
    "a notification": (patched(2, b"\xa0\x00"), FOREIGN),
    "no question": (patched(4, b"\x00\x00"), FOREIGN),
    "two questions": (patched(4, b"\x00\x02"), FOREIGN),
    "another name": (patched(13, b"vvv"), FOREIGN),
    "another type": (patched(ELSEWHERE - 4, b"\x00\x1c"), FOREIGN),
    "another class": (patched(ELSEWHERE - 2, b"\x00\x03"), FOREIGN),
    "a cut question": (GOOD[:20], FOREIGN),
    "more answers than there are": (patched(6, b"\xff\xff"), MALFORMED),
    "more authorities than there are": (patched(8, b"\xff\xff"), MALFORMED),
    "more additional records than there are": (patched(10, b"\xff\xff"), MALFORMED),
    "fewer records than there are": (patched(6, b"\x00\x01"), MALFORMED),
    "an octet behind the end": (GOOD + b"\x00", MALFORMED),
    "cut in an owner": (GOOD[: ELSEWHERE + 1], MALFORMED),
    "cut in a record's head": (GOOD[: ELSEWHERE + 7], MALFORMED),
    "cut in data": (GOOD[: ELSEWHERE + 14], MALFORMED),
    "a record longer than the message": (patched(ELSEWHERE + 10, b"\xff\xff"), MALFORMED),
    "a pointer to itself": (named(b"\xc0" + bytes((ELSEWHERE,))), MALFORMED),
    "a pointer forward": (named(b"\xc0" + bytes((ELSEWHERE + 4,))), MALFORMED),
    "a pointer beyond the end": (named(b"\xff\xff"), MALFORMED),
    "a pointer back to where it comes from": (named(b"\x01x\xc0" + bytes((ELSEWHERE,))), MALFORMED),
    "half a pointer": (
        reply(sent(asked()), additional=())[:6] + b"\0\1\0\0\0\0" + GOOD[12:ELSEWHERE] + b"\xc0",
        MALFORMED,
    ),
    "a label of kind 01": (named(b"\x41x\x00"), MALFORMED),
    "a label of kind 10": (named(b"\x81x\x00"), MALFORMED),
    "a name of 256 octets": (named(LONG * 3 + b"\x3e" + b"x" * 62 + b"\x00"), MALFORMED),
    "a name of 256 octets by a pointer": (named(LONG * 3 + b"\x2e" + b"x" * 46 + b"\xc0\x0c"), MALFORMED),
    "an address of 3 octets": (reply(sent(asked()), Raw(1, 1, b"abc")), MALFORMED),
    "an IPv6 address of 4 octets": (reply(sent(asked()), Raw(28, 1, b"abcd")), MALFORMED),
    "an alias and an octet": (reply(sent(asked()), Raw(5, 1, b"\x01x\x00y")), MALFORMED),
    "an alias that is longer than its record": (reply(sent(asked()), Raw(5, 1, b"\x04"), a()), MALFORMED),
    "a name that is longer than its record": (reply(sent(asked()), Raw(30, 1, b"\x04"), a()), MALFORMED),
    "a short SOA": (reply(sent(asked()), authority=[Raw(6, 1, b"\x00\x00" + bytes(19))]), MALFORMED),
    "an MX without a name": (reply(sent(asked()), Raw(15, 1, b"\x00\x01")), MALFORMED),
    "an OPT among the answers": (reply(sent(asked()), Raw(41, 0, b"", b"\x00")), MALFORMED),
    "two OPT": (reply(sent(asked()), additional=[OPT, OPT]), MALFORMED),
    "an OPT with an owner": (reply(sent(asked()), additional=[b"\xc0\x0c" + OPT[1:]]), MALFORMED),
    "an option longer than its record": (
        reply(sent(asked()), additional=[OPT[:-1] + b"\x04\x00\x0f\x00\x09"]),
        MALFORMED,
    ),
    "half an option": (reply(sent(asked()), additional=[OPT[:-1] + b"\x02\x00\x0f"]), MALFORMED),
    "an odd label in the additional section": (reply(sent(asked()), additional=[b"\x41x" + OPT]), MALFORMED),
}


@pytest.mark.parametrize(("message", "wrong"), REFUSED_MESSAGES.values(), ids=REFUSED_MESSAGES)
def test_what_is_no_reply_is_refused(message, wrong):
    """Each kind of message that is not the reply is refused as what it is."""
    assert wrong_of(message) is wrong


def test_types_have_no_letters():
    """HTTPS is 65, a large A; 97 is another type, though it be a small one."""
    message = reply(sent(asked(rtype="TYPE97")))

    with pytest.raises(BadReply) as caught:
        read(message, asked(rtype="HTTPS"))

    assert caught.value.wrong is FOREIGN


@pytest.mark.parametrize("rcode", [1, 2, 4, 5], ids=["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED"])
def test_a_bare_header_may_refuse(rcode):
    """A server that could not read the question says so without repeating it."""
    assert read(GOOD[:2] + bytes((0x80, rcode)) + bytes(8)) == Said(rcode)


def test_names_of_255_octets_are_read():
    """The longest name there is, and the deepest."""
    longest = LONG * 3 + b"\x3d" + b"x" * 61 + b"\x00"
    deepest = b"\x01x" * 127 + b"\x00"
    found = read(reply(sent(asked()), Raw(5, 1, longest), a()), asked(rtype="A"))
    other = read(reply(sent(asked()), Raw(5, 1, deepest)))

    assert (found.sections.found, len(longest), len(deepest)) == (True, 255, 255)
    assert other.sections.answer[0].data.names == (deepest,)


SPELLED = upstream.question(upstream.spelled(asked().name, CHANCE[::-1]), 1)


def test_letters_must_come_back():
    """With letters made large by chance, a reply that does not repeat them is told from a foreign one."""
    query = upstream.query(ID, asked(), SPELLED)
    assert SPELLED.lower() != SPELLED
    assert upstream.read(reply(query, a()), ID, SPELLED, asked(), exact=True).sections.found

    with pytest.raises(BadReply) as caught:
        upstream.read(reply(sent(asked()), a()), ID, SPELLED, asked(), exact=True)

    assert caught.value.wrong is Wrong.SPELLING
    assert upstream.read(reply(sent(asked()), a()), ID, SPELLED, asked(), exact=False).sections.found


def test_our_letters_do_not_leak():
    """Names that point into the question come back as they were before its letters were changed."""
    query = upstream.query(ID, asked(), SPELLED)
    found = upstream.read(reply(query, Raw(5, 1, b"\x01X\xc0\x10")), ID, SPELLED, asked(), exact=True)

    assert found.sections.answer == (Record(wire(NAME), 5, 1, Data(b"", (wire("X.example.com"),))),)


# --- any octets


@given(st.binary(max_size=600))
def test_any_octets_are_read_or_refused(octets):
    """Nothing but BadReply is raised."""
    assert wrong_of(octets) in {None, *Wrong}


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_any_octets_behind_a_good_question(octets, answers, authorities, additionals, tcp):
    """The same when id and question are right."""
    head = GOOD[:4] + struct.pack("!4H", 1, answers, authorities, additionals)

    assert wrong_of(head + GOOD[12:ELSEWHERE] + octets, tcp=tcp) in {None, Wrong.MALFORMED}


@given(st.data())
def test_a_good_reply_with_octets_changed(data):
    """Wherever a good reply is damaged, it is read or refused."""
    message = bytearray(RICH)
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))

    assert wrong_of(bytes(message)) in {None, *Wrong}


# --- the second opinion

TARGETS = st.sampled_from([NAME, "a.example.com.", "b.a.example.com.", "example.com.", "x.test.", ".", "mail.x.test."])
NUMBERS = st.integers(0, 65535)
TEXTS = {
    "A": st.ip_addresses(v=4).map(str),
    "AAAA": st.ip_addresses(v=6).map(str),
    "NS": TARGETS,
    "CNAME": TARGETS,
    "PTR": TARGETS,
    "DNAME": TARGETS,
    "SOA": st.tuples(TARGETS, TARGETS).map(lambda names: f"{names[0]} {names[1]} 1 2 3 4 5"),
    "MX": st.tuples(NUMBERS, TARGETS).map(lambda row: f"{row[0]} {row[1]}"),
    "SRV": st.tuples(NUMBERS, NUMBERS, NUMBERS, TARGETS).map(lambda row: " ".join(map(str, row))),
    "TXT": st.text("abc", max_size=20).map(lambda text: f'"{text}" "{text}"'),
    "NAPTR": TARGETS.map(lambda name: f'1 2 "s" "sip" "!a!b!" {name}'),
    "RP": st.tuples(TARGETS, TARGETS).map(" ".join),
    "AFSDB": TARGETS.map(lambda name: f"1 {name}"),
    "RT": TARGETS.map(lambda name: f"1 {name}"),
    "PX": st.tuples(TARGETS, TARGETS).map(lambda names: f"1 {names[0]} {names[1]}"),
    "KX": TARGETS.map(lambda name: f"1 {name}"),
    "HINFO": st.just('"a" "b"'),
    "CAA": st.just('0 issue "ca.test"'),
    "SVCB": TARGETS.map(lambda name: f"1 {name} alpn=h2"),
    "TYPE65280": st.just(r"\# 3 010203"),
}
SETS = st.sampled_from(sorted(TEXTS)).flatmap(
    lambda rtype: st.tuples(st.just(rtype), st.integers(0, 86400), st.lists(TEXTS[rtype], min_size=1, max_size=4))
)


@settings(max_examples=300)
@given(SETS)
def test_what_dnspython_builds_is_read_as_it_was_meant(given_set):
    """Whatever the type and however its names are compressed, our records have dnspython's data."""
    rtype, ttl, texts = given_set
    rrset = dns.rrset.from_text(NAME, ttl, "IN", rtype, *texts)
    what = asked(rtype=rtype)
    message = dns.message.make_response(dns.message.from_wire(sent(what)))
    message.answer.append(rrset)

    found = read(message.to_wire(), what, tcp=True).sections.answer

    assert {(record.owner, record.ttl, record.type) for record in found} == {(wire(NAME), ttl, rrset.rdtype)}
    assert {rdata_of(record) for record in found} == set(rrset)


def rdata_of(record: Record) -> dns.rdata.Rdata:
    octets = record.data.head + b"".join(record.data.names) + record.data.tail
    return dns.rdata.from_wire(dns.rdataclass.IN, record.type, octets, 0, len(octets))


def rich() -> bytes:
    message = dns.message.make_response(dns.message.from_wire(sent(asked())))
    for text in (
        "CNAME a.example.com.",
        "MX 5 b.example.com.",
        "SRV 1 2 3 c.example.com.",
        'NAPTR 1 2 "" "" "" d.example.com.',
    ):
        rtype, data = text.split(" ", 1)
        message.answer.append(dns.rrset.from_text(NAME, 60, "IN", rtype, data))
    message.authority.append(
        dns.rrset.from_text("example.com.", 60, "IN", "SOA", "ns.example.com. x.example.com. 1 2 3 4 5")
    )
    return message.to_wire()


RICH = rich()


# --- the cost of lies


class Counted(bytes):
    """Octets that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, key):
        Counted.looks += 1
        return super().__getitem__(key)


def holding(*records: bytes) -> bytes:
    """A message with these records in its answer section."""
    return GOOD[:4] + struct.pack("!4H", 1, len(records), 0, 0) + GOOD[12:ELSEWHERE] + b"".join(records)


def filled(record: bytes) -> bytes:
    """As much of one record as TCP can carry."""
    return holding(*[record] * ((65535 - ELSEWHERE) // len(record)))


def pointing_back() -> bytes:
    """Each owner is a letter and a pointer to the owner before."""
    records, here, before = [], ELSEWHERE, 12
    for _ in range(3000):
        records.append(b"\x01x" + struct.pack("!HHHIH", 0xC000 | before, 1, 1, 1, 4) + b"abcd")
        before, here = (here if here < 0x600 else 12), here + len(records[-1])
    return holding(*records)


def stepping_in() -> bytes:
    """A long name, then records whose owners point into it, each at another place."""
    deep = Raw(16, 1, b"\x01x" * 120 + b"\x00").octets
    places = [ELSEWHERE + 12 + 2 * (number % 119) for number in range(4000)]
    return holding(deep, *(a(owner=struct.pack("!H", 0xC000 | place)).octets for place in places))


def stepping_in_everywhere() -> bytes:
    """All that pointers can reach is long names; each record's owner points to another place in them."""
    deep = b"\x01x" * 126 + b"\x00"
    names = Raw(16, 1, deep * 63).octets
    places = [ELSEWHERE + 12 + 253 * name + 2 * label for name in range(63) for label in range(25)]
    return holding(names, *(a(owner=struct.pack("!H", 0xC000 | place)).octets for place in places))


def reverse_names() -> bytes:
    """A long answer, rightly compressed: each name is a label and a pointer into the middle of the first."""
    zone = (
        b"\x01" + b"\x01".join(b"0123456789abcdef0123456789abcdef"[at : at + 1] for at in range(32)) + wire("ip6.arpa")
    )
    first = Raw(12, 1, b"\x01a" + zone)
    place = struct.pack("!H", 0xC000 | (ELSEWHERE + 14))
    return holding(
        first.octets, *(Raw(12, 1, b"\x01" + bytes((98 + number % 20,)) + place).octets for number in range(4000))
    )


def many_branches() -> bytes:
    """A chain of aliases below a name with very many DNAME records."""
    branches = [Raw(39, 1, wire(f"x{number}.test"), wire("example.com")).octets for number in range(1500)]
    aliases = [at(f"n{number}.example.com", CNAME, f"n{number + 1}.example.com").octets for number in range(16)]
    return holding(at(NAME, CNAME, "n0.example.com").octets, *aliases, *branches)


# Title -> message, what is wrong with it.
HOSTILE = {
    "addresses": (filled(a().octets), None),
    "aliases": (filled(Raw(5, 1, b"\x01x\xc0\x0c").octets), None),
    "name servers": (filled(Raw(2, 1, b"\x01x\xc0\x0c").octets), None),
    "long owners": (filled(a(owner=b"\x01x" * 127 + b"\x00").octets), None),
    "pointers to pointers": (pointing_back(), None),
    "pointers into a deep name": (stepping_in(), None),
    "pointers into many deep names": (stepping_in_everywhere(), MALFORMED),
    "reverse names": (reverse_names(), None),
    "branches and aliases": (many_branches(), None),
    "labels without an end": (holding(b"\x01x" * 32000), MALFORMED),
    "empty owners": (filled(b"\x00" * 11), None),
    "counts of 65535": (patched(6, b"\xff\xff\xff\xff\xff\xff", filled(b"\x00" * 11)), MALFORMED),
    "one record of 64 KiB": (holding(Raw(16, 1, b"\xff" + b"t" * 60000).octets), None),
}


@pytest.mark.parametrize(("message", "wrong"), HOSTILE.values(), ids=HOSTILE)
def test_the_work_is_bounded_by_the_length(message, wrong):
    """However a reply of 64 KiB is made up, few looks at each of its octets are enough; long good ones are read."""
    Counted.looks = 0

    assert wrong_of(Counted(message), tcp=True) is wrong
    assert Counted.looks < 2 * len(message)
