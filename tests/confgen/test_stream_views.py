"""What streams become, without nginx: the table of what is refused, names, wildcards, and bursts of changes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.nginx import quote
from confgen.nginx.stream_shapes import Around, Facts, PortRange, Socket
from confgen.nginx.streams import assemble, problem, socket_of
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


def https_names(catalog, **more):
    around = Around(443, frozenset(), "/n/inner", ipv6=False, hosts=catalog.views.hosts, **more)
    stream = assemble(catalog.views.streams.views, around)
    return {one.host.text: one.target.text for one in stream.listeners[0].names}, [one.text for one in stream.kept]


OWN, HIJACK = tcp("web", 0, "x.test"), tcp("evil", 443, "x.test")


@pytest.mark.parametrize("first", [OWN, HIJACK], ids=["the name came first", "the number came first"])
def test_a_name_at_the_number_of_https_is_the_same_name(first):
    """The older claim has it, whatever the services are called and in whatever order they come."""
    for order in ((OWN, HIJACK), (HIJACK, OWN)):
        claims = {entry.key: entry for one in (OWN, HIJACK) for entry in one[1:]}
        since = [
            claim(service, f"x.test:{port}", "/tcp", since=1.0 if one is first else 9.0)
            for service, port, one in (("web", "https", OWN), ("evil", "443", HIJACK))
        ]
        assert {entry.key for entry in since} == claims.keys()
        catalog = catalog_of(*since)
        for one in order:
            catalog.feed(one[0])
        taker, other = ("web", "evil") if first is OWN else ("evil", "web")
        assert https_names(catalog)[0] == {"x.test": f"{taker}--1"}
        assert catalog.notes(other) == [("x.test:https/tcp", f"{taker} takes x.test there, and asked first")]
        catalog.feed(deletes=[first[0].key])  # its claim stays: nobody else gets the name meanwhile
        assert catalog.views.streams.views == {}
        catalog.feed(deletes=[first[0].key, first[1].key])
        assert https_names(catalog)[0] == {"x.test": f"{other}--1"}
        assert catalog.notes(other) == []


def test_one_service_may_spell_a_name_in_both_ways():
    one = endpoint("web", 80, scheme="tcp", hosts=("x.test",), port_=0)
    two = endpoint("web", 81, scheme="tcp", hosts=("x.test",), port_=443)
    too = endpoint("web", 82, to=81, scheme="tcp", hosts=("x.test",), port_=0)  # one server, in both ways
    catalog = catalog_of(
        put(container("web", one, two, too)), claim("web", "x.test:https", "/tcp"), claim("web", "x.test:443", "/tcp")
    )
    (view,) = catalog.views.streams.views.values()
    assert len(view.behind) == 1
    assert [server.address.text for server in view.pools[0].servers] == ["127.0.0.1:80", "127.0.0.1:81"]
    catalog.feed(deletes=[claim("web", "x.test:https", "/tcp").key])
    (view,) = catalog.views.streams.views.values()
    assert [server.address.text for server in view.pools[0].servers] == ["127.0.0.1:81"]


def test_no_two_services_share_a_name_whatever_their_views_say():
    """Views of two moments cannot come together; if they did, the first counts and nginx can read it."""
    views = {service: catalog_of(*tcp(service, 0, "x.test")).views.streams.views[service] for service in ("a", "b")}
    stream = assemble(views, Around(443, None, "/n/inner", ipv6=False))
    assert [(one.host.text, one.target.text) for one in stream.listeners[0].names] == [("x.test", "a--1")]


HTTP_HOSTS = {
    "over http, older": ("http", 1.0, {}, "x.test is served over http by web, which asked first"),
    "over https, older": ("https", 1.0, {}, "x.test is served over https, which was asked for first"),
    "over http, younger": ("http", 9.0, {"x.test": "db--1"}, ""),
    "over https, younger": ("https", 9.0, {"x.test": "db--1"}, ""),
}


@pytest.mark.parametrize(("scheme", "since", "names", "why"), HTTP_HOSTS.values(), ids=HTTP_HOSTS)
def test_a_host_of_another_service_is_not_taken_as_a_stream(scheme, since, names, why):
    web = put(container("web", endpoint("web", scheme=scheme, hosts=("x.test",), path="/a")))
    db, _ = tcp("db", 0, "x.test")
    catalog = catalog_of(
        web, db, claim("web", "x.test", "/a", since=since), claim("db", "x.test:https", "/tcp", since=5.0)
    )
    assert catalog.notes("db") == ([("x.test:https/tcp", why)] if why else [])
    assert ("db" in catalog.views.streams.views) == bool(names)
    if names:
        assert https_names(catalog)[0] == names


SHARED = {
    "the port first": (("db", 1.0), ("name", 2.0), "db has the whole of port 1100/tcp, and asked first"),
    "the name first": (("db", 2.0), ("name", 1.0), ""),
    "at one time": (("db", 1.0), ("a", 1.0), ""),
    "both of one service": (("db", 1.0), ("db", 2.0), ""),
}


@pytest.mark.parametrize(("whole", "named", "why"), SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("turned", [False, True])
def test_no_name_comes_to_a_port_that_another_service_had_as_a_whole(whole, named, why, turned):
    """Its clients may wait for the server to speak: they would wait for nginx's preread_timeout then."""
    (port, since), (name, later) = whole, named
    both = [
        endpoint(port, 80, scheme="tcp", port_=1100),
        endpoint(name, 81, scheme="tcp", port_=1100, hosts=("a.test",)),
    ]
    steps = [
        [claim(port, "*:1100", "/tcp", since=since)],
        [claim(name, "a.test:1100", "/tcp", since=later)],
        [put(container("both", *both))],
    ]
    catalog = catalog_of()
    for step in steps[::-1] if turned else steps:
        catalog.feed(*step)
    (listener,) = rendered(catalog).listeners
    assert [one.host.text for one in listener.names] == ([] if why else ["a.test"])
    assert catalog.notes(name) == ([("a.test:1100/tcp", why)] if why else [])
    catalog.feed(deletes=[claim(port, "*:1100", "/tcp").key])
    (listener,) = rendered(catalog).listeners
    assert ([one.host.text for one in listener.names], listener.default) == (["a.test"], None)


