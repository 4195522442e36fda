"""The standards, line by line: each row one demand, sent to a server on real sockets over UDP and TCP."""

from __future__ import annotations

import time

import pytest
import pytest_asyncio

from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.telemetry import Telemetry
from tests.dnsserver.conftest import Running
from tests.dnsserver.rows import (
    CLOSED,
    COOKIE,
    DOMAIN,
    FOREIGN,
    ID,
    RECORDS,
    SILENCE,
    Row,
    asks,
    edns,
    fate,
    head,
    labels,
    long_name,
    name,
    opt,
    option,
    params,
    query,
    reply_to,
)

WEB = [f"web.{DOMAIN}. 5 A 192.168.0.1", f"web.{DOMAIN}. 5 A 192.168.0.2"]
SOA = [f"{DOMAIN}. 2 SOA"]
NO_DATA = {"rcode": "NOERROR", "flags": "QR AA", "answer": [], "authority": SOA, "additional": []}
NO_NAME = {**NO_DATA, "rcode": "NXDOMAIN"}
FORMERR = {"rcode": "FORMERR", "answer": [], "authority": [], "id": ID}
REFUSED = {"rcode": "REFUSED", "flags": "QR", "answer": [], "authority": [], "id": ID}
NOTIMP = {"rcode": "NOTIMP", "counts": (0, 0, 0, 0), "flags": "QR", "z": False, "id": ID}
ANSWERED = {"rcode": "NOERROR", "answer": WEB, "flags": "QR AA"}
UNREAD = "a message that no server can read"

