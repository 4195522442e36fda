"""What is served where: addresses, claims, 503, shared hosts, and what is left out with its reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confgen.nginx.rights import choose_address
from confgen.nginx.shapes import stem
from pilotfish.catalog.record import Address
from pilotfish.catalog.verdict import Placed, Verdict
from tests.confgen.kit import DOMAIN, Catalog, claim, container, endpoint, key_of, put, tree_of

BRIDGE = Address("172.17.0.2", 80, "node")
LOCAL = Address("127.0.0.1", 32768, "node")
LAN = Address("10.0.0.1", 32768, "lan")
LAN6 = Address("fd00::1", 32768, "lan")

ADDRESSES = [
    ("at home: the container's own", "h1", (LAN, BRIDGE), BRIDGE),
    ("at home: the container's own before loopback", "h1", (LOCAL, BRIDGE), BRIDGE),
    ("at home: loopback if nothing else", "h1", (LOCAL, LAN), LOCAL),
    ("at home: lan if nothing else", "h1", (LAN,), LAN),
    ("elsewhere: lan", "h2", (BRIDGE, LAN), LAN),
    ("elsewhere: the first lan", "h2", (LAN6, LAN), LAN6),
    ("elsewhere: never a bridge's", "h2", (BRIDGE, LOCAL), None),
    ("no address", "h1", (), None),
]


@pytest.mark.parametrize(
    ("node", "addresses", "chosen"), [row[1:] for row in ADDRESSES], ids=[row[0] for row in ADDRESSES]
)
def test_the_address_depends_on_where_the_proxy_is(node, addresses, chosen):
    placed = Placed(container("web"), endpoint("web", addresses=addresses), Verdict(100, "passing"))
    assert choose_address(placed, node) == chosen


WEB = f"web.{DOMAIN}"
ROWS = [
    ("claimed and passing", [endpoint("web")], [("web", WEB, "/")], {f"{WEB}/": ("web", ["127.0.0.1:80"])}, []),
    ("not claimed", [endpoint("web")], [], {}, [(f"{WEB}/", "nobody has claimed it yet")]),
    (
        "claimed by another",
        [endpoint("web")],
        [("shop", WEB, "/")],
        {f"{WEB}/": ("shop", [])},
        [(f"{WEB}/", "it belongs to shop, which asked first")],
    ),
    ("starting", [endpoint("web", state="starting")], [("web", WEB, "/")], {f"{WEB}/": ("web", [])}, []),
    ("failing", [endpoint("web", state="failing")], [("web", WEB, "/")], {f"{WEB}/": ("web", [])}, []),
    ("draining", [endpoint("web", state="draining")], [("web", WEB, "/")], {f"{WEB}/": ("web", [])}, []),
    ("weight 0", [endpoint("web", weight=0)], [("web", WEB, "/")], {f"{WEB}/": ("web", [])}, []),
    ("a claim without endpoints", [], [("web", WEB, "/")], {f"{WEB}/": ("web", [])}, []),
    ("not proxied", [endpoint("web", route=False)], [], {}, []),
    ("case of a name", [endpoint("Web")], [("web", WEB, "/")], {f"{WEB}/": ("web", ["127.0.0.1:80"])}, []),
    (
        "two endpoints, one address",
        [endpoint("web", 80, to=90), endpoint("web", 81, to=90)],
        [("web", WEB, "/")],
        {f"{WEB}/": ("web", ["127.0.0.1:90"])},
        [],
    ),
    (
        "its own host and a path",
        [endpoint("web", hosts=("www.example.com",), path="/shop")],
        [("web", "www.example.com", "/shop")],
        {"www.example.com/shop": ("web", ["127.0.0.1:80"])},
        [],
    ),
    (
        "wildcard",
        [endpoint("web", hosts=("*.example.com",))],
        [("web", "*.example.com", "/")],
        {"*.example.com/": ("web", ["127.0.0.1:80"])},
        [],
    ),
    (
        "grpc, where no port speaks it",
        [endpoint("web", scheme="grpc", backend="grpc")],
        [("web", WEB, "/")],
        {f"{WEB}/": ("web", ["127.0.0.1:80"])},
        [
            (
                f"{WEB}/",
                "PROXY=grpc: no HTTP/2 without TLS: nginx 1.22.1 needs a port of its own for it: give --h2c-port",
            )
        ],
    ),
    (
        "https without a certificate is http",
        [endpoint("web", scheme="https")],
        [("web", WEB, "/")],
        {f"{WEB}/": ("web", ["127.0.0.1:80"])},
        [(f"{WEB}/", "served over http alone: no --certs is given")],
    ),
    (
        "a stream whose port nobody has claimed",
        [endpoint("web", scheme="tcp", port_=5432)],
        [],
        {},
        [("*:5432/tcp", "nobody has claimed it yet")],
    ),
    (
        "a stream of an nginx that has none",
        [endpoint("web", scheme="tcp", port_=5432)],
        [("web", "*:5432", "/tcp")],
        {},
        [("*:5432/tcp", "this configuration has no streams")],
    ),
    (
        "a claim to a port that nobody uses any more",
        [],
        [("web", "*:5432", "/tcp")],
        {},
        [],
    ),
    (
        "an https backend",
        [endpoint("web", backend="https")],
        [("web", WEB, "/")],
        {f"{WEB}/": ("web", ["127.0.0.1:80"])},
        [],
    ),
    (
        "not reachable from here",
        [endpoint("web", addresses=())],
        [("web", WEB, "/")],
        {f"{WEB}/": ("web", [])},
        [("'h1:web:80'", "h1 gives no address of it that h1 can reach: publish the port")],
    ),
    (
        "reserved host",
        [endpoint("web", hosts=("console.svc.test",))],
        [("web", "console.svc.test", "/")],
        {},
        [("console.svc.test/", "this host is reserved")],
    ),
    (
        "double slash",
        [endpoint("web", path="//a")],
        [("web", WEB, "//a")],
        {},
        [(f"{WEB}//a", "no request reaches a path with '//': give it with single slashes")],
    ),
]


@pytest.mark.parametrize(
    ("endpoints", "claims", "places", "notes"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_what_is_served_and_what_is_not(endpoints, claims, places, notes):
    catalog = Catalog(reserved=("console",))
    catalog.feed(put(container("web", *endpoints)), *(claim(*one) for one in claims))
    assert catalog.places() == places
    assert catalog.notes("web") == notes


HOSTILE_CLAIMS = [
    ("semicolon in the host", "a;b", "/", "'a;b' is no host"),
    ("bare star", "*", "/", "'*' is no host"),
    ("regular expression", "~^a", "/", "'~^a' is no host"),
    ("an address", "10.0.0.1", "/", "'10.0.0.1' is no host"),
    ("all addresses that end so", "*.0.1", "/", "'*.0.1' is no host"),
    ("upper case", "WWW.test", "/", "'WWW.test' is no host"),
    ("too long", "a." * 127 + "test", "/", f"'{'a.' * 27}a..." ),
    ("no slash", "a.test", "x", "'x' is no path"),
    ("end of block", "a.test", "/}", "'/}' is no path"),
    ("newline", "a.test", "/\n", r"'/\n' is no path"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "path", "reason"), [row[1:] for row in HOSTILE_CLAIMS], ids=[row[0] for row in HOSTILE_CLAIMS]
)
def test_a_claim_whose_key_is_hostile_is_named_and_not_served(host, path, reason):
    catalog = Catalog()
    catalog.feed(claim("web", host, path), claim("good", "good.test"))
    assert catalog.places() == {"good.test/": ("good", [])}
    assert [found[: len(reason)] for _, found in catalog.notes("web")] == [reason]


@pytest.mark.parametrize(("nodes", "kept"), [(("h1",), True), (("h1", "h2"), False), (("h2",), False)])
def test_connections_are_kept_only_to_this_host(nodes, kept):
    """A host that dies says nothing: a connection that was kept to it would cost a request its whole timeout."""
    catalog = Catalog()
    members = [container(f"web{node}", endpoint("web", name=f"web{node}", node=node), node=node) for node in nodes]
    catalog.feed(*(put(member) for member in members), claim("web", WEB))
    (upstream,) = catalog.views.services["web"].upstreams
    assert (upstream.keepalive is not None) == kept


def test_an_endpoint_elsewhere_is_reached_at_its_lan_address():
    catalog = Catalog(node="h2")
    catalog.feed(put(container("web", endpoint("web"))), claim("web", WEB))
    assert catalog.places() == {f"{WEB}/": ("web", ["10.0.0.9:80"])}


def test_paths_of_two_services_share_a_host_and_of_two_of_one_age_the_shorter_leads():
    catalog = Catalog()
    catalog.feed(
        put(container("a", endpoint("web", hosts=("www.test",)))),
        put(container("b", endpoint("api", 81, hosts=("www.test",), path="/api"))),
        claim("web", "www.test"),
        claim("api", "www.test", "/api"),
    )
    assert catalog.places() == {"www.test/": ("web", ["127.0.0.1:80"]), "www.test/api": ("api", ["127.0.0.1:81"])}
    web, api = catalog.views.services["web"], catalog.views.services["api"]
    assert [token.text for token in web.sites[0].parts] == ["parts/api@www.test.conf"]
    assert [file.text for file, _ in api.parts] == ["parts/api@www.test.conf"]
    assert api.sites == ()
    assert not web.sites[0].rest


def test_the_oldest_leads_a_host_whatever_comes_and_goes_beside_it():
    """It holds the server block: were it a newcomer's file, whatever nginx refused there would cost the older ones."""
    catalog = Catalog()
    catalog.feed(
        *(put(container(name, endpoint(name, 80 + at, hosts=("www.test",), path=path))) for at, name, path in SHARING),
        *(claim(name, "www.test", path, since=float(at)) for at, name, path in SHARING),
    )
    assert led(catalog) == ["api"]
    oldest = claim("api", "www.test", "/api", since=1.0)
    catalog.feed(deletes=[oldest.key])
    assert led(catalog) == ["web"]
    catalog.feed(claim("api", "www.test", "/api", since=4.0))
    assert led(catalog) == ["web"]
    catalog.feed(claim("deep", "www.test", "/api/v1/deep", since=0.5))
    assert led(catalog) == ["deep"]


