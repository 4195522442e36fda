"""Who is served: the one judgement, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.keys import WishKey
from pilotfish.catalog.record import Claim, Container, Drain, Endpoint, Shift, encode
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.verdict import (
    CALM,
    REASONS,
    How,
    Placed,
    Refusal,
    Routed,
    Situation,
    judge,
    judge_route,
    names_of,
    published,
    situation,
)
from pilotfish.catalog.wishes import Kind, Subject, Wishes, subject_of

DOMAINS = ("svc.internal", "example.net")


def endpoint(**fields: object):
    given_ = {"service": "Web", "id": "h1:web:80", "label": "h1-web-80", "port": 80, "state": "passing"}
    return Endpoint(**(given_ | fields))


def container(number=0, node="h1"):
    return Container(node=node, id=f"{number:012x}", name="web", image="", started=0.0, observed=0.0)


NODE, OTHER = Subject(Kind.NODE, "h1"), Subject(Kind.NODE, "h2")
PANIC = Situation(panic=True)
VERDICTS = {
    "passing": ({}, CALM, (100, "passing")),
    "passing with its own weight": ({"weight": 7}, CALM, (7, "passing")),
    "weight 0": ({"weight": 0}, CALM, (0, "weight 0: takes no traffic")),
    "starting": ({"state": "starting"}, CALM, (0, "starting: not yet ready")),
    "failing": ({"state": "failing"}, CALM, (0, "failing: its health check says so")),
    "failing, and why": ({"state": "failing", "why": "GET /: 500"}, CALM, (0, "failing: GET /: 500")),
    "draining": ({"state": "draining"}, CALM, (0, "draining: about to stop")),
    "draining at weight 0": ({"state": "draining", "weight": 0}, CALM, (0, "draining: about to stop")),
    "failing in a panic": ({"state": "failing"}, PANIC, (0, "failing: its health check says so")),
    "failing in a panic, and it worked": (
        {"state": "failing", "passed": True}, PANIC,
        (100, "failing: its health check says so; kept, since most of its service fails"),
    ),
    "draining in a panic": ({"state": "draining", "passed": True}, PANIC, (0, "draining: about to stop")),
    "weight 0 in a panic": (
        {"state": "failing", "passed": True, "weight": 0}, PANIC, (0, "weight 0: takes no traffic"),
    ),
    "its node is drained": ({}, Situation(drained=frozenset({NODE})), (0, "drained: an operator took node:h1 out")),
    "another node is drained": ({}, Situation(drained=frozenset({OTHER})), (100, "passing")),
    "its service is drained": (
        {}, Situation(drained=frozenset({Subject(Kind.SERVICE, "web")})),
        (0, "drained: an operator took service:web out"),
    ),
    "its container is drained": (
        {}, Situation(drained=frozenset({Subject(Kind.CONTAINER, "0" * 12)})),
        (0, "drained: an operator took web on h1 (000000000000) out"),
    ),
    "a share": ({"version": "2"}, Situation(shares={"2": 0.5}), (50, "passing")),
    "a share of almost nothing": ({"version": "2"}, Situation(shares={"2": 0.0001}), (1, "passing")),
    "a share of too much": ({"version": "2"}, Situation(shares={"2": 1e9}), (65535, "passing")),
    "no share": (
        {"version": "2"}, Situation(shares={"2": 0.0}), (0, "version '2' has no share: an operator shifted the load"),
    ),
    "a share of weight 0": (
        {"version": "2", "weight": 0}, Situation(shares={"2": 1.0}), (0, "weight 0: takes no traffic"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "around", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(fields, around, expected):
    verdict = judge(container(), endpoint(**fields), around)

    assert verdict == expected
    assert verdict.published is (expected[0] > 0)


@given(st.sampled_from(sorted(REASONS)), st.integers(0, 65535))
def test_only_what_passes_with_a_weight_is_served(state, weight):
    assert judge(container(), endpoint(state=state, weight=weight)).published is (state == "passing" and weight > 0)


# Letters: P passing, F failing, S starting, D draining; small: it never passed before.
STATES = {"p": "passing", "f": "failing", "s": "starting", "d": "draining"}
PANICS = {
    "": False,
    "F": False,
    "FF": False,
    "FFP": True,
    "FPP": False,
    "FFPP": False,
    "FFFPP": True,
    "FFF": True,
    "ffff": False,
    "FFfff": False,
    "FFPffff": True,
    "FFDDDD": False,
    "FFFDDDD": True,
    "FFPSSSS": True,
}


def members(states):
    return [
        (container(number), endpoint(state=STATES[letter.lower()], passed=letter.isupper()))
        for number, letter in enumerate(states)
    ]


@pytest.mark.parametrize(("states", "panic"), PANICS.items())
def test_panic(states, panic):
    """At least three that worked, and more than half of them fail; those that stop or start do not count."""
    assert situation(members(states), "web", Wishes()).panic is panic


def test_published_keeps_the_order():
    placed = [
        Placed(container(), one, judge(container(), one))
        for id_, state in (("c", "passing"), ("b", "failing"), ("a", "passing"))
        if (one := endpoint(id=id_, state=state))
    ]

    assert [one.endpoint.id for one in published(placed)] == ["c", "a"]
    assert {one.node for one in placed} == {"h1"}


def wishes(*drains, shift=None):
    found = Wishes()
    for subject in drains:
        found.take(WishKey("drain", str(subject)), encode(Drain(since=1.0)))
    if shift is not None:
        found.take(WishKey("shift", "Web"), encode(Shift(since=1.0, percents=shift)))
    return found


# Percents asked for -> (version, how many endpoints of it, percent of all weight that each version gets).
SHIFTS = {
    "ten percent": ({"2": 10}, {"1": 3, "2": 1}, {"1": 90, "2": 10}),
    "however many there are": ({"2": 10}, {"1": 1, "2": 7}, {"1": 90, "2": 10}),
    "all of it": ({"2": 100}, {"1": 3, "2": 1}, {"1": 0, "2": 100}),
    "none of it": ({"2": 0}, {"1": 3, "2": 1}, {"1": 100, "2": 0}),
    "all named": ({"1": 50, "2": 50}, {"1": 3, "2": 1}, {"1": 50, "2": 50}),
    "what is left is shared by the others": ({"3": 40}, {"1": 2, "2": 1, "3": 1}, {"1": 40, "2": 20, "3": 40}),
    "less than a hundred in all": ({"1": 10, "2": 30}, {"1": 1, "2": 1}, {"1": 25, "2": 75}),
    "one that is not there": ({"1": 50, "9": 50}, {"1": 2}, {"1": 100}),
}  # fmt: skip


@pytest.mark.parametrize(("percents", "counts", "gets"), SHIFTS.values(), ids=SHIFTS)
def test_shifts(percents, counts, gets):
    """Versions share the weight as asked, however many endpoints each has."""
    all_ = [
        (container(number), endpoint(version=version, weight=100))
        for number, version in enumerate(version for version, count in counts.items() for _ in range(count))
    ]
    around = situation(all_, "web", wishes(shift=percents))
    weights = dict.fromkeys(counts, 0)
    for one, its in all_:
        weights[its.version] += judge(one, its, around).weight

    whole = sum(weights.values())
    assert {version: round(100 * weight / whole) for version, weight in weights.items()} == gets


def test_a_shift_counts_what_is_served_only():
    """A version of which nothing is served gives its share to the others; a drained one too."""
    all_ = [(container(0), endpoint(version="1")), (container(1, "h2"), endpoint(version="2", state="failing"))]
    around = situation(all_, "web", wishes(NODE, shift={"1": 90, "2": 10}))

    assert [judge(one, its, around).weight for one, its in all_] == [0, 0]
    around = situation(all_, "web", wishes(shift={"1": 1, "2": 99}))
    assert [judge(one, its, around).published for one, its in all_] == [True, False]


SUBJECTS = {
    "node:h1": NODE,
    "container:0123": Subject(Kind.CONTAINER, "0123"),
    "service:a.b": Subject(Kind.SERVICE, "a.b"),
    "node:": None,
    "h1": None,
    "host:h1": None,
    "": None,
}


@pytest.mark.parametrize(("text", "subject"), SUBJECTS.items())
def test_subjects(text, subject):
    assert subject_of(text) == subject
    assert subject is None or str(subject) == text


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


ORPHANS = {
    "no orphan": ({}, None, (100, "passing")),
    "one that answers": ({}, (), (100, "orphan: its registrator is away, kept while it answers; passing")),
    "another endpoint of it does not": (
        {}, ("o",), (100, "orphan: its registrator is away, kept while it answers; passing"),
    ),
    "one that is gone": (
        {}, ("e",), (0, "orphan: its registrator is away, and it is gone: no answer, or another has its address"),
    ),
    "one that never was ready": (
        {"state": "starting"}, (),
        (0, "orphan: its registrator is away, kept while it answers; starting: not yet ready"),
    ),
    "one without weight": ({"weight": 0}, (), (0, "weight 0: takes no traffic")),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "orphan", "expected"), ORPHANS.values(), ids=ORPHANS)
def test_verdicts_on_orphans(fields, orphan, expected):
    assert judge(container(), endpoint(id="e", **fields), CALM, orphan) == expected
