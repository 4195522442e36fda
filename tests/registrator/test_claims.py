"""Claims to routes: first come, first served, and kept for a day."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog.keys import claim_key
from pilotfish.catalog.record import Claim, Endpoint, decode
from pilotfish.catalog.route import Place, Reserved, Route
from pilotfish.catalog.store import Absent, Delete, ModifiedAt, Put
from registrator.writing.claims import IDLE_S, Conflict, Held, plan_claims, plan_idle

DOMAINS = ("svc.internal",)
RESERVED = Reserved(DOMAINS, ("proxy",))
NOW = 1_000_000.0
WEB = Place("web.svc.internal", "/")


def endpoint(service: str = "web", *hosts: str, path: str = "/", scheme: str = "http", **changes: object) -> Endpoint:
    route = Route(scheme=scheme, hosts=hosts, path=path, port=0 if scheme == "http" or hosts else 9000)
    one = Endpoint(service=service, id=f"h1:{service}:80", label=f"h1-{service}-80", port=80, route=route)
    return msgspec.structs.replace(one, **changes)


def held(service: str, *, idle_since: float = 0.0, revision: int = 5) -> Held:
    return Held(Claim(service=service, since=1.0, idle_since=idle_since), revision)


CLAIMS = {
    "nobody has it": ([endpoint()], {}, {WEB: "web"}, []),
    "any case of the service": ([endpoint("Web")], {}, {WEB: "web"}, []),
    "ours already": ([endpoint()], {WEB: held("web")}, {}, []),
    "ours already, in another case": ([endpoint("WEB")], {WEB: held("Web")}, {}, []),
    "somebody has it": ([endpoint()], {WEB: held("other")}, {}, [(WEB, "web", "other")]),
    "two of ours ask: the first gets it": (
        [endpoint("a", "www.example.com"), endpoint("b", "www.example.com")],
        {},
        {Place("www.example.com", "/"): "a"},
        [(Place("www.example.com", "/"), "b", "a")],
    ),
    "one host, two paths": (
        [endpoint("a", "www.example.com"), endpoint("b", "www.example.com", path="/b")],
        {},
        {Place("www.example.com", "/"): "a", Place("www.example.com", "/b"): "b"},
        [],
    ),
    "no route": ([endpoint(route=None)], {}, {}, []),
    "a stream claims its port": ([endpoint(scheme="tcp")], {}, {Place("*:9000", "/tcp"): "web"}, []),
    "a stream claims its names on the port of https": (
        [endpoint("x", "db.example.com", "db", scheme="tcp")],
        {},
        {Place("db.example.com:https", "/tcp"): "x", Place("db.svc.internal:https", "/tcp"): "x"},
        [],
    ),
    "a port is another one for udp": (
        [endpoint(scheme="udp")],
        {Place("*:9000", "/tcp"): held("other")},
        {Place("*:9000", "/udp"): "web"},
        [],
    ),
    "a port of another": (
        [endpoint(scheme="tcp")],
        {Place("*:9000", "/tcp"): held("other")},
        {},
        [(Place("*:9000", "/tcp"), "web", "other")],
    ),
    "a stream with the proxies' own name": (
        [endpoint("x", "proxy.svc.internal", scheme="tcp")],
        {},
        {},
        [(Place("proxy.svc.internal:https", "/tcp"), "x", "")],
    ),
    "names of PROXYDNS": ([endpoint(proxydns=("shop",))], {}, {Place("shop.svc.internal", "/"): "web"}, []),
    "the proxies' own name": (
        [endpoint("x", "proxy.svc.internal")],
        {},
        {},
        [(Place("proxy.svc.internal", "/"), "x", "")],
    ),
    "a node's name": (
        [endpoint("x", "h1.node.svc.internal")],
        {},
        {},
        [(Place("h1.node.svc.internal", "/"), "x", "")],
    ),
    "localhost": ([endpoint("x", "a.localhost")], {}, {}, [(Place("a.localhost", "/"), "x", "")]),
}


@pytest.mark.parametrize(("endpoints", "claims", "put", "conflicts"), CLAIMS.values(), ids=CLAIMS)
def test_what_is_claimed(endpoints, claims, put, conflicts):
    """Only what nobody has is put, under that condition; the rest is a conflict that names the owner."""
    steps, found = plan_claims(endpoints, claims, RESERVED, NOW)
    assert {step.place: decode(Claim, step.operation.value).service for step in steps} == put
    for step in steps:
        assert step.conditions == (Absent(claim_key(step.place)),)
        assert step.operation.lease == 0
        assert decode(Claim, step.operation.value).since == NOW
    assert [conflict[:3] for conflict in found] == conflicts


def test_a_claim_that_was_idle_is_used_again():
    """The service comes back within the day: the claim forgets that it was idle, unless somebody was faster."""
    steps, conflicts = plan_claims([endpoint()], {WEB: held("web", idle_since=5.0)}, RESERVED, NOW)
    [step] = steps
    assert step.conditions == (ModifiedAt(claim_key(WEB), 5),)
    assert decode(Claim, step.operation.value) == Claim(service="web", since=1.0)
    assert conflicts == ()


IDLE = {
    "used": ([endpoint()], held("web"), None),
    "used, whatever its state": ([endpoint(state="failing", weight=0)], held("web"), None),
    "used by another service only": ([endpoint("other", "web.svc.internal")], held("web"), "idle"),
    "not used": ([], held("web"), "idle"),
    "not used, and known so": ([], held("web", idle_since=NOW - 10), None),
    "not used for a day": ([], held("web", idle_since=NOW - IDLE_S), "gone"),
    "used again, seen by its own node only": ([endpoint()], held("web", idle_since=NOW - IDLE_S), None),
}
ABSOLUTE = Place("www.example.com", "/")
DOMAINS_OF_OTHERS = {
    "its service's name, under a domain that we do not serve": ([endpoint()], Place("web.other.test", "/"), True),
    "PROXYDNS of two labels": ([endpoint(proxydns=("a.b",))], Place("a.b.other.test", "/"), True),
    "PROXY_HOST of one label": ([endpoint("x", "shop")], Place("shop.other.test", "/"), True),
    "PROXY_HOST as it stands": ([endpoint("x", "www.example.com")], ABSOLUTE, True),
    "PROXY_HOST as it stands, not its name": ([endpoint("x", "www.example.com")], Place("x.other.test", "/"), False),
    "another path": ([endpoint("x", "www.example.com", path="/a")], ABSOLUTE, False),
    "another name": ([endpoint("x")], Place("web.other.test", "/"), False),
    "a name that only ends alike": ([endpoint()], Place("my-web.other.test", "/"), False),
    "a stream": ([endpoint(scheme="tcp")], WEB, False),
    "a stream's port": ([endpoint(scheme="tcp")], Place("*:9000", "/tcp"), True),
    "a stream's port, not its other protocol": ([endpoint(scheme="tcp")], Place("*:9000", "/udp"), False),
    "a stream's name under another domain": (
        [endpoint("x", "db", scheme="tcp")],
        Place("db.other.test:https", "/tcp"),
        True,
    ),
    "a stream's name on another port": ([endpoint("x", "db", scheme="tcp")], Place("db.other.test:1", "/tcp"), False),
}


@pytest.mark.parametrize(("endpoints", "place", "used"), DOMAINS_OF_OTHERS.values(), ids=DOMAINS_OF_OTHERS)
def test_a_claim_under_a_domain_of_other_nodes_is_left_alone(endpoints, place, used):
    """As long as its service asks for it there, or may: two nodes never write one claim in turns."""
    owner = endpoints[0].service
    assert bool(plan_idle(endpoints, {place: held(owner)}, NOW)) is not used


@pytest.mark.parametrize(("endpoints", "claim", "expected"), IDLE.values(), ids=IDLE)
def test_what_becomes_of_a_claim(endpoints, claim, expected):
    """Marked when nobody uses it, removed a day later, always under the condition that nobody touched it since."""
    steps = plan_idle(endpoints, {WEB: claim}, NOW)
    if expected is None:
        assert steps == ()
        return
    [step] = steps
    assert step.conditions == (ModifiedAt(claim_key(WEB), 5),)
    if expected == "gone":
        assert step.operation == Delete(claim_key(WEB))
    else:
        assert isinstance(step.operation, Put)
        assert decode(Claim, step.operation.value) == msgspec.structs.replace(claim.claim, idle_since=NOW)


CONFLICTS = {
    "owned": (
        Conflict(WEB, "web", "other", "h1:web:80"),
        (
            "h1:web:80: web.svc.internal/ belongs to other, which asked first; both serve it"
            " when both have one SERVICE_NAME"
        ),
    ),
    "reserved": (Conflict(WEB, "web", "", "h1:web:80"), "h1:web:80: web.svc.internal/ is reserved"),
}


@pytest.mark.parametrize(("conflict", "text"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_conflict_is_a_sentence(conflict, text):
    """Who asked, for what, and whose it is."""
    assert str(conflict) == text


endpoints_st = st.lists(
    st.builds(endpoint, st.sampled_from(["a", "b"]), st.sampled_from(["x.example.com", "y.example.com", "z"])),
    max_size=6,
)


@settings(deadline=None)
@given(first=endpoints_st, second=endpoints_st)
def test_nobody_loses_a_place_to_another_service(first, second):
    """Whoever has a place keeps it, whatever others ask for later; and asking twice claims nothing twice."""
    claims: dict[Place, Held] = {}
    for number, endpoints in enumerate((first, second), 1):
        before = {place: one.claim.service for place, one in claims.items()}
        steps, conflicts = plan_claims(endpoints, claims, RESERVED, NOW)
        for step in steps:
            assert step.place not in claims
            claims[step.place] = Held(decode(Claim, step.operation.value), number)
        assert before.items() <= {place: one.claim.service for place, one in claims.items()}.items()
        assert all(claims[conflict.place].claim.service != conflict.service for conflict in conflicts)
        assert plan_claims(endpoints, claims, RESERVED, NOW) == ((), conflicts)