BASICS = [
    Row("RFC 1035 4.1.1: id, opcode and question come back, QR is set", query(),
        {"id": ID, "opcode": 0, "flags": "QR AA", "question": f"web.{DOMAIN}. IN A", "counts": (1, 2, 0, 0)}),
    Row("RFC 1035 4.1.1: RD comes back, RA is not offered", query(flags=0x0100), {**ANSWERED, "flags": "QR AA RD"}),
    Row("RFC 8906 8.1.3: AA of a query does not leak into a refusal", query("example.com", flags=0x0400), REFUSED),
    Row("RFC 8906 8.1.3: TC of a query does not leak", query(flags=0x0200), ANSWERED),
    Row("RFC 8906 8.1.3: RA of a query does not leak", query(flags=0x0080), ANSWERED),
    Row("RFC 1035 4.1.1: Z of a query does not leak", query(flags=0x0040), {**ANSWERED, "z": False}),
    Row("RFC 4035 3.1.6: AD of a query does not leak", query(flags=0x0020), ANSWERED),
    Row("RFC 4035 3.2.2: CD of a query does not leak from an authoritative server", query(flags=0x0010), ANSWERED),
    Row("RFC 8906 8.1.3: all flags at once leak nothing but RD", query(flags=0x07F0),
        {**ANSWERED, "flags": "QR AA RD", "z": False}),
    Row("RFC 4343 4: names match in any case of ASCII, spelling comes back in question and owner",
        query("wEb.SVC.iNternal"),
        {"question": "wEb.SVC.iNternal. IN A", "answer": ["wEb.SVC.iNternal. 5 A 192.168.0.1",
                                                         "wEb.SVC.iNternal. 5 A 192.168.0.2"]}),
    Row("RFC 4343 3: octets from 0x80 do not fold", head() + labels(b"w\xc5b"), NO_NAME),
    Row("RFC 2181 11: NUL, dot and high octets are legal in a label", head() + labels(b"\0.\x80\xff"), NO_NAME),
    Row("RFC 2181 11: a dot inside a label is no separator", head() + labels(b"api.shop"), NO_NAME),
    Row("RFC 1035 2.3.4: a label of 63 octets", query("a" * 63 + "." + DOMAIN), NO_NAME),
    Row("RFC 1035 2.3.4: a name of 255 octets", query(long_name(255)), NO_NAME),
    Row("RFC 1035 2.3.4: a name of 256 octets is malformed", query(long_name(256)), FORMERR),
    Row("RFC 9267 2: a pointer to itself", head() + b"\xc0\x0c\0\1\0\1", FORMERR),
    Row("RFC 9267 2: a pointer forward", head() + b"\xc0\x12\0\1\0\1" + name(), FORMERR),
    Row("RFC 9267 2: a loop of two pointers", head() + b"\xc0\x0e\xc0\x0c\0\1\0\1", FORMERR),
    Row("RFC 9267 2: a label and a pointer back to it", head() + b"\1a\xc0\x0c\0\1\0\1", FORMERR),
    Row("RFC 9267 2: a pointer into the header", head() + b"\xc0\x00\0\1\0\1", FORMERR),
    Row("RFC 9267 2: a pointer beyond the end", head() + b"\xff\xff\0\1\0\1", FORMERR),
    Row("RFC 9267 2: a chain of 2,000 pointers", head() + b"\xc0\x0c" * 2000, FORMERR),
    Row("RFC 6891 5: label type 01", head() + b"\x41" + b"a" * 65 + asks(), FORMERR),
    Row("RFC 6895 2: label type 10", head() + b"\x81" + b"a" * 65 + asks(), FORMERR),
    Row("RFC 9267 3: a name without its end", head() + name()[:-1], FORMERR),
    Row("RFC 9267 4: a label longer than the message", head() + b"\x3fabc", FORMERR),
    Row("RFC 9267 5: a record longer than the message", head(ar=1) + asks() + opt()[:-2] + b"\0\x50", FORMERR),
    Row("RFC 9267 6: more records promised than sent", head(ar=2) + asks() + opt(), FORMERR),
    Row("RFC 9267 6: 65,535 additional records promised", head(ar=65535) + asks(), FORMERR),
    Row("RFC 9267 6: 65,535 answers promised", head(an=65535) + asks(), FORMERR),
    Row("RFC 9267 6: 65,535 questions promised", head(qd=65535) + asks(), FORMERR),
    Row("RFC 1035 4.1.2: a question without its class", head() + name() + b"\0\1", FORMERR),
    Row("RFC 1035 4.1.1: shorter than a header gets no reply; on TCP the connection ends", head()[:11], SILENCE,
        tcp=None),
    Row("RFC 1035 4.1.1: shorter than a header ends a connection", head()[:11], CLOSED, udp=None),
    Row("RFC 5358 3: a reply gets no reply", query(flags=0x8000), SILENCE),
    Row("RFC 5358 3: a reply with an error gets no reply", query(flags=0x8001), SILENCE),
    Row("RFC 5358 3: a reply with an unknown opcode gets no reply", head(flags=0x8000, opcode=9), SILENCE),
    Row("RFC 9619 4: two questions", head(qd=2) + asks() + asks(), FORMERR),
    Row("RFC 9619 4: no question", head(qd=0), FORMERR),
    Row("RFC 9619 4: no question, with EDNS", head(qd=0, ar=1) + opt(), FORMERR),
    *[Row(f"RFC 8906 8.1.4: opcode {opcode} is not implemented, in a header alone", head(qd=0, opcode=opcode), NOTIMP)
      for opcode in (1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)],
    Row("RFC 8906 3.1.4: an unknown opcode with a question", head(opcode=15) + asks(), NOTIMP),
    Row("RFC 8906 3.1.4: an unknown opcode with rubbish behind it", head(opcode=15) + b"\xff" * 40, NOTIMP),
    Row("RFC 8906 3.1.4: flags beside an unknown opcode", head(opcode=15, flags=0x06F0), NOTIMP),
    Row("RFC 1996: NOTIFY is not for us", head(opcode=4) + asks(DOMAIN, "SOA"), NOTIMP),
    Row("RFC 2136: UPDATE is not for us", head(opcode=5) + asks(DOMAIN, "SOA"), NOTIMP),
    Row("RFC 2136: UPDATE with records is not for us", head(opcode=5, ns=1) + asks(DOMAIN, "SOA") + name() +
        b"\0\1\0\1\0\0\0\5\0\4\1\2\3\4", NOTIMP),
    Row("RFC 1035 3.2.4: class ANY is refused", query(klass=255), REFUSED),
    Row("RFC 2136 2.4: class NONE is refused", query(klass=254), REFUSED),
    Row("RFC 1035 3.2.4: class HS is refused", query(klass=4), REFUSED),
    Row("RFC 1035 3.2.4: class CH of a name of ours is refused", query(klass=3), REFUSED),
    Row("RFC 6895 3.2: class 0 is refused", query(klass=0), REFUSED),
    Row("RFC 6895 3.2: class 65535 is refused", query(klass=65535), REFUSED),
    Row("RFC 3597 3: type 0 of a name has no data", query(rtype=0), NO_DATA),
    Row("RFC 3597 3: type 666 of a name has no data", query(rtype=666), NO_DATA),
    Row("RFC 3597 3: type 65535 of a name has no data", query(rtype=65535), NO_DATA),
    Row("RFC 3597 3: type 666 of no name", query(f"nope.{DOMAIN}", 666), NO_NAME),
    *[Row(f"RFC 6895 3.1: meta type {what} is refused", query(rtype=rtype), {"rcode": "REFUSED", "answer": []})
      for what, rtype in (("128", 128), ("TKEY", 249), ("TSIG", 250), ("IXFR", 251), ("MAILB", 253), ("MAILA", 254))],
    Row("RFC 5936 4.2: AXFR over UDP is refused", query(DOMAIN, "AXFR"), REFUSED, tcp=None),
    Row("RFC 6891 6.1.1: type OPT in a question", query(rtype=41), FORMERR),
    Row("RFC 1035 4.1: an octet behind the message", query() + b"\0", FORMERR),
    Row("RFC 1035 4.1: 100 octets behind the message", query() + b"x" * 100, FORMERR),
    Row("RFC 1035 4.1: answers in a query", head(an=1) + asks() + name() + b"\0\1\0\1\0\0\0\5\0\4\1\2\3\4", FORMERR),
    Row("RFC 1035 4.2.1: more than any query has", query() + b"\0" * 4100, FORMERR, tcp=CLOSED),
]  # fmt: skip

