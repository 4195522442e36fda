"""Stub zones: which names they take, which servers they give, and what is forgotten when they change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver import zone as zones
from dnsserver.aging import Clock
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.recursion import Recursion
from dnsserver.message import dname
from dnsserver.message.rr import Type
from dnsserver.message.wire import Rcode, Reply
from dnsserver.outside import Asked
from dnsserver.own.index import OwnNames
from dnsserver.responder import Data, Responder
from dnsserver.skydns.foreign import Foreign
from dnsserver.skydns.stub import Stubs
from dnsserver.transport.later import Wanted
from dnsserver.zone import Zone
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.store import Entry
from tests.dnsserver.kit import World, question
from tests.dnsserver.test_foreign import ZONE, at, short

NS1, NS2 = {"host": "192.0.2.53"}, {"host": "192.0.2.54", "port": 5353}

# name of the row: records below stub.dns, name asked for -> servers
ROWS = {
    "the zone itself": ({"a.example.org": NS1}, "example.org", (("192.0.2.53", 53),)),
    "a name in it": ({"a.example.org": NS1}, "www.example.org", (("192.0.2.53", 53),)),
    "a name that only ends alike": ({"a.example.org": NS1}, "badexample.org", ()),
    "a name above it": ({"a.example.org": NS1}, "org", ()),
    "another name": ({"a.example.org": NS1}, "example.com", ()),
    "in any case": ({"a.Example.ORG": NS1}, "www.example.org", (("192.0.2.53", 53),)),
    "two servers, by key": (
        {"b.example.org": NS1, "a.example.org": NS2},
        "example.org",
        (("192.0.2.54", 5353), ("192.0.2.53", 53)),
    ),
    "a server twice": ({"b.example.org": NS1, "a.example.org": NS1}, "example.org", (("192.0.2.53", 53),)),
    "IPv6": ({"a.example.org": {"host": "2001:db8::53", "port": 54}}, "example.org", (("2001:db8::53", 54),)),
    "a name is no server": ({"a.example.org": {"host": "ns.example.com"}}, "example.org", ()),
    "a name beside an address": (
        {"a.example.org": {"host": "ns.example.com"}, "b.example.org": NS1},
        "example.org",
        (("192.0.2.53", 53),),
    ),
    "the longest zone": (
        {"a.example.org": NS1, "a.sub.example.org": NS2},
        "x.sub.example.org",
        (("192.0.2.54", 5353),),
    ),
    "the longest zone, written first": (
        {"a.sub.example.org": NS2, "a.example.org": NS1},
        "x.example.org",
        (("192.0.2.53", 53),),
    ),
    "a zone of one label": ({"a.org": NS1}, "www.example.org", (("192.0.2.53", 53),)),
    "no zone: the root is none": ({"a": NS1}, "www.example.org", ()),
    "our own domain is none": ({f"a.{ZONE}": NS1}, f"www.{ZONE}", ()),
    "a zone above our domain does not take our names": ({"a.test": NS1}, f"www.{ZONE}", ()),
    "a zone above our domain takes others": ({"a.test": NS1}, "www.other.test", (("192.0.2.53", 53),)),
    "a zone within our domain": ({f"a.sub.{ZONE}": NS1}, f"www.sub.{ZONE}", (("192.0.2.53", 53),)),
    "a reverse zone": ({"a.2.0.192.in-addr.arpa": NS1}, "1.2.0.192.in-addr.arpa", (("192.0.2.53", 53),)),
}


def stubbed(records: dict[str, object]) -> World:
    made = World((ZONE,))
    made.skydns({at(f"{name}.stub.dns"): value for name, value in records.items()})
    return made


@pytest.mark.parametrize(("records", "name", "servers"), ROWS.values(), ids=ROWS)
def test_stub_zone(records, name, servers):
    """Each name has the servers of the longest zone that it is in, or none."""
    assert stubbed(records).responder.zone.stub_of(dname.from_text(name)) == servers


IGNORED = {
    "a name as host": ({"a.example.org": {"host": "ns.example.com"}}, "must be an address"),
    "no zone": ({"a": NS1}, "names no zone"),
    "our own domain": ({f"a.{ZONE}": NS1}, "our own domain"),
}


@pytest.mark.parametrize(("records", "why"), IGNORED.values(), ids=IGNORED)
def test_what_is_no_stub_zone_is_named(records, why):
    """A record that makes no stub zone is listed with the reason, until it is gone."""
    made = stubbed(records)
    (name,) = records
    full = dname.from_text(f"{name}.stub.dns.{ZONE}".lower())

    assert why in made.responder.zone.stubs.ignored[full]
    made.skydns_gone(at(f"{name}.stub.dns"))
    assert made.responder.zone.stubs.ignored == {}


def test_each_domain_may_have_stub_zones():
    """Records under any of our domains count; those of one zone are taken together."""
    made = World((ZONE, "second.test"))
    made.skydns({at("a.example.org.stub.dns"): NS1, "test/second/dns/stub/org/example/a": NS2})

    assert made.responder.zone.stub_of(dname.from_text("example.org")) == (("192.0.2.53", 53), ("192.0.2.54", 5353))


def test_names_of_stub_dns_are_answered_as_others():
    """As in SkyDNS, the records themselves are names."""
    said = stubbed({"a.example.org": NS1}).ask(f"a.example.org.stub.dns.{ZONE}")

    assert short(said.answer) == ["a.example.org.stub.dns 3600 A 192.0.2.53"]


CHANGES = {
    "a zone comes": ([("a.sub", NS1)], {"sub"}),
    "its server moves": ([("a.sub", NS1), ("a.sub", NS2)], {"sub"}),
    "it goes": ([("a.sub", NS1), ("a.sub", None)], {"sub"}),
    "it is written anew": ([("a.sub", NS1), ("a.sub", NS1)], set()),
    "something else of it changes": ([("a.sub", NS1), ("a.sub", {**NS1, "text": "x"})], set()),
}


@pytest.mark.parametrize(("steps", "below"), CHANGES.values(), ids=CHANGES)
def test_the_zones_whose_servers_changed_are_said(steps, below):
    """A change tells below which names all answers are other ones now, and nothing more."""
    made = World((ZONE,))
    zone = made.responder.zone
    for revision, (name, value) in enumerate(steps, 1):
        key = f"/skydns/{at(f'{name}.{ZONE}.stub.dns')}"
        if value is None:
            changed = zone.apply_foreign(Difference(revision, (), (key,)))
        else:
            text = str(value).replace("'", '"').encode()
            changed = zone.apply_foreign(Difference(revision, (Entry(key, text, 1, revision),)))

    assert changed.below == {dname.from_text(f"{one}.{ZONE}") for one in below}


def forwarding() -> tuple[Responder, ForwardCache]:
    domains = [zones.domain(ZONE)]
    cache, clock = ForwardCache(100, 0.0), Clock(100.0)
    zone = Zone(domains, OwnNames(domains, "proxy"), Foreign("/skydns", 30))
    recursion = Recursion(cache, LoopProbes("0" * 32), clock, ndots=0, servers=False)
    made = Responder(zone, 2, None, recursion)
    made.set_data(Data.FRESH)
    return made, cache


def put(made: Responder, revision: int, name: str, value: bytes | None) -> None:
    key = f"/skydns/{at(name)}"
    puts = () if value is None else (Entry(key, value, 1, revision),)
    made.apply_foreign(Difference(revision, puts, (key,) if value is None else ()))


def test_answers_below_a_stub_zone_are_forgotten_and_others_are_not():
    """Local answers and denials below a zone go when it comes, and what others said there when its servers change."""
    made, cache = forwarding()
    put(made, 1, "web.sub", b'{"host": "10.0.0.1"}')
    put(made, 2, "web", b'{"host": "10.0.0.2"}')
    inside, outside = question(f"web.sub.{ZONE}."), question(f"web.{ZONE}.")
    absent = [question(f"{label}.sub.{ZONE}.") for label in "abc"]
    for message in (inside, outside, *absent, *absent):
        assert isinstance(made.udp(message), bytes)
    asked = Asked(dname.from_text(f"web.sub.{ZONE}"), Type.A)
    cache.put(asked, Reply(Rcode.NOERROR), 100.0)
    kept = made.kept
    put(made, 3, f"a.sub.{ZONE}.stub.dns", b'{"host": "192.0.2.53"}')

    assert made.hot(outside[2:]) is not None
    assert made.hot(inside[2:]) is None
    assert 0 < made.kept < kept
    assert cache.get(asked, 100.0) is None
    for message in (inside, *absent):
        told = made.udp(message)
        # Nobody may have others asked here; what counts is that it is no longer answered from our own records.
        assert isinstance(told, Wanted) or told[3] & 0xF == Rcode.REFUSED
    put(made, 4, f"a.sub.{ZONE}.stub.dns", None)
    assert made.udp(inside)[3] & 0xF == Rcode.NOERROR


def test_names_above_a_stub_zone_are_not_denied():
    """Where a stub zone lies two labels below a name, what is between them leads to it."""
    made, _ = forwarding()
    absent = [question(f"{label}.{ZONE}.") for label in "abc"]
    for message in (*absent, *absent):
        made.udp(message)
    put(made, 3, f"a.y.x.{ZONE}.stub.dns", b'{"host": "192.0.2.53"}')
    for message in (*absent, *absent):
        assert made.udp(message)[3] & 0xF == Rcode.NXDOMAIN

    assert made.udp(question(f"foo.y.x.{ZONE}."))[3] & 0xF == Rcode.REFUSED  # to others: only who may


labels = st.lists(st.sampled_from(["a", "b", "org", "example", "test", "sub"]), min_size=1, max_size=4)
hosts = st.sampled_from([b'{"host": "192.0.2.1"}', b'{"host": "n.x"}', b'{"host": "192.0.2.2", "port": 7}', b"{", None])


@given(st.lists(st.tuples(labels, hosts), max_size=12))
def test_any_changes_end_where_a_reading_does(changes):
    """Whatever comes and goes, the zones are those that a fresh look finds."""
    domains = [zones.domain(ZONE)]
    foreign = Foreign("/skydns", 30)
    walked, held = Stubs(domains, foreign), {}
    for revision, (name, value) in enumerate(changes, 1):
        key = f"/skydns/{at('.'.join(name) + '.stub.dns')}"
        held.pop(key, None)
        if value is not None:
            held[key] = Entry(key, value, 1, revision)
        walked.update(foreign.apply(Difference(revision, (held[key],) if value else (), () if value else (key,))))
    fresh_foreign = Foreign("/skydns", 30)
    fresh = Stubs(domains, fresh_foreign)
    fresh.update(fresh_foreign.apply(Difference(99, tuple(held.values()))))
    names = {dname.from_text(".".join(name[1:])) for name, _ in changes}

    assert [walked.of(name) for name in names] == [fresh.of(name) for name in names]
    assert len(walked) == len(fresh)
    assert walked.ignored == fresh.ignored
    assert [walked.lead_through(name) for name in names] == [fresh.lead_through(name) for name in names]


async def test_what_is_no_server_is_shown(run):
    """The state names records under stub.dns that make no stub zone, with the reason."""
    running = await run()
    await running.put_raw("/skydns/internal/svc/dns/stub/org/example/a", b'{"host": "ns.example.com"}')
    shown = running.service.state()["no_stub_servers"]

    assert shown == {"a.example.org.stub.dns.svc.internal.": "the host of a stub zone's name server must be an address"}
