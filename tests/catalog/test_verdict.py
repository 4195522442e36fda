"""Who is served: the one judgement, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.record import Claim, Container, Endpoint
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.verdict import REASONS, How, Placed, Refusal, Routed, judge, judge_route, names_of, published

DOMAINS = ("svc.internal", "example.net")


def endpoint(**fields: object):
    given_ = {"service": "Web", "id": "h1:web:80", "label": "h1-web-80", "port": 80, "state": "passing"}
    return Endpoint(**(given_ | fields))


VERDICTS = {
    "passing": ({}, (100, "passing")),
    "passing with its own weight": ({"weight": 7}, (7, "passing")),
    "weight 0": ({"weight": 0}, (0, "weight 0: takes no traffic")),
    "starting": ({"state": "starting"}, (0, "starting: not yet ready")),
    "failing": ({"state": "failing"}, (0, "failing: its health check says so")),
    "draining": ({"state": "draining"}, (0, "draining: about to stop")),
    "draining at weight 0": ({"state": "draining", "weight": 0}, (0, "draining: about to stop")),
}


@pytest.mark.parametrize(("fields", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(fields, expected):
    verdict = judge(endpoint(**fields))

    assert verdict == expected
    assert verdict.published is (expected[0] > 0)


@given(st.sampled_from(sorted(REASONS)), st.integers(0, 65535))
def test_only_what_passes_with_a_weight_is_served(state, weight):
    assert judge(endpoint(state=state, weight=weight)).published is (state == "passing" and weight > 0)


def test_published_keeps_the_order():
    container = Container(node="h1", id="0123456789ab", name="web", image="", started=0.0, observed=0.0)
    placed = [
        Placed(container, endpoint(id=id_, state=state))
        for id_, state in (("c", "passing"), ("b", "failing"), ("a", "passing"))
    ]

    assert [one.endpoint.id for one in published(placed)] == ["c", "a"]
    assert {one.node for one in placed} == {"h1"}


HTTP = Route(scheme="http")
NAMES = {
    "no tag": ({}, {"web": How.SERVICE}),
    "DNS": ({"dns": ("A", "b")}, {"a": How.TAGGED, "b": How.TAGGED}),
    "DNS=none": ({"dns": ()}, {}),
    "DNS with its own name": ({"dns": ("web",)}, {"web": How.TAGGED}),
    "PROXYDNS": ({"proxydns": ("WWW",)}, {"web": How.SERVICE, "www": How.PROXIED}),
    "PROXYDNS and DNS of one name": ({"dns": ("www",), "proxydns": ("www",)}, {"www": How.PROXIED}),
    "proxied": ({"route": HTTP}, {"web": How.PROXIED}),
    "proxied and DNS=none": ({"route": HTTP, "dns": ()}, {"web": How.PROXIED}),
    "proxied at a short host": (
        {"route": Route(scheme="http", hosts=("shop", "www.example.com"))},
        {"web": How.PROXIED, "shop": How.PROXIED},
    ),
    "proxied with DNS of another name": ({"route": HTTP, "dns": ("db",)}, {"db": How.TAGGED, "web": How.PROXIED}),
}


@pytest.mark.parametrize(("fields", "expected"), NAMES.values(), ids=NAMES)
def test_names(fields, expected):
    assert names_of(endpoint(**fields)) == expected


OURS = Claim(service="web", since=1.0)
THEIRS = Claim(service="shop", since=1.0)
INTERNAL, PUBLIC = Place("web.svc.internal", "/"), Place("web.example.net", "/")
ROUTES = {
    "no route": (None, {INTERNAL: OURS}, ((), ())),
    "all granted": (HTTP, {INTERNAL: OURS, PUBLIC: OURS}, ((INTERNAL, PUBLIC), ())),
    "nobody's yet": (HTTP, {INTERNAL: OURS}, ((INTERNAL,), (Refusal(PUBLIC, ""),))),
    "another's": (HTTP, {INTERNAL: THEIRS, PUBLIC: OURS}, ((PUBLIC,), (Refusal(INTERNAL, "shop"),))),
    "another path of ours": (
        Route(scheme="http", path="/a"),
        {INTERNAL: OURS, Place(PUBLIC.host, "/a"): OURS},
        ((Place(PUBLIC.host, "/a"),), (Refusal(Place(INTERNAL.host, "/a"), ""),)),
    ),
    "ours in capitals": (
        HTTP,
        {INTERNAL: Claim(service="WEB", since=1.0), PUBLIC: OURS},
        ((INTERNAL, PUBLIC), ()),
    ),
}


@pytest.mark.parametrize(("route", "claims", "expected"), ROUTES.values(), ids=ROUTES)
def test_a_route_is_served_where_it_is_owned(route, claims, expected):
    assert judge_route(endpoint(route=route), claims, DOMAINS) == Routed(*expected)
