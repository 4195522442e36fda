"""The message format: sizes, truncation, compression, and a second implementation's reading of what we write."""

from __future__ import annotations

import struct

import dns.flags
import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.message import dname, rr, svcb, wire, writer
from dnsserver.message.rr import Record, Service, Soa, Type
from dnsserver.message.svcb import Binding
from dnsserver.message.wire import Ede, Rcode, Reply
from tests.dnsserver.kit import DOMAIN, World, question, said

labels = st.binary(min_size=1, max_size=63)
wire_names = st.lists(labels, min_size=1, max_size=3).map(dname.from_labels)
ttls = st.integers(0, rr.MAX_TTL)
DATA = {
    Type.A: st.binary(min_size=4, max_size=4).map(rr.Data),
    Type.AAAA: st.binary(min_size=16, max_size=16).map(rr.Data),
    Type.CNAME: wire_names.map(rr.pointing),
    Type.NS: wire_names.map(rr.pointing),
    Type.PTR: wire_names.map(rr.pointing),
    Type.TXT: st.binary(max_size=600).map(rr.text),
    Type.SRV: st.builds(Service, *[st.integers(0, 65535)] * 3, wire_names).map(rr.srv),
    Type.SOA: st.builds(rr.soa, wire_names, wire_names, st.builds(Soa, *[st.integers(0, 2**32 - 1)] * 5)),
    Type.MX: st.builds(rr.mx, st.integers(0, 65535), wire_names),
    Type.CAA: st.builds(
        rr.caa, st.integers(0, 255), st.from_regex(rb"[a-z0-9]{1,15}", fullmatch=True), st.binary(max_size=300)
    ),
    Type.NAPTR: st.builds(
        rr.naptr, *[st.integers(0, 65535)] * 2, st.tuples(*[st.binary(max_size=255)] * 3), wire_names
    ),
    Type.HTTPS: st.builds(
        Binding,
        st.integers(1, 65535),
        st.one_of(st.just(b"\0"), wire_names),
        st.lists(st.from_regex(r"[a-z0-9/.]{1,20}", fullmatch=True), min_size=1, max_size=4).map(tuple),
        st.integers(1, 65535),
    ).map(svcb.data),
    Type.HINFO: st.builds(rr.hinfo, st.binary(max_size=255), st.binary(max_size=255)),
}
records = st.sampled_from(sorted(DATA)).flatmap(
    lambda kind: st.builds(Record, wire_names, st.just(kind), ttls, DATA[kind])
)


def meant(record: Record) -> tuple[bytes, int, int, bytes]:
    """A record without compression: owner, type, TTL, data octets."""
    return record.owner, record.type, record.ttl, record.data.head + b"".join(record.data.names) + record.data.tail


def read_back(rrsets) -> list[tuple[bytes, int, int, bytes]]:
    return [
        (rrset.name.to_wire(), rrset.rdtype, rrset.ttl, rdata.to_wire(origin=dns.name.root))
        for rrset in rrsets
        for rdata in rrset
    ]


replies = st.builds(
    Reply,
    st.sampled_from([Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.BADVERS]),
    st.booleans(),
    st.lists(records, max_size=8),
    st.lists(records, max_size=3),
    st.lists(records, max_size=8),
    st.sampled_from([None, *Ede]),
    st.just(0),
    st.booleans(),
    st.booleans(),
)


@given(wire_names, replies, st.booleans())
def test_what_is_written_is_read_as_meant(name, reply, edns):
    """Another implementation reads every record back, octet by octet, whatever was compressed."""
    query = wire.read(struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + name + b"\x00\x01\x00\x01")
    if edns:
        query = query._replace(edns=wire.Edns(4096, 0, True))
    written = writer.write(query, reply, wire.MAX_TCP)
    message = dns.message.from_wire(b"\x00\x07" + written.body, one_rr_per_rrset=True)
    assert message.question[0].name.to_wire() == name
    assert read_back(message.answer) == [meant(record) for record in reply.answer]
    assert read_back(message.authority) == [meant(record) for record in reply.authority]
    assert read_back(message.additional) == [meant(record) for record in reply.additional]
    assert bool(message.flags & dns.flags.AA) == reply.authoritative
    assert bool(message.flags & dns.flags.RA) == reply.recursion
    assert bool(message.flags & dns.flags.AD) == (reply.authentic and edns)  # for who sets DO or AD; RFC 6840 §5.8
    assert (message.edns >= 0) == edns
    assert message.rcode() == (reply.rcode if edns else reply.rcode & 0xF)
    assert [int(option.code) for option in message.options] == ([int(reply.ede)] if edns and reply.ede else [])


