"""What exists, and what may be denied without looking closely: property tests over worlds of all kinds of records."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver.message import dname
from dnsserver.own.domain import Domain
from dnsserver.own.existing import Existing
from dnsserver.zone import Work
from pilotfish.catalog.route import Route
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, lan, node, proxy

DOMAINS = (DOMAIN, "in.deep." + DOMAIN, "example.net", "168.192.in-addr.arpa", "0.168.192.in-addr.arpa")
NAMES = ["web", "db.shop", "shop", "a.b.c", "web.db.shop", "nearest", "nearest.web", "node", "dns", "proxy", "x.proxy"]
HOSTS = [
    f"www.{DOMAIN}",
    f"*.{DOMAIN}",
    f"*.shop.{DOMAIN}",
    f"*.a.web.{DOMAIN}",
    DOMAIN,
    "example.net",
    f"deep.{DOMAIN}",
]
LABELS = ["h1-c-80", "nearest", "other"]
routes = st.none() | st.builds(
    Route,
    st.sampled_from(["http", "https", "tcp"]),
    hosts=st.lists(st.sampled_from(HOSTS), max_size=2).map(tuple),
    port=st.just(443),
)
endpoints = st.builds(
    lambda service, port, label, fields: endpoint(service, port, lan("192.168.0.1"), label=label, **fields),
    st.sampled_from(NAMES),
    st.sampled_from([80, 443]),
    st.sampled_from(LABELS),
    st.fixed_dictionaries(
        {},
        optional={
            "dns": st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
            "proxydns": st.lists(st.sampled_from(NAMES), max_size=1).map(tuple),
            "route": routes,
            "state": st.sampled_from(["passing", "draining"]),
            "protocol": st.sampled_from(["tcp", "udp"]),
        },
    ),
)
FOREIGN = ["internal/svc/web/x", "internal/svc/e/f/g", "internal/svc/a/b", "net/example", "internal/svc/dns/ns/1"]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world after some comings and goings."""
    world = World(DOMAINS, node="h1")
    if draw(st.booleans()):
        world.put(node("h1", "192.168.0.1"), proxy("h1", "192.168.0.1", https=draw(st.sampled_from([0, 443, 8443]))))
    found = draw(st.lists(endpoints, max_size=5))
    world.put(*(container(n, one) for n, one in enumerate(found)))
    for host in draw(st.lists(st.sampled_from(HOSTS), max_size=3, unique=True)):
        world.claim(draw(st.sampled_from(NAMES)), host)
    for n in draw(st.sets(st.integers(0, max(0, len(found) - 1)))) if found else ():
        world.remove(container(n))
    for key in draw(st.lists(st.sampled_from(FOREIGN), max_size=2, unique=True)):
        world.skydns({key: {"host": "10.0.0.1", "port": 80}})
    return world


FRONTS = ["", "_80._tcp", "_443._udp", "_tcp", "_udp", "_http._tcp", "_https._tcp", "_8443._https", "_https", "x.y"]
FRONTS += [f"nearest.{front}".rstrip(".") for front in FRONTS] + ["h1-c-80", "_80._tcp.h1-c-80", "nearest.nearest"]
BASES = [
    "",
    *NAMES,
    "www",
    "any.thing.shop",
    "any.a.web",
    "deep",
    "e.f.g",
    "f.g",
    "example",
    "h1.node",
    "ns.dns",
    "0",
    "1.0",
]
NAMED = [
    dname.from_text(".".join(part for part in (front, base, domain) if part))
    for front in FRONTS
    for base in BASES
    for domain in DOMAINS
]
LISTED = [
    "web",
    "shop",
    "db",
    "a",
    "b",
    "c",
    "www",
    "deep",
    "in",
    "f",
    "x",
    "h1",
    "h1-c-80",
    "nearest",
    "other",
    "0",
    "1",
]
LISTED += ["node", "dns", "ns", "proxy", "_tcp", "_udp", "_https", "_80", "_http", "*", "any", "a.b", "\x00", "\xff"]
CHILDREN = [bytes((len(label.encode()),)) + label.encode() for label in LISTED]


def domain_of(world: World, name: bytes) -> Domain:
    domain = world.responder.zone.domain_of(name)
    assert domain is not None
    return domain


@given(worlds())
@settings(max_examples=30, deadline=None)
def test_above_a_name_that_exists_all_exist(world):
    """No NXDOMAIN for an empty non-terminal, whatever brought the name into being (RFC 8020, RFC 4592 §2.2.2)."""
    zone = world.responder.zone
    there = {name for name in NAMED if zone.case(name, Work()).exists}
    for name in there:
        for above in dname.suffixes(name):
            assert above in there or zone.case(above, Work()).exists
            if above == domain_of(world, name).name:
                break