ANSWERS = [
    Row("RFC 1034 4.3.1: AA on data", query(), ANSWERED),
    Row("RFC 1034 4.3.1: AA and SOA on a name that has no such data", query(rtype="TXT"), NO_DATA),
    Row("RFC 1034 4.3.1: AA and SOA on a name that does not exist", query(f"nope.{DOMAIN}"), NO_NAME),
    Row("RFC 8906 3.1.1: outside our zones: REFUSED without AA", query("example.com"), REFUSED),
    Row("RFC 8906 3.1.1: the root: REFUSED without AA", query("", "NS"), REFUSED),
    Row("RFC 8906 3.1.1: a name that only ends like ours", query(f"x{DOMAIN}"), REFUSED),
    Row("RFC 8020 2: a name between a name and its domain exists", query(f"shop.{DOMAIN}"), NO_DATA),
    Row("RFC 4592 2.2.2: a name above a foreign record exists", query(f"x.deep.{DOMAIN}", "MX"), NO_DATA),
    Row("RFC 8020 2: below a name that does not exist nothing does", query(f"a.b.nope.{DOMAIN}"), NO_NAME),
    Row("RFC 2308 3: a denial has the SOA of its zone, TTL and MINIMUM the same", query(f"nope.{DOMAIN}"), NO_NAME),
    Row("RFC 1035 3.3.13: SOA at the apex", query(DOMAIN, "SOA"),
        {"rcode": "NOERROR", "types": ["SOA"], "number": 1, "flags": "QR AA"}),
    Row("RFC 2308 2.2: SOA of a name below the apex has no data", query(rtype="SOA"), NO_DATA),
    Row("RFC 1035 3.3.11: NS at the apex with its addresses", query(DOMAIN, "NS"),
        {"answer": [f"{DOMAIN}. 10 NS ns.dns.{DOMAIN}."],
         "additional": [f"ns.dns.{DOMAIN}. 10 A 192.168.0.1", f"ns.dns.{DOMAIN}. 10 A 192.168.0.2"]}),
    Row("RFC 2181 10.3: the target of NS is no alias", query(f"ns.dns.{DOMAIN}"), {"types": ["A"], "number": 2}),
    Row("RFC 1034 3.6.2: an alias comes before what it stands for", query(f"alias.{DOMAIN}"),
        {"rcode": "NOERROR", "number": 3, "types": ["A", "CNAME"], "flags": "QR AA"}),
    Row("RFC 1034 3.6.2: an alias asked for as such", query(f"alias.{DOMAIN}", "CNAME"),
        {"answer": [f"alias.{DOMAIN}. 30 CNAME web.{DOMAIN}."]}),
    Row("RFC 1034 3.6.2: a chain in its order", query(f"chain1.{DOMAIN}"),
        {"order": [f"chain1.{DOMAIN}. 30 CNAME chain2.{DOMAIN}.", f"chain2.{DOMAIN}. 30 CNAME chain3.{DOMAIN}.",
                   f"chain3.{DOMAIN}. 30 A 10.1.0.3"]}),
    Row("RFC 1034 3.6.2: a loop of aliases ends", query(f"loop1.{DOMAIN}"), {"rcode": "NOERROR", "flags": "QR AA"}),
    Row("RFC 6604 3: a chain to a name without such data is no error", query(f"chain1.{DOMAIN}", "AAAA"),
        {"rcode": "NOERROR", "authority": SOA}),
    Row("RFC 2181 5.2: one TTL in an RRset of ours", query(f"slow.{DOMAIN}"), {"number": 2, "ttls": [7]}),
    Row("RFC 2181 5.2: one TTL in an RRset of others", query(f"dear.{DOMAIN}"), {"number": 2, "ttls": [20]}),
    Row("RFC 2181 8: no TTL above 2^31-1", query(f"far.{DOMAIN}"), {"ttls": [2**31 - 1]}),
    Row("RFC 2181 5: no record twice", query(f"twice.{DOMAIN}"), {"answer": [f"twice.{DOMAIN}. 30 A 10.1.0.7"]}),
    Row("RFC 2782: SRV with priority, weight, port and a target that has an address", query(rtype="SRV"),
        {"answer": [f"web.{DOMAIN}. 5 SRV 10 100 32768 h1-c-80.web.{DOMAIN}.",
                    f"web.{DOMAIN}. 5 SRV 10 100 32769 h2-c-80.web.{DOMAIN}."],
         "additional": [f"h1-c-80.web.{DOMAIN}. 5 A 192.168.0.1", f"h2-c-80.web.{DOMAIN}. 5 A 192.168.0.2"]}),
    Row("RFC 2181 10.3: the target of SRV is no alias", query(f"h1-c-80.web.{DOMAIN}"),
        {"answer": [f"h1-c-80.web.{DOMAIN}. 5 A 192.168.0.1"]}),
    Row("RFC 3596 2.1: AAAA", query(f"six.{DOMAIN}", "AAAA"), {"answer": [f"six.{DOMAIN}. 5 AAAA fd00::1"]}),
    Row("RFC 4074 3: a name with AAAA only exists for A too", query(f"six.{DOMAIN}"), NO_DATA),
    Row("RFC 1035 3.5: PTR of a host", query("1.0.168.192.in-addr.arpa", "PTR"),
        {"answer": [f"1.0.168.192.in-addr.arpa. 5 PTR h1.node.{DOMAIN}."]}),
    Row("RFC 1035 3.5: PTR of an address above a host's", query("0.168.192.in-addr.arpa", "PTR"),
        {"answer": []}),
    Row("RFC 8482 4.2: ANY is one HINFO", query(rtype="ANY"),
        {"answer": [f'web.{DOMAIN}. 2 HINFO "RFC8482" ""'], "flags": "QR AA", "additional": []}),
    Row("RFC 8482 4.2: ANY of the apex", query(DOMAIN, "ANY"), {"types": ["HINFO"], "number": 1}),
    Row("RFC 8482 4: ANY of no name", query(f"nope.{DOMAIN}", "ANY"), NO_NAME),
    *[Row(f"RFC 4035 3.1.4: {rtype} of an unsigned zone has no data", query(DOMAIN, rtype), NO_DATA)
      for rtype in ("DS", "DNSKEY", "RRSIG", "NSEC", "NSEC3PARAM", "CDS", "CDNSKEY")],
    Row("RFC 4592 2.1.3: a question for * of a name without one", query(f"*.shop.{DOMAIN}", "MX"),
        {"answer": [], "authority": SOA}),
]  # fmt: skip

