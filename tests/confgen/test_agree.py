"""What counts when containers of one service ask for different things, what is closed, and what is said of both."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.nginx.agree import Asked, agree, intersection
from confgen.nginx.extras import Extras
from confgen.nginx.features import LEAST, read
from confgen.nginx.policy import Around, decide
from pilotfish.catalog.options import Options, Rate, Redirect
from pilotfish.catalog.route import Hsts, Route

TEN, SMALL, OTHER = ("10.0.0.0/8",), ("10.1.0.0/16",), ("192.168.0.0/16",)
NEWEST = "its containers disagree about {}: new, the newest, counts"
SAFEST = "its containers disagree about {}: what protects most counts"

# Old's options, new's options, what counts of them, allow, notes.
ROWS = [
    ("alike", {"body": 5}, {"body": 5}, {"body": 5}, None, []),
    ("a time", {"timeout_s": 5.0}, {"timeout_s": 9.0}, {"timeout_s": 9.0}, None, [NEWEST.format("PROXY_TIMEOUT")]),
    ("taken back", {"body": 5}, {}, {}, None, [NEWEST.format("PROXY_BODY")]),
    ("auth is new", {}, {"auth": "a"}, {"auth": "a"}, None, [SAFEST.format("PROXY_AUTH")]),
    ("auth is old", {"auth": "a"}, {}, {"auth": "a"}, None, [SAFEST.format("PROXY_AUTH")]),
    ("two of auth", {"auth": "a"}, {"auth": "b"}, {"auth": "b"}, None, [SAFEST.format("PROXY_AUTH")]),
    ("allow is old", {"allow": TEN}, {}, {}, TEN, [SAFEST.format("PROXY_ALLOW")]),
    ("allow nests", {"allow": TEN}, {"allow": SMALL}, {"allow": SMALL}, SMALL, [SAFEST.format("PROXY_ALLOW")]),
    ("allow is apart", {"allow": TEN}, {"allow": OTHER}, {"allow": OTHER}, (), [SAFEST.format("PROXY_ALLOW")]),
    (
        "the lower rate, the fewer connections",
        {"rate": Rate(1, "s", 9, 3)},
        {"rate": Rate(90, "m", 2, 7)},
        {"rate": Rate(1, "s", 9, 3)},
        None,
        [SAFEST.format("PROXY_RATE")],
    ),
    ("a rate and none", {"rate": Rate(1)}, {}, {"rate": Rate(1)}, None, [SAFEST.format("PROXY_RATE")]),
]


@pytest.mark.parametrize("row", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_agree(row):
    old, new, counts, allow, notes = row
    found = agree([Asked(2.0, "new", route(**new)), Asked(1.0, "old", route(**old))])

    assert msgspec.structs.replace(found.route.options, allow=Options(**counts).allow) == Options(**counts)
    assert (sorted(found.allow) if found.allow is not None else None) == (sorted(allow) if allow is not None else None)
    assert list(found.notes) == notes


def route(scheme="http", backend="http", **options):
    return Route(scheme=scheme, backend=backend, options=Options(**options))


YEAR, DAY = Hsts(31536000), Hsts(86400)
SECURE = [
    ("https is new", Route("http"), Route("https", cert="a"), ("https", "a", None), [SAFEST.format("PROXY")]),
    ("https is old", Route("https", cert="a", hsts=DAY), Route("http"), ("https", "a", DAY), [SAFEST.format("PROXY")]),
    ("grpc is new", Route("https"), Route("grpc"), ("https", "", None), [SAFEST.format("PROXY")]),
    (
        "another certificate",
        Route("https", cert="a"),
        Route("https", cert="b"),
        ("https", "b", None),
        [NEWEST.format("PROXY_CERT")],
    ),
    ("HSTS is shorter", Route("https", hsts=YEAR), Route("https", hsts=DAY), ("https", "", DAY), ["PROXY_HSTS"]),
    ("HSTS taken back", Route("https", hsts=YEAR), Route("https"), ("https", "", None), ["PROXY_HSTS"]),
]


@pytest.mark.parametrize("row", [row[1:] for row in SECURE], ids=[row[0] for row in SECURE])
def test_https_beats_what_is_open_and_its_newest_says_how(row):
    old, new, counts, notes = row
    found = agree([Asked(2.0, "new", new), Asked(1.0, "old", old)])
    assert (found.route.scheme, found.route.cert, found.route.hsts) == counts
    assert list(found.notes) == [NEWEST.format(one) if one == "PROXY_HSTS" else one for one in notes]


IN_THE_CLEAR = {
    "the newest serves": ("redirect", "serve", "redirect"),
    "the newest refuses": ("serve", "refuse", "refuse"),
    "the oldest refuses": ("refuse", "redirect", "refuse"),
}


@pytest.mark.parametrize("row", IN_THE_CLEAR.values(), ids=IN_THE_CLEAR)
@pytest.mark.parametrize("published", [True, False])
def test_who_is_stricter_about_http_counts_published_or_not(row, published):
    old, new, counts = row
    asked = [Asked(2.0, "new", Route("https", http=new)), Asked(1.0, "old", Route("https", http=old))]
    found = agree(asked if published else asked[:1], [] if published else asked[1:])
    assert (found.route.http, found.notes) == (counts, (SAFEST.format("PROXY_HTTP"),))
    plain = [Asked(3.0, "plain", Route("http"))]  # has no say in it
    assert agree([*plain, asked[0]]).route.http == new


BESIDE = {
    "users": ({"auth": "staff"}, {}, ("staff", None, None), ["PROXY_AUTH"]),
    "networks": ({"allow": TEN}, {}, ("", frozenset(TEN), None), ["PROXY_ALLOW"]),
    "a rate": ({"rate": Rate(5)}, {"rate": Rate(9)}, ("", None, Rate(5)), ["PROXY_RATE"]),
    "users, but the published ones name others": (
        {"auth": "new"},
        {"auth": "staff"},
        ("staff", None, None),
        ["PROXY_AUTH"],
    ),
    "a body, which protects nobody": ({"body": 5}, {}, ("", None, None), []),
    "nothing else": ({"auth": "staff"}, {"auth": "staff"}, ("staff", None, None), []),
}


@pytest.mark.parametrize(("beside", "published", "counts", "differ"), BESIDE.values(), ids=BESIDE)
def test_what_protects_is_joined_with_those_that_are_not_published(beside, published, counts, differ):
    """Their other wishes do not count: the newest that is published says what else is served."""
    found = agree([Asked(1.0, "on", route(**published))], [Asked(2.0, "off", route(**beside))])
    options = found.route.options
    assert (options.auth, found.allow, options.rate, options.body) == (*counts, None)
    assert list(found.notes) == [SAFEST.format(one) for one in differ]


def test_containers_that_began_together_are_told_apart_by_id():
    wishes = [Asked(1.0, name, route(body=turn)) for turn, name in enumerate("bca")]
    for order in (wishes, wishes[::-1]):
        assert agree(order).route.options.body == 1


NETWORKS = st.builds(
    lambda number, length: str(ipaddress.ip_network((number << 24, length), strict=False)),
    st.integers(0, 7),
    st.integers(5, 9),
)


@given(st.lists(st.lists(NETWORKS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3), st.integers(0, 7))
def test_an_address_is_let_in_exactly_when_every_list_lets_it_in(lists, first):
    address = ipaddress.ip_address(first << 24)
    inside = [any(address in ipaddress.ip_network(one) for one in each) for each in lists]
    assert any(address in ipaddress.ip_network(one) for one in intersection(lists)) is all(inside)


BARE = read(
    "nginx version: nginx/1.31.3\nconfigure arguments: --without-http_limit_req_module --without-http_access_module "
    "--without-http_auth_basic_module --without-http_grpc_module --without-http_gzip_module "
    "--without-http_upstream_sticky_module --without-http_upstream_hash_module --without-http_limit_conn_module"
)
USERS = Around(can=LEAST, h2c=True, htpasswd="/srv/users", extras=Extras(users=frozenset({"staff"})))
CLOSED = [
    ("no access module", route(allow=TEN), Around(can=BARE), "PROXY_ALLOW: nginx 1.31.3 is built without http_access"),
    (
        "no auth module",
        route(auth="staff"),
        Around(can=BARE),
        "PROXY_AUTH: nginx 1.31.3 is built without http_auth_basic",
    ),
    ("no limits", route(rate=Rate(1)), Around(can=BARE), "PROXY_RATE: nginx 1.31.3 is built without http_limit_req"),
    (
        "no limits of connections",
        route(rate=Rate(connections=1)),
        Around(can=BARE),
        "PROXY_RATE: nginx 1.31.3 is built without http_limit_conn",
    ),
    ("no hash", route(sticky=True), Around(can=BARE), "PROXY_STICKY: nginx 1.31.3 is built without http_upstream_hash"),
    ("no grpc", route(backend="grpc"), Around(can=BARE), "PROXY_BACKEND=grpc: nginx 1.31.3 is built without http_grpc"),
    ("no TLS", route(backend="https"), Around(can=BARE), "PROXY_BACKEND=https: nginx 1.31.3 is built without http_ssl"),
    ("no folder", route(auth="staff"), Around(), "PROXY_AUTH: confgen has no folder of htpasswd files"),
    ("no file", route(auth="others"), USERS, "PROXY_AUTH: no file others lies in /srv/users"),
    ("nothing is wrong", route(auth="staff", allow=TEN, rate=Rate(1), sticky=True, backend="grpcs"), USERS, ""),
]


@pytest.mark.parametrize(("asked", "around", "why"), [row[1:] for row in CLOSED], ids=[row[0] for row in CLOSED])
def test_a_route_that_cannot_be_guarded_is_closed(asked, around, why):
    decided = decide("web", asked, frozenset(asked.options.allow) or None, around)

    assert decided.closed.startswith(why)
    assert decided.closed.endswith("; nobody is let in" if why else "")


NOTES = [
    ("no gzip", route(compress=True), Around(can=BARE), "PROXY_COMPRESS: nginx 1.31.3 is built without http_gzip"),
    ("a stripped path of gRPC", Route("grpc", backend="grpc", strip=True), USERS, "PROXY_STRIP: gRPC methods"),
    ("gRPC without a port", Route("grpc", backend="grpc"), Around(), "PROXY=grpc: no HTTP/2 without TLS: nginx 1.22.1"),
    ("gRPC with one", Route("grpc", backend="grpc"), USERS, ""),
]


@pytest.mark.parametrize(("asked", "around", "note"), [row[1:] for row in NOTES], ids=[row[0] for row in NOTES])
def test_a_convenience_that_is_not_there_is_said(asked, around, note):
    decided = decide("web", asked, None, around)

    assert not decided.closed
    assert [one[: len(note)] for one in decided.notes] == ([note] if note else [])


def test_zones_count_the_same_for_the_same_rate_and_are_named_apart_for_others():
    """A reload refuses a zone that counts something else under its old name."""
    zones = [
        decide(service, route(rate=Rate(*rate)), None, Around()).policy.limits.zone.text
        for service, rate in [("a", (1,)), ("a", (1, "s", 5)), ("a", (2,)), ("a", (1, "m")), ("b", (1,))]
    ]
    assert zones[0] == zones[1]
    assert len(set(zones)) == 4


def test_a_redirection_prints_its_parts():
    redirect = Redirect("www.test", "https", 8443, "/new", 301)
    found = decide("web", route(redirect=redirect), None, Around()).policy.elsewhere
    assert (found.code.text, found.base.text, found.whole.text) == (
        "301",
        "https://www.test:8443",
        "https://www.test:8443/new",
    )