@given(wire_names, st.lists(records, max_size=20), st.integers(512, 1500), st.booleans())
def test_no_reply_is_longer_than_its_limit(name, answers, limit, edns):
    """Whatever is cut, the limit holds, the counts are right, and TC says so exactly when an answer is missing."""
    query = wire.read(struct.pack("!6H", 7, 0, 1, 0, 0, 0) + name + b"\x00\x01\x00\x01")
    if edns:
        query = query._replace(edns=wire.Edns(limit, 0, False))
    written = writer.write(query, Reply(Rcode.NOERROR, True, answers, (), answers), limit)
    assert len(written.body) + 2 <= limit
    message = dns.message.from_wire(b"\x00\x07" + written.body, one_rr_per_rrset=True)
    kept = read_back(message.answer)
    assert kept == [meant(record) for record in answers][: len(kept)]
    assert bool(message.flags & 0x0200) == (len(kept) < len(answers))
    extra = read_back(message.additional)
    assert extra == [meant(record) for record in answers][: len(extra)]
    assert not (extra and len(kept) < len(answers))


def addresses(count: int) -> World:
    world = World()
    world.skydns({f"internal/svc/web/n{n}": {"host": f"10.0.{n // 250}.{n % 250}", "port": 80} for n in range(count)})
    return world


SIZES = {
    "no EDNS": ({}, 512),
    "offers 100: counts as 512": ({"use_edns": 0, "payload": 100}, 512),
    "offers 512": ({"use_edns": 0, "payload": 512}, 512),
    "offers 900": ({"use_edns": 0, "payload": 900}, 900),
    "offers 1232": ({"use_edns": 0, "payload": 1232}, 1232),
    "offers 65535: our own limit": ({"use_edns": 0, "payload": 65535}, 1232),
}


@pytest.mark.parametrize(("options", "limit"), SIZES.values(), ids=SIZES.keys())
def test_udp_sizes(options, limit):
    """As many whole records as the client takes and no path breaks; TC, the question and OPT stay; TCP gives all."""
    world = addresses(200)
    reply = world.ask(f"web.{DOMAIN}", **options)
    assert limit - 16 < reply.size <= limit
    assert "TC" in reply.flags
    assert reply.edns == bool(options)
    assert len(world.ask(f"web.{DOMAIN}", tcp=True, **options).answer) == 200


def test_a_cut_additional_section_sets_no_tc():
    """Addresses of SRV targets that do not fit are left out, an RRset at a time, without TC (RFC 2181 §9)."""
    reply = addresses(9).ask(f"web.{DOMAIN}", "SRV")
    assert (len(reply.answer), "TC" in reply.flags) == (9, False)
    assert 0 < len(reply.additional) < 9


def test_an_answer_over_64_kib_is_cut_over_tcp_too():
    """Nothing is longer than the two octets of length can say."""
    reply = addresses(2000).ask(f"web.{DOMAIN}", "SRV", tcp=True)
    assert 60_000 < reply.size <= 65535
    assert "TC" in reply.flags


def test_srv_targets_are_not_compressed_and_others_are():
    """The target of an SRV stands there in full (RFC 2782); owners point at what was said before."""
    world = addresses(1)
    message = question(f"web.{DOMAIN}.", "SRV")
    reply = world.send(message)
    assert reply[len(message) : len(message) + 2] == b"\xc0\x0c"
    assert b"\x02n0\x03web\x03svc\x08internal\x00" in reply[len(message) :]
    assert len(said(reply).additional) == 1
    assert reply.count(b"\x08internal") == 2


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_amplification_of_small_questions_is_bounded(tcp):
    """A reply over UDP without EDNS is never longer than 512 octets, whatever is behind the name."""
    for rtype in ("A", "SRV", "ANY", "TXT", "NS", "SOA"):
        for name in (f"web.{DOMAIN}.", f"{DOMAIN}.", f"*.{DOMAIN}."):
            assert tcp or len(addresses(300).send(question(name, rtype))) <= 512


def test_names():
    """Wire names to text and back; what is too long is refused."""
    assert dname.to_text(dname.from_text("A.b.test.")) == "A.b.test."
    assert dname.from_text("") == dname.from_text(".") == dname.ROOT
    assert dname.labels_of(dname.from_labels((b"a.b", b"\x00"))) == (b"a.b", b"\x00")
    for bad in ("a..b", "x" * 64, ".".join(["x" * 49] * 6), ".a"):
        with pytest.raises(dname.BadName):
            dname.from_text(bad)
    assert dname.is_under(b"\x01a\x01b\x00", b"\x01b\x00")
    assert not dname.is_under(b"\x03a\x01b\x00", b"\x01b\x00")
    assert dname.reverse("10.0.0.1") == dname.from_text("1.0.0.10.in-addr.arpa")