SIZES = [
    Row("RFC 1035 4.2.1: without OPT at most 512 octets and no OPT", query(f"big.{DOMAIN}"),
        {"flags": "QR AA TC", "short": True, "edns": None, "question": f"big.{DOMAIN}. IN A"},
        tcp={"flags": "QR AA", "number": 100, "short": False}),
    Row("RFC 6891 6.2.3: an offer of 100 counts as 512", edns(text=f"big.{DOMAIN}", size=100),
        {"flags": "QR AA TC", "short": True, "edns": 0}, tcp={"flags": "QR AA", "number": 100, "short": False}),
    Row("RFC 6891 6.2.3: an offer of 0 counts as 512", edns(size=0), {**ANSWERED, "edns": 0}),
    Row("RFC 9715 3: never more than 1232, whatever is offered", edns(text=f"big.{DOMAIN}", size=65535),
        {"flags": "QR AA TC", "fits": True, "short": False}, tcp={"flags": "QR AA", "number": 100, "fits": False}),
    Row("RFC 2181 9: what is only additional is left out without TC", edns(text=f"half.{DOMAIN}", rtype="SRV"),
        {"flags": "QR AA", "number": 24, "fits": True, "edns": 0}, tcp={"fits": False}),
    Row("RFC 2181 9: a cut answer has no additional records", edns(text=f"big.{DOMAIN}", rtype="SRV"),
        {"flags": "QR AA TC", "fits": True, "edns": 0, "additional": []}, tcp=None),
    Row("RFC 7766 5: over TCP nothing is cut", edns(text=f"big.{DOMAIN}", rtype="SRV"),
        {"flags": "QR AA", "number": 100, "fits": False}, udp=None),
    Row("RFC 6891 6.1.1: one OPT in an answer", edns(), {**ANSWERED, "edns": 0}),
    Row("RFC 6891 6.1.1: one OPT in a denial", edns(text=f"nope.{DOMAIN}"), {**NO_NAME, "edns": 0}),
    Row("RFC 6891 6.1.1: one OPT in a refusal, and why", edns(text="example.com"),
        {**REFUSED, "edns": 0, "ede": 20}),
    Row("RFC 6891 6.1.1: one OPT in a refusal of a class", edns(klass=255), {**REFUSED, "edns": 0}),
    Row("RFC 6891 6.1.1: one OPT in a complaint about a type", edns(rtype=41), {**FORMERR, "edns": 0}),
    Row("RFC 6891 7: no OPT without one", query(), {"edns": None}),
    Row("RFC 6891 6.1.1: two OPT", head(ar=2) + asks() + opt() + opt(), FORMERR),
    Row("RFC 6891 6.1.2: OPT that is not at the root", edns(owner=b"\1a\0"), FORMERR),
    Row("RFC 6891 6.1.2: OPT with a compressed owner", edns(owner=b"\xc0\x0c"), FORMERR),
    Row("RFC 6891 6.1.3: version 1", edns(version=1), {"rcode": "BADVERS", "edns": 0, "answer": [], "flags": "QR"}),
    Row("RFC 6891 6.1.3: version 255", edns(version=255), {"rcode": "BADVERS", "edns": 0, "answer": []}),
    Row("RFC 6891 6.1.3: version 1 and an unknown option", edns(option(100), version=1),
        {"rcode": "BADVERS", "edns": 0, "codes": []}),
    Row("RFC 6891 6.1.2: an unknown option is neither heeded nor sent back", edns(option(65001, b"abc")),
        {**ANSWERED, "edns": 0, "codes": []}),
    Row("RFC 6891 6.1.2: 900 unknown options", edns(*[option(65001)] * 900), {**ANSWERED, "codes": []}),
    Row("RFC 6891 6.1.4: unknown flags are zero in the reply", edns(flags=0x7FFF), {**ANSWERED, "ednsflags": 0}),
    Row("RFC 3225 3: DO comes back", edns(flags=0x8000), {**ANSWERED, "ednsflags": 0x8000}),
    Row("RFC 3225 3: DO alone of all flags comes back", edns(flags=0xFFFF), {**ANSWERED, "ednsflags": 0x8000}),
    Row("RFC 6840 5.8: AD is not set by us", edns(flags=0x8000), ANSWERED),
    Row("RFC 6891 6.1.2: an option cut short", edns(b"\0\x0a\0"), FORMERR),
    Row("RFC 6891 6.1.2: an option longer than its record", edns(b"\0\x0a\0\x09abc"), FORMERR),
    Row("RFC 5001 2.1: no NSID unless asked for", edns(), {"codes": []}),
    Row("RFC 7871 7.1.2: client subnet is not sent back", edns(option(8, b"\0\1\x18\0\xc0\0\2")),
        {**ANSWERED, "codes": []}),
    Row("RFC 7314 2: EXPIRE is not for us", edns(option(9), text=DOMAIN, rtype="SOA"), {"codes": [], "types": ["SOA"]}),
    Row("RFC 7828 3.2.1: keepalive over UDP is not heeded", edns(option(11)), {**ANSWERED, "codes": []}, tcp=None),
    Row("RFC 7830 3: padding is accepted", edns(option(12, bytes(40))), ANSWERED),
    Row("RFC 7830 4: no padding over UDP", edns(option(12, bytes(40))), {"codes": []}, tcp=None),
    Row("RFC 1035 4.1.3: a record beside OPT is skipped", head(ar=2) + asks() + opt() + b"\xc0\x0c\0\1\0\1" + bytes(6),
        ANSWERED),
]  # fmt: skip