def test_a_service_may_serve_http_beside_a_stream_of_its_own():
    http = endpoint("web", 80, hosts=("x.test",))
    tls = endpoint("web", 443, scheme="tcp", hosts=("x.test",))
    catalog = catalog_of(
        put(container("web", http, tls)),
        claim("web", "x.test", since=1.0),
        claim("web", "x.test:https", "/tcp", since=5.0),
    )
    assert https_names(catalog)[0] == {"x.test": "web--1"}
    assert catalog.notes("web") == []


def test_a_wildcard_of_a_stream_takes_no_host_that_anybody_has():
    catalog = catalog_of(
        *tcp("wide", 0, "*.test"),
        *tcp("gone", 0, "gone.test", state="failing"),
        put(container("web", endpoint("web", hosts=("x.test", "*.y.test")))),
        claim("web", "x.test"),
        claim("web", "*.y.test"),
        claim("idle", "idle.test:https", "/tcp"),
    )
    names, kept = https_names(catalog, reserved=("proxy.test", "localhost"))
    assert names == {"*.test": "wide--1"}
    assert kept == ["*.y.test", "gone.test", "idle.test", "localhost", "proxy.test", "x.test"]


def test_a_reserved_host_is_no_stream_of_anybody():
    catalog = Catalog(reserved=("proxy",))
    catalog.views.face(FACTS)
    catalog.feed(*tcp("evil", 0, "proxy.svc.test"))
    assert catalog.views.streams.views == {}
    assert catalog.notes("evil") == [("proxy.svc.test:https/tcp", "this host is reserved")]


NAMES = ("x.test", "*.test", "y.x.test")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "c")),
        st.sampled_from(NAMES),
        st.sampled_from(("http", "https", "https port", "443", "5432")),
        st.sampled_from((1.0, 2.0, 3.0)),
        st.sampled_from(("claim", "claim and endpoint", "failing", "gone", "released")),
    ),
    max_size=25,
)


@given(STEPS)
def test_however_it_came_about_the_same_catalog_is_served_alike(steps):
    """Whoever stands at a name is looked at again when another one comes or goes there, over http or as a stream."""
    catalog, there = catalog_of(), {}
    for turn, (service, host, how, since, what) in enumerate(steps):
        http = how in {"http", "https"}
        suffix = "" if http else f":{how.removesuffix(' port')}"
        more = {} if http else {"port_": 0 if how == "https port" else int(how)}
        one = endpoint(service, 80, scheme=how if http else "tcp", hosts=(host,), **more)
        one = msgspec.structs.replace(one, state="failing" if what == "failing" else "passing")
        record = put(container(f"{service}-{NAMES.index(host)}-{how.replace(' ', '-')}", one), revision=turn)
        claimed = claim(service, f"{host}{suffix}", "/" if http else "/tcp", since=since, revision=turn)
        gone = {"gone": [record.key], "released": [record.key, claimed.key]}.get(what, [])
        entries = [] if gone else [claimed] if what == "claim" else [claimed, record]
        there.update((entry.key, entry) for entry in entries)
        for key in gone:
            there.pop(key, None)
        catalog.feed(*entries, deletes=gone)
    fresh = catalog_of(*there.values())
    assert catalog.views.services == fresh.views.services
    assert catalog.views.streams.views == fresh.views.streams.views
    assert catalog.views.hosts == fresh.views.hosts
    behind = [(one.socket, one.host) for view in fresh.views.streams.views.values() for one in view.behind]
    assert len(behind) == len(set(behind))


def test_without_streams_the_configuration_has_no_word_of_them():
    """An nginx without the module must be able to read it."""
    catalog = catalog_of(put(container("web", endpoint("web"))), claim("web", "web.svc.test"))
    assert rendered(catalog) is None
    assert b"stream {" not in tree_of(catalog).files["nginx.conf"]
