"""The 98 questions by which registries judge name servers: plain, with each flag, with EDNS, for 65 types.

What is right for each is in RFC 8906 §8; the names of the rows are those that operators know from the reports.
"""

from __future__ import annotations

import pytest

from tests.dnsserver.kit import World, container, endpoint, lan, node
from tests.dnsserver.rows import COOKIE, DOMAIN, asks, head, opt, option, seen


def words(text: str) -> list[str]:
    return text.split()


AA, TC, RD, RA, Z, AD, CD, DO = 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010, 0x8000
NSID, SUBNET, EXPIRE, HELLO = option(3), option(8, b"\0\1\0\0"), option(9), option(10, COOKIE)
UNKNOWN = option(100)

SOA = {"rcode": "NOERROR", "types": ["SOA"], "number": 1, "flags": "QR AA", "z": False}
PLAIN = {**SOA, "edns": None}
EDNS = {**SOA, "edns": 0, "ednsflags": 0}
BADVERS = {"rcode": "BADVERS", "edns": 0, "answer": [], "flags": "QR"}
NO_DATA = {"rcode": "NOERROR", "answer": [], "flags": "QR AA", "authority": [f"{DOMAIN}. 2 SOA"]}
NOTIMP = {"rcode": "NOTIMP", "flags": "QR", "z": False, "counts": (0, 0, 0, 0)}


def soa(*options: bytes, flags: int = 0, rtype: str = "SOA", **fields: int) -> bytes:
    """A question about the zone, with EDNS when anything of it is given."""
    if not options and not fields:
        return head(flags=flags) + asks(DOMAIN, rtype)
    return head(flags=flags, ar=1) + asks(DOMAIN, rtype) + opt(*options, **{"size": 4096, **fields})


EDNS_ROWS = {
    "dns": (soa(), PLAIN),
    "edns": (soa(size=4096), EDNS),
    "edns1": (soa(version=1), BADVERS),
    "edns@512": (soa(rtype="DNSKEY", size=512, flags=0), {**NO_DATA, "edns": 0, "short": True}),
    "ednsopt": (soa(UNKNOWN), {**EDNS, "codes": []}),
    "edns1opt": (soa(UNKNOWN, version=1), {**BADVERS, "codes": []}),
    "do": (head(ar=1) + asks(DOMAIN, "SOA") + opt(flags=DO), {**SOA, "edns": 0, "ednsflags": DO}),
    "ednsflags": (head(ar=1) + asks(DOMAIN, "SOA") + opt(flags=0x80), EDNS),
    "optlist": (soa(NSID, SUBNET, EXPIRE, HELLO), EDNS),
    "ednstcp": (head(ar=1) + asks(DOMAIN, "DNSKEY") + opt(size=512, flags=DO), {**NO_DATA, "edns": 0}),
}
FULL_ROWS = {
    "aa": (soa(flags=AA), PLAIN),
    "ad": (soa(flags=AD), PLAIN),
    "cd": (soa(flags=CD), PLAIN),
    "ra": (soa(flags=RA), PLAIN),
    "rd": (soa(flags=RD), {**PLAIN, "flags": "QR AA RD"}),
    "tc": (soa(flags=TC), PLAIN),
    "zflag": (soa(flags=Z), PLAIN),
    "opcode": (head(qd=0, opcode=15), NOTIMP),
    "opcodeflg": (head(qd=0, opcode=15, flags=AA | TC | RA | AD | CD | Z), NOTIMP),
    "type666": (head() + asks(DOMAIN, 666), NO_DATA),
    "tcp": (soa(), PLAIN),
    "docd": (head(ar=1, flags=CD) + asks(DOMAIN, "SOA") + opt(flags=DO), {**SOA, "edns": 0, "ednsflags": DO}),
    "edns1do": (head(ar=1) + asks(DOMAIN, "SOA") + opt(version=1, flags=DO), BADVERS),
    "ednsnsid": (soa(NSID), EDNS),
    "ednscookie": (soa(HELLO), EDNS),
    "ednsexpire": (soa(EXPIRE), EDNS),
    "ednssubnet": (soa(SUBNET), EDNS),
    "edns1nsid": (soa(NSID, version=1), {**BADVERS, "codes": []}),
    "edns1cookie": (soa(HELLO, version=1), BADVERS),
    "edns1expire": (soa(EXPIRE, version=1), {**BADVERS, "codes": []}),
    "edns1subnet": (soa(SUBNET, version=1), {**BADVERS, "codes": []}),
}
COMM_ROWS = {
    "bind11": (head(ar=1) + asks(DOMAIN, "SOA") + opt(HELLO, flags=DO), {**SOA, "edns": 0, "ednsflags": DO}),
    "dig11": (head(ar=1, flags=RD | AD) + asks(DOMAIN, "SOA") + opt(HELLO), {**SOA, "edns": 0, "flags": "QR AA RD"}),
}
TYPES = words(
    """
    A NS MD MF CNAME SOA MB MG MR NULL WKS PTR HINFO MINFO MX TXT RP AFSDB X25 ISDN RT NSAP NSAP-PTR SIG KEY PX GPOS
    AAAA LOC NXT SRV NAPTR KX CERT A6 DNAME APL DS SSHFP IPSECKEY RRSIG NSEC DNSKEY DHCID NSEC3 NSEC3PARAM TLSA
    SMIMEA HIP CDS CDNSKEY OPENPGPKEY SPF NID L32 L64 LP EUI48 EUI64 URI CAA AVC TYPE259 TA DLV
    """
)
HELD = {"SOA": SOA, "NS": {"rcode": "NOERROR", "types": ["NS"], "flags": "QR AA"}}
TYPE_ROWS = {rtype: (head() + asks(DOMAIN, rtype), HELD.get(rtype, NO_DATA)) for rtype in TYPES}
ROWS = {**EDNS_ROWS, **FULL_ROWS, **COMM_ROWS, **TYPE_ROWS}


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    made.put(container(1, endpoint("web", 80, lan("192.168.0.1"))), node("h1", "192.168.0.1"))
    return made


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("message", "says"), ROWS.values(), ids=ROWS)
def test_question(world, message, says, tcp):
    """The reply is what RFC 8906 calls right, over UDP and over TCP."""
    found = seen(world.send(message, tcp=tcp))
    assert {field: found[field] for field in says} == says


def test_all_of_them():
    """Ten about EDNS, 21 about everything, two that servers and tools really send, 65 types."""
    assert [len(rows) for rows in (EDNS_ROWS, FULL_ROWS, COMM_ROWS, TYPE_ROWS)] == [10, 21, 2, 65]