NSID_VALUE = b"n1"
SERVER_COOKIE = {"rcode": "NOERROR", "answer": WEB, "codes": [10]}
GUESTS = [
    *[Row(f"RFC 7873 5.2.2: a cookie of {length} octets", edns(option(10, bytes(length))),
          {**FORMERR, "edns": 0, "codes": []})
      for length in (0, 1, 7, 9, 15, 41, 64)],
    Row("RFC 7873 5.2.3: a client cookie alone gets a server cookie", edns(option(10, COOKIE)), SERVER_COOKIE),
    Row("RFC 7873 5.2.4: a wrong server cookie counts as none", edns(option(10, COOKIE + b"\xff" * 16)), SERVER_COOKIE),
    Row("RFC 7873 5.2.4: a server cookie of 8 octets counts as none", edns(option(10, COOKIE + b"\xff" * 8)),
        SERVER_COOKIE),
    Row("RFC 7873 5.2.4: a server cookie of 32 octets counts as none", edns(option(10, COOKIE + b"\xff" * 32)),
        SERVER_COOKIE),
    Row("RFC 7873 5.4: no question but a cookie", head(qd=0, ar=1) + opt(option(10, COOKIE)),
        {"rcode": "NOERROR", "codes": [10], "counts": (0, 0, 0, 1)}),
    Row("RFC 7873 5.4: no question but a cookie behind other options",
        head(qd=0, ar=1) + opt(option(3) + option(65001, b"\x00\x0a") + option(10, COOKIE)),
        {"rcode": "NOERROR", "codes": [3, 10], "counts": (0, 0, 0, 1)}),
    Row("RFC 7873 5.4: no question, and an option that only holds what looks like a cookie",
        head(qd=0, ar=1) + opt(option(65001, option(10, COOKIE))), FORMERR),
    Row("RFC 7873 5.3: a cookie with a refusal", edns(option(10, COOKIE), text="example.com"),
        {"rcode": "REFUSED", "codes": [10, 15]}),
    Row("RFC 5001 2.1: NSID when asked for: the node's name", edns(option(3)),
        {**ANSWERED, "options": {3: NSID_VALUE}}),
    Row("RFC 7828 3.3.2: keepalive over TCP tells the real timeout", edns(option(11)),
        {**ANSWERED, "options": {11: b"\0\x64"}}, udp=None),
    Row("RFC 7830 4: padding over TCP when asked for", edns(option(12)), {**ANSWERED, "codes": [12]}, udp=None),
    Row("RFC 4892 3: id.server is the node's name", query("id.server", "TXT", 3),
        {"rcode": "NOERROR", "number": 1, "types": ["TXT"], "ttls": [0]}),
    Row("RFC 4892 3: hostname.bind is the node's name", query("hostname.bind", "TXT", 3),
        {"rcode": "NOERROR", "number": 1, "types": ["TXT"], "ttls": [0]}),
    Row("RFC 5936 3: AXFR by one who is not listed", edns(text=DOMAIN, rtype="AXFR"),
        {"rcode": "REFUSED", "ede": 18, "answer": []}, udp=None),
    Row("SkyDNS's guard against loops: what would be sent on is dropped",
        edns(option(65011, b"\1"), text="example.com"), SILENCE),
    Row("RFC 4892 3: version.bind is refused", query("version.bind", "TXT", 3), REFUSED),
    Row("RFC 4892 3: another name of class CH is refused", query("other.bind", "TXT", 3), REFUSED),
    Row("SkyDNS's guard against loops of stub zones keeps nobody from our names", edns(option(65011, b"\1")), ANSWERED),
]  # fmt: skip


