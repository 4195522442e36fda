"""Where a route stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog import values
from pilotfish.catalog.route import Place, Route, places_of, under_domains

DOMAINS = ("svc.internal", "example.net")

# Hosts of the route, PROXYDNS names, and the hosts at which it stands.
PLACES = {
    "the service's name": ((), (), ("web.svc.internal", "web.example.net")),
    "PROXYDNS instead": ((), ("www",), ("www.svc.internal", "www.example.net")),
    "PROXYDNS in lower case": ((), ("WWW", "www"), ("www.svc.internal", "www.example.net")),
    "an absolute host alone": (("shop.example.com",), (), ("shop.example.com",)),
    "a wildcard": (("*.example.com",), (), ("*.example.com",)),
    "a short host": (("shop",), (), ("shop.svc.internal", "shop.example.net")),
    "all kinds": (
        ("shop.example.com", "shop"),
        ("www",),
        ("shop.example.com", "shop.svc.internal", "www.svc.internal", "shop.example.net", "www.example.net"),
    ),
    "each place once": (("www.svc.internal",), ("www",), ("www.svc.internal", "www.example.net")),
}


@pytest.mark.parametrize(("hosts", "proxydns", "expected"), PLACES.values(), ids=PLACES)
def test_places(hosts, proxydns, expected):
    route = Route(scheme="http", hosts=hosts, path="/a")

    assert places_of(route, "Web", proxydns, DOMAINS) == tuple(Place(host, "/a") for host in expected)


def test_no_domain_leaves_absolute_hosts():
    assert places_of(Route(scheme="http", hosts=("a.com", "b")), "web", ("c",), ()) == (Place("a.com", "/"),)


def test_under_domains_goes_domain_by_domain():
    assert under_domains(["B", "a", "b"], ["x", "y"]) == ("b.x", "a.x", "b.y", "a.y")


@given(
    st.lists(st.from_regex(values.HOST.pattern), max_size=4), st.lists(st.from_regex(values.NAME.pattern), max_size=4)
)
def test_a_place_is_a_host_again(hosts, proxydns):
    """Whatever was asked for, what comes out is a host in lower case, each once."""
    places = places_of(Route(scheme="http", hosts=tuple(hosts)), "Web", tuple(proxydns), DOMAINS)

    assert len(places) == len(set(places)) > 0
    assert [place.host for place in places if not values.HOST.pattern.match(place.host)] == []