SHARING = ((1, "api", "/api"), (2, "web", "/"), (3, "deep", "/api/v1/deep"))


def led(catalog):
    """The services that have a server block."""
    return [name for name, view in catalog.views.services.items() if view.sites]


def test_when_the_leader_goes_the_other_service_takes_the_host_over():
    catalog = Catalog()
    root = claim("web", "www.test")
    catalog.feed(
        put(container("b", endpoint("api", 81, hosts=("www.test",), path="/api"))),
        root,
        claim("api", "www.test", "/api"),
    )
    changed = catalog.feed(deletes=[root.key])
    assert changed == {"web", "api"}
    assert catalog.places() == {"www.test/api": ("api", ["127.0.0.1:81"])}
    assert catalog.views.services["api"].sites[0].rest


def test_paths_that_nginx_cannot_tell_apart_go_to_the_older_claim():
    catalog = Catalog()
    catalog.feed(
        put(container("a", endpoint("new", hosts=("www.test",), path="/api"))),
        put(container("b", endpoint("old", 81, hosts=("www.test",), path="/api/"))),
        claim("new", "www.test", "/api", since=2.0),
        claim("old", "www.test", "/api/", since=1.0),
    )
    assert catalog.places() == {"www.test/api/": ("old", ["127.0.0.1:81"])}
    assert catalog.notes("new") == [("www.test/api", "old has /api/ at this host, which is the same to nginx")]