@given(worlds(), st.lists(st.sampled_from(NAMED), min_size=20, max_size=40))
@settings(max_examples=80, deadline=None)
def test_what_is_denied_quickly_is_not_there(world, parents):
    """True of `denies_below` means: neither the name nor anything below it is ours, and no wildcard covers it."""
    own, zone = world.responder.zone.own, world.responder.zone
    for parent in parents:
        denies, domain = own.denies_below(parent), domain_of(world, parent)
        if denies is None or not zone.case(parent, Work()).exists:
            continue
        denied = [child + parent for child in CHILDREN if denies(child + parent)]
        assert not denied or own.wildcard(parent, domain) is None
        for name in denied:
            for deeper in (name, *(child + name for child in CHILDREN), b"\x03_80\x04_tcp" + name):
                assert domain_of(world, deeper) == domain
                assert own.find(deeper, domain) is None
                assert own.wildcard(deeper, domain) is None


DENIED = {
    "below the apex": ("", {"nope": True, "web": False, "shop": False, "node": False, "dns": False, "proxy": False}),
    "what is sorted": ("", {"nearest": False}),
    "another domain": ("", {"deep": False}),
    "ports of the apex": ("", {"_tcp": False}),
    "below a service": ("web", {"nope": True, "h1-c-80": False, "nearest": False, "_tcp": False, "web": True}),
    "between": ("shop", {"nope": True, "db": False, "nearest": False}),
    "below a host that is claimed": ("www", {"nope": True, "nearest": False}),
    "below an instance": ("h1-c-80.web", {"nope": True, "nearest": False}),
    "below hosts": ("node", None),
    "below a host": ("h1.node", None),
    "name servers": ("dns", None),
    "below a protocol": ("_tcp.web", None),
    "below a wildcard": ("wild", None),
    "below a name under a wildcard": ("x.wild", None),
}


@pytest.mark.parametrize(("parent", "expected"), DENIED.values(), ids=DENIED.keys())
def test_quick_denials(parent, expected):
    """Which names are denied at once, and where that is not known."""
    world = World((DOMAIN, f"in.deep.{DOMAIN}"))
    world.put(node("h1", "192.168.0.1"), container(1, endpoint("web", 80, lan("192.168.0.1"))))
    world.put(container(2, endpoint("db.shop", 80, lan("192.168.0.1"))))
    world.claim("web", f"www.{DOMAIN}")
    world.claim("web", f"*.wild.{DOMAIN}")
    name = dname.from_text(f"{parent}.{DOMAIN}".lstrip("."))
    denies = world.responder.zone.own.denies_below(name)
    assert (denies is None) == (expected is None)
    assert expected is None or {label: denies(dname.from_text(label)[:-1] + name) for label in expected} == expected


def test_quick_denials_follow_changes():
    """A name that comes into being is no longer denied; that a parent's denial is spent is told."""
    world = World()
    own, apex, web = world.responder.zone.own, dname.from_text(DOMAIN), dname.from_text(f"web.{DOMAIN}")
    denies = own.denies_below(apex)
    assert denies is not None
    assert denies(web)
    world.put(container(1, endpoint("web", 80, lan("192.168.0.1"))))
    assert not denies(web)
    below = own.denies_below(web)
    assert below is not None
    assert below(dname.from_text(f"h1-d-80.web.{DOMAIN}"))
    assert not below(dname.from_text(f"h1-c-80.web.{DOMAIN}"))


def test_elsewhere_nothing_is_denied():
    """Outside our domains, and where a label cannot be ours, there is no quick answer."""
    own = World().responder.zone.own
    assert own.denies_below(dname.from_text("example.com")) is None
    assert own.denies_below(b"\x03a.b" + dname.from_text(DOMAIN)) is None


names = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join).map(dname.from_text)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 1]), names), max_size=30))
def test_existing(steps):
    """A name exists as long as it, or one below it, is of a kind that was put, in whatever order they came and went."""
    one = Existing()
    kinds, members = (one, Existing(one)), (set(), set())
    for comes, kind, name in steps:
        (kinds[kind].put if comes else kinds[kind].drop)(name)
        (members[kind].add if comes else members[kind].discard)(name)
    listed = {above for _, _, name in steps for above in dname.suffixes(name)}
    every = {above for of in members for name in of for above in dname.suffixes(name)}
    for kind, of in zip(kinds, members, strict=True):
        assert {name for name in listed if name in kind} == every
        assert {name for name in listed if kind.itself(name)} == of
        ways = {above for name in of for above in dname.suffixes(name)}
        assert kind.between(b"\x01a\x00") == {name for name in ways if dname.parent(name) == b"\x01a\x00"}
        assert {name for name in listed if not kind.denial()(name)} == every
