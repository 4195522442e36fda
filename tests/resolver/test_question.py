"""DNS messages of checks: dnspython reads what we ask, we read what dnspython answers, and nothing else breaks us."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.resolver.io_ask import ask, examine, sockets
from pilotfish.resolver.question import Answer, BadAnswer, read
from pilotfish.resolver.question import ask as question
from tests.parts.small_dns import SmallDns

DOMAIN = ("svc.internal",)


@pytest.mark.parametrize(("name", "kind"), [(".", "NS"), ("svc.internal", "SOA"), ("a.b.svc.internal.", "AAAA")])
def test_what_is_asked(name, kind):
    """A question as dnspython would ask it, RD set."""
    wanted = dns.message.make_query(name, kind, use_edns=False, id=4711)

    assert question(4711, name, kind) == wanted.to_wire()


def reply(name="svc.internal", kind="SOA", *records, flags=0, rcode=0):
    message = dns.message.make_response(dns.message.make_query(name, kind, use_edns=False, id=7))
    message.flags |= flags
    message.set_rcode(rcode)
    message.answer = [dns.rrset.from_text(*record) for record in records]
    return message.to_wire()


SOA = ("svc.internal.", 2, "IN", "SOA", "ns.dns.svc.internal. h.svc.internal. 1 2 3 4 5")
READ = {
    "SOA": (reply("svc.internal", "SOA", SOA, flags=dns.flags.AA), "SOA",
            Answer("NOERROR", True, False, ("ns.dns.svc.internal",))),
    "refused": (reply(rcode=5), "SOA", Answer("REFUSED", False, False, ())),
    "an alias first": (
        reply("svc.internal", "A", ("svc.internal.", 1, "IN", "CNAME", "x."),
              ("x.", 1, "IN", "A", "10.0.0.1"), flags=dns.flags.RA),
        "A", Answer("NOERROR", False, True, ("10.0.0.1",))),
    "IPv6": (reply("svc.internal", "AAAA", ("svc.internal.", 1, "IN", "AAAA", "fd00::1")), "AAAA",
             Answer("NOERROR", False, False, ("fd00::1",))),
    "cut short": (reply(flags=dns.flags.TC | dns.flags.RA), "SOA", Answer("NOERROR", False, True, ())),
    "an RCODE without a name": (reply(rcode=9), "SOA", Answer("RCODE 9", False, False, ())),
}  # fmt: skip


@pytest.mark.parametrize(("data", "kind", "answer"), READ.values(), ids=READ)
def test_what_is_read(data, kind, answer):
    """The header and the records of the asked type."""
    assert read(data, 7, "SVC.internal.", kind) == answer


HEAD = b"\0\7\x80\0\0\1\0\1\0\0\0\0"
ASKED = b"\3svc\x08internal\0\0\6\0\1"
BAD = {
    "nothing": b"",
    "another id": reply()[:1] + b"\x08" + reply()[2:],
    "a question": question(7, "svc.internal", "SOA"),
    "another name": reply("svc.example", "SOA"),
    "another type": reply("svc.internal", "A"),
    "a pointer to itself": HEAD + ASKED + b"\xc0\x1e",
    "a pointer forward": HEAD + ASKED + b"\xc0\xff",
    "a record without end": HEAD + ASKED + b"\0\0\6\0\1\0\0\0\0\xff\xff",
    "an address of five octets": b"\0\7\x80\0\0\1\0\1\0\0\0\0\0\0\1\0\1" + b"\0\0\1\0\1\0\0\0\0\0\5abcde",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_what_is_no_answer(data):
    """One error, whatever it is."""
    with pytest.raises(BadAnswer):
        read(data, 7, "svc.internal", "SOA")


@given(st.binary(max_size=200), st.booleans())
def test_any_octets(data, begun):
    """An answer or BadAnswer, never anything else, and always an end."""
    for kind in ("SOA", "A", "AAAA"):
        try:
            read((HEAD + ASKED if begun else b"") + data, 7, "svc.internal", kind)
        except BadAnswer:
            continue


EXAMINED = {
    "forwards": ("forwards", "", ""),
    "no forwarder": ("refused", "", "it does not forward other names (REFUSED, RA=0)"),
    "other names do not exist": ("nxdomain", "", "it does not forward other names (NXDOMAIN, RA=0)"),
    "its forwarders are away": ("upstream-away", "", "its forwarders gave SERVFAIL"),
    "its forwarders refuse": ("upstream-refuses", "", "its forwarders gave REFUSED"),
}


@pytest.mark.parametrize(("outside", "trouble", "deaf"), EXAMINED.values(), ids=EXAMINED)
def test_a_server_is_examined(outside, trouble, deaf):
    """Whether it has our domain, and whether it could be a host's only resolver."""
    with SmallDns(outside=outside) as server:
        found = examine(*server.address, DOMAIN, ".")

    assert (found.trouble, found.reached, bool(found.outside)) == (trouble, True, bool(deaf))
    assert deaf in found.outside


def test_a_server_of_other_domains():
    """It answers, and is not ours."""
    with SmallDns(domain="else.example", outside="nxdomain") as server:
        found = examine(*server.address, DOMAIN, ".")

    assert "no server of svc.internal (NXDOMAIN)" in found.trouble


def test_nobody_there():
    """A closed port is known at once."""
    with SmallDns() as server:
        at = server.address
    found = examine(*at, DOMAIN, ".")

    assert not found.reached
    assert "nothing answers there" in found.trouble


STATES = {
    "a part": ({"listening": ["127.0.0.1:53", "[fd00::1]:53"]}, (("127.0.0.1", 53), ("fd00::1", 53))),
    "up": ({"registrator": {}, "dns": {"listening": ["10.0.0.1:1053"]}}, (("10.0.0.1", 1053),)),
    "another part": ({"nodes": 3}, ()),
    "a DNS server that does not answer its parent": ({"dns": None}, ()),
    "no state": ([1], ()),
    "nonsense": ({"listening": [1, None, "x:53", "10.0.0.1:0", "10.0.0.1:99999", "10.0.0.1:५३", "10.0.0.1"]}, ()),
}


@pytest.mark.parametrize(("state", "found"), STATES.values(), ids=STATES)
def test_where_a_part_says_it_listens(state, found):
    """Of one part or of all, and nothing else is believed."""
    assert sockets(state) == found


def test_silence():
    """One that never answers ends in None, within the patience that was given."""
    with SmallDns(outside="silent") as server:
        assert ask(*server.address, "www.example", "A", patience_s=0.05, tries=2) is None
        assert server.asked == ["www.example. A"] * 2