def test_a_claim_that_changes_hands_moves_the_host():
    catalog = Catalog()
    catalog.feed(
        put(container("a", endpoint("a", hosts=("www.test",)), endpoint("b", 81, hosts=("www.test",)))),
        claim("a", "www.test"),
    )
    assert catalog.places() == {"www.test/": ("a", ["127.0.0.1:80"])}
    for owner, server in (("b", "127.0.0.1:81"), ("a", "127.0.0.1:80")):  # both orders of being worked on
        catalog.feed(claim(owner, "www.test"))
        assert catalog.places() == {"www.test/": (owner, [server])}


def test_only_services_that_were_touched_change():
    catalog = Catalog()
    catalog.feed(
        *(put(container(name, endpoint(name))) for name in "abc"), *(claim(name, f"{name}.{DOMAIN}") for name in "abc")
    )
    assert catalog.feed(put(container("b", endpoint("b", weight=5)))) == {"b"}
    assert catalog.feed(put(container("b", endpoint("b", weight=5), observed=9.0))) == frozenset()


def test_hosts_of_one_service_that_are_alike_share_a_server():
    catalog = Catalog(domains=("svc.test", "example.net"))
    catalog.feed(put(container("web", endpoint("web"))), claim("web", "web.svc.test"), claim("web", "web.example.net"))
    (site,) = catalog.views.services["web"].sites
    assert [host.text for host in site.hosts] == ["web.example.net", "web.svc.test"]


def test_file_names_stay_short_and_apart():
    names = ["a" * 253, "a" * 252 + "b"]
    stems = [stem(*pair) for pair in [(names[0],), (names[1],), (names[0], names[1]), (names[1], names[0])]]
    assert len(set(stems)) == 4
    assert max(map(len, stems)) <= 150


SERVICES = st.sampled_from(["a", "b", "c"])
HOSTS = st.sampled_from(["x.test", "y.test", "*.test"])
PATHS = st.sampled_from(["/", "/p", "/p/", "/q"])
STATES = st.sampled_from(["passing", "starting", "draining"])
CONTAINERS = st.tuples(
    st.just("container"), st.sampled_from("123"), st.lists(st.tuples(SERVICES, HOSTS, PATHS, STATES), max_size=2)
)
CLAIMS = st.tuples(st.just("claim"), st.tuples(HOSTS, PATHS), st.none() | st.tuples(SERVICES, st.integers(1, 3)))


@settings(deadline=None)
@given(st.lists(CONTAINERS | CLAIMS, max_size=12))
def test_step_by_step_gives_the_same_as_all_at_once(steps):
    stepwise, held = Catalog(), {}
    for kind, which, what in steps:
        if kind == "container":
            endpoints = [
                endpoint(service, 80 + turn, hosts=(host,), path=path, state=state, name=which)
                for turn, (service, host, path, state) in enumerate(what)
            ]
            record = container(which, *endpoints)
            entry = put(record)
            held.pop(key_of(record), None)
        else:
            host, path = which
            owner, since = what or ("a", 1)
            entry = claim(owner, host, path, since=float(since))
            held.pop(entry.key, None)
        if what:
            held[entry.key] = entry
            stepwise.feed(entry)
        else:
            stepwise.feed(deletes=[entry.key])
    at_once = Catalog()
    at_once.feed(*held.values())
    assert stepwise.views.services == at_once.views.services
    assert tree_of(stepwise).generation == tree_of(at_once).generation
    assert stepwise.views.host_count == at_once.views.host_count
    assert stepwise.views.longest_host == at_once.views.longest_host
