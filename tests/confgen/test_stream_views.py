"""What streams become, without nginx: the table of what is refused, names, wildcards, and bursts of changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.nginx import quote
from confgen.nginx.streams import Around, Facts, PortRange, Socket, assemble, problem, socket_of
from pilotfish.catalog.route import Place
from tests.confgen.kit import Catalog, claim, container, endpoint, put, tree_of

FACTS = Facts(
    missing="", http_ports=frozenset({80}), https_port=443, allowed=(PortRange(1024, 2000), PortRange(53, 53))
)
TAKEN = "port 1500/udp is taken by another process of this host"

PROBLEMS = {
    "a port among those allowed": ("*:1024", "/tcp", FACTS, ""),
    "the last of them": ("*:2000", "/udp", FACTS, ""),
    "one that is allowed alone": ("*:53", "/udp", FACTS, ""),
    "not among them": ("*:2001", "/tcp", FACTS, "port 2001/tcp is not among --stream-ports"),
    "that of http": ("*:80", "/tcp", FACTS, "port 80/tcp is that of http"),
    "a name there": ("a.test:80", "/tcp", FACTS, "port 80/tcp is that of http"),
    "that of https": (
        "*:https",
        "/tcp",
        FACTS,
        "port 443/tcp is that of https: give PROXY_HOST, and it is shared by name",
    ),
    "a name there, however it is spelled": ("a.test:443", "/tcp", FACTS, ""),
    "a name on the port of https": ("*.a.test:https", "/tcp", FACTS, ""),
    "a name that is none": ("a;b:https", "/tcp", FACTS, "'a;b' is no host that nginx may read"),
    "a port that is none": ("*:080", "/tcp", FACTS, "no stream has this port"),
    "a port beyond the last": ("*:65536", "/tcp", FACTS, "no stream has this port"),
    "a port in other digits": ("*:\u0661\u0662", "/tcp", FACTS, "no stream has this port"),
    "no port": ("*:", "/tcp", FACTS, "no stream has this port"),
    "a path that is none": ("*:1024", "/", FACTS, "no stream has this path"),
    "taken": ("*:1500", "/udp", Facts("", allowed=FACTS.allowed, taken={Socket("udp", 1500): TAKEN}), TAKEN),
    "taken for the other protocol": (
        "*:1500",
        "/tcp",
        Facts("", allowed=FACTS.allowed, taken={Socket("udp", 1500): TAKEN}),
        "",
    ),
    "no names without the module": ("a.test:https", "/tcp", Facts("", "not built in"), "not built in"),
}


@pytest.mark.parametrize(("host", "path", "facts", "why"), PROBLEMS.values(), ids=PROBLEMS)
def test_which_streams_cannot_be_served(host, path, facts, why):
    assert problem(Place(host, path), facts) == why


@given(st.text(max_size=20), st.text(max_size=8))
def test_whatever_a_claim_says_it_is_a_socket_or_refused(host, path):
    try:
        found = socket_of(Place(host, path), 443)
    except quote.Unprintable:
        return
    assert 0 < found.port < 65536


def catalog_of(*entries):
    catalog = Catalog()
    catalog.views.face(FACTS)
    catalog.feed(*entries)
    return catalog


def tcp(service, port, host="*", **more):
    hosts = () if host == "*" else (host,)
    place = f"{host}:{port or 'https'}"
    one = endpoint(service, scheme="tcp", hosts=hosts, port_=port, **more)
    return put(container(service, one)), claim(service, place, "/tcp")


def test_work_is_in_proportion_to_the_change():
    """One service of many changes: only its view is made anew, and only its file."""
    entries = [entry for number in range(50) for entry in tcp(f"s{number}", 1100 + number)]
    catalog = catalog_of(*entries)
    before = dict(catalog.views.streams.views)
    assert catalog.feed(*tcp("s7", 1107, weight=5)) == {"s7"}
    after = catalog.views.streams.views
    assert {service for service in after if after[service] is not before[service]} == {"s7"}


def test_a_flapping_endpoint_leaves_no_trace():
    """Row C9: what is rendered for the same catalog is the same, octet for octet, however it came about."""
    catalog = catalog_of(*tcp("a", 1100), *tcp("b", 0, "b.test"))
    before = rendered(catalog)
    for _ in range(5):
        catalog.feed(*tcp("a", 1100, state="failing"))
        assert rendered(catalog) != before
        catalog.feed(*tcp("a", 1100))
        assert rendered(catalog) == before


def rendered(catalog):
    around = Around(443, frozenset(), "/n/inner", ipv6=False)
    return assemble(catalog.views.streams.views, around)


def test_names_are_told_apart_and_exact_ones_of_https_are_kept():
    catalog = catalog_of(*tcp("wide", 0, "*.a.test"), *tcp("one", 0, "x.a.test"), *tcp("port", 1100))
    hosts = frozenset({"y.a.test", "x.a.test", "other.test", "*.b.a.test"})
    stream = assemble(catalog.views.streams.views, Around(443, hosts, "/n/inner", ipv6=False))
    by_name, by_port = stream.listeners
    assert [(one.host.text, one.target.text) for one in by_name.names] == [
        ("*.a.test", "wide--1"),
        ("x.a.test", "one--1"),
    ]
    assert (by_name.inner, by_port.inner, by_port.default.text) == (True, False, "port--1")
    assert [host.text for host in stream.kept] == ["*.b.a.test", "y.a.test"]


def test_without_streams_the_configuration_has_no_word_of_them():
    """An nginx without the module must be able to read it."""
    catalog = catalog_of(put(container("web", endpoint("web"))), claim("web", "web.svc.test"))
    assert rendered(catalog) is None
    assert b"stream {" not in tree_of(catalog).files["nginx.conf"]