# For those who may have the zone, on a server that tells its version.
OPEN = [
    Row("RFC 5936 2.2: AXFR begins with the SOA", query(DOMAIN, "AXFR"),
        {"rcode": "NOERROR", "flags": "QR AA", "first": "SOA"}, udp=None, server="open", later=True),
    Row("RFC 5936 2.2.5: AXFR with EDNS has an OPT", edns(text=DOMAIN, rtype="AXFR"), {"edns": 0, "flags": "QR AA"},
        udp=None, server="open", later=True),
    Row("RFC 5936 4.2: AXFR over UDP is refused, whoever asks", query(DOMAIN, "AXFR"), REFUSED, tcp=None,
        server="open"),
    Row("RFC 5936 2.2.1: AXFR of a name that is no zone", query(f"web.{DOMAIN}", "AXFR"),
        {"rcode": "NOTAUTH", "answer": []}, udp=None, server="open"),
    Row("RFC 5936 2.2.1: AXFR of somebody else's zone", query("example.com", "AXFR"),
        {"rcode": "NOTAUTH", "answer": []}, udp=None, server="open"),
    Row("RFC 1995 2: IXFR over UDP tells the SOA", query(DOMAIN, "IXFR"), {"types": ["SOA"], "number": 1}, tcp=None,
        server="open"),
    Row("RFC 4892 3: version.bind is told when that is wanted", query("version.bind", "TXT", 3),
        {"rcode": "NOERROR", "types": ["TXT"], "number": 1, "ttls": [0]}, server="open"),
    Row("RFC 1035 4.1.1: an ordinary answer is the same there", query(), ANSWERED, server="open"),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers():
    """The servers that rows are sent to, by name."""
    store = EmbeddedStore(quiet_s=0.2)
    started = {}
    for which, options in {"plain": {}, "open": {"transfer": ("127.0.0.0/8",), "version_shown": True}}.items():
        settings = DnsSettings(listen=(("127.0.0.1", 0),), node_name=NSID_VALUE.decode(), **options)
        telemetry = Telemetry("dns", time.time)
        started[which] = Running(DnsService(settings, store, telemetry), store, telemetry)
        await started[which].start()
    first = started["plain"]
    for record, place in RECORDS:
        await first.put(record, place=place)
    for key, value in FOREIGN.items():
        await first.put_raw(f"/skydns/internal/svc/{key}", value.encode())
    await started["open"].seen(first.service.responder.serial)
    yield started
    for running in started.values():
        await running.stop()
    await store.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("row", "transport", "expected"),
    params(BASICS + ANSWERS + SIZES + GUESTS + OPEN),
)
async def test_row(servers, row, transport, expected):
    """The reply shows what the standard demands."""
    found = await (reply_to if row.later else fate)(servers[row.server].at, transport, row.message)
    assert {field: found.get(field) for field in expected} == expected
