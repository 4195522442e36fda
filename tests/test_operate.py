"""What operators ask for, decided: whom a word means, what is refused, when it is safe. As tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish import operate
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.wishes import Kind, Subject
from pilotfish.console.state import catalog_state
from pilotfish.operate import Costs, NotMeant, Refused, Wait
from tests.operate_kit import container, drained, endpoint, node, proxy, registry, shifted

A, B = "aa" * 32, "ab" * 32
CATALOG = (
    node("h1"), node("h2"), node("shop"), proxy("edge"),
    container("web-1", number=A), container("web-2", "h2", number=B), container("web", service="shop", number="c" * 64),
    container("twin", number="d" * 64), container("twin", "h2", number="e" * 64),
)  # fmt: skip
NODE, SERVICE, CONTAINER = Kind.NODE, Kind.SERVICE, Kind.CONTAINER
FOUND = {
    "a node": ("h1", Subject(NODE, "h1")),
    "a node that has but a proxy": ("edge", Subject(NODE, "edge")),
    "a container by name": ("web-1", Subject(CONTAINER, A)),
    "a container by the beginning of its id": ("aaa", Subject(CONTAINER, A)),
    "a container by its whole id": (B, Subject(CONTAINER, B)),
    "a service, in so many words": ("service:web", Subject(SERVICE, "web")),
    "a service in another case": ("service:WEB", Subject(SERVICE, "web")),
    "a container of a service's name, in so many words": ("container:web", Subject(CONTAINER, "c" * 64)),
    "a node of a service's name, in so many words": ("node:shop", Subject(NODE, "shop")),
}


@pytest.mark.parametrize(("text", "expected"), FOUND.values(), ids=FOUND)
def test_a_word_means_one_thing(text, expected):
    """Node, service, container by name or id prefix."""
    assert operate.find(registry(*CATALOG), text) == expected


NOT_FOUND = {
    "a service and a container": ("web", ["service:web", "container:cccccccccccc (web on h1)"]),
    "a node and a service": ("shop", ["node:shop", "service:shop"]),
    "two containers of one name": ("twin", ["container:dddddddddddd (twin on h1)", "(twin on h2)", "say which"]),
    "two ids that begin alike": ("a", ["container:aaaaaaaaaaaa", "container:abababababab"]),
    "nothing, but something is near": ("web-3", ["'web-3' is nothing registered", "web-1"]),
    "nothing of that kind": ("node:web", ["'node:web' is nothing registered"]),
    "nothing at all": ("zzzzzz", ["'zzzzzz' is nothing registered; there is edge, h1, h2"]),
    "an empty word": ("", ["is nothing registered"]),
    "an empty container": ("container:", ["is nothing registered"]),
}


@pytest.mark.parametrize(("text", "said"), NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_word_that_means_none_or_several_lists_candidates(text, said):
    """Nothing is guessed."""
    with pytest.raises(NotMeant) as caught:
        operate.find(registry(*CATALOG), text)
    assert [part for part in said if part not in str(caught.value)] == []


def test_of_a_host_that_is_away_only_what_is_said_in_full_is_taken():
    """Its records are in no store: proxies and DNS servers keep them, and obey a wish about them."""
    known = registry(node("h1"), proxy("edge", away=("h1", "h2")), container("web-1", number=A))
    assert known.away == ("h2",)
    assert operate.find(known, "h2") == Subject(NODE, "h2")
    with pytest.raises(NotMeant, match="registrator of h2 is away"):
        operate.find(known, "service:shop")
    assert operate.find(known, "service:shop", force=True) == Subject(SERVICE, "shop")
    with pytest.raises(NotMeant):
        operate.find(known, "shop", force=True)
    with pytest.raises(Refused, match="h2 is not drained: its registrator is away"):
        operate.refuse_emptying(known, Subject(NODE, "h2"), "proxy")


DRAINED = {
    "by name": ("web-1", Subject(CONTAINER, A)),
    "by id": ("aa", Subject(CONTAINER, A)),
    "a node that is gone": ("old", Subject(NODE, "old")),
    "a service, though a container is called so too": ("web", Subject(SERVICE, "web")),
    "in so many words": ("node:old", Subject(NODE, "old")),
    "a container that is gone": ("f0f0", Subject(CONTAINER, "f0" * 32)),
}
DRAINS = [drained(f"container:{A}"), drained("node:old"), drained("service:web"), drained(f"container:{'f0' * 32}")]


@pytest.mark.parametrize(("text", "expected"), DRAINED.values(), ids=DRAINED)
def test_what_is_brought_back_is_found_among_what_is_drained(text, expected):
    """Also what is not registered any more; what is not drained cannot be meant."""
    assert operate.find_drained(registry(*CATALOG, *DRAINS), text) == expected


NOT_DRAINED = {
    "nothing is": ("h1", [], "'h1' is not drained: nothing is"),
    "a container is": (
        "h1",
        [drained(f"container:{A}")],
        f"'h1' is not drained; there is container:{A[:12]} (web-1 on h1)",
    ),
    "a container is that went": (
        "h1",
        [drained(f"container:{'f0' * 32}")],
        f"'h1' is not drained; there is container:{'f0' * 6}",
    ),
    "something else is": ("h1", DRAINS, "'h1' is not drained; there is"),
}


@pytest.mark.parametrize(("text", "wishes", "said"), NOT_DRAINED.values(), ids=NOT_DRAINED)
def test_what_is_not_drained_cannot_be_brought_back(text, wishes, said):
    """The error lists what is."""
    with pytest.raises(NotMeant) as caught:
        operate.find_drained(registry(*CATALOG, *wishes), text)
    assert said in str(caught.value)


WEB1 = container("web-1", number=A, version="v1")
WEB2 = container("web-2", "h2", number=B, version="v2")
CALLED = f"web-1 on h1 ({A[:12]})"
TAKEN_OUT = {
    "one of two": ([WEB1, WEB2], Subject(CONTAINER, A), f"{CALLED} is drained: no new requests are sent there"),
    "the last one": (
        [WEB1], Subject(CONTAINER, A),
        f"{CALLED} is drained: no new requests are sent there; nothing is served of web any more",
    ),
    "the last host, by force": (
        [WEB1], Subject(NODE, "h1"),
        "node:h1 is drained: no new requests are sent there; nothing is served of web any more",
    ),
    "a service, by its nature": (
        [WEB1], Subject(SERVICE, "web"), "service:web is drained: no new requests are sent there",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("things", "subject", "said"), TAKEN_OUT.values(), ids=TAKEN_OUT)
def test_what_a_drain_says(things, subject, said):
    """In one line: whom, as people know it, and what nobody serves any more."""
    assert operate.taken_out(registry(*things), subject) == said


KNOWN = "is back: all proxies and DNS servers know it"
STILL = "is not drained any more, and still out: "
BROUGHT_BACK = {
    "a container": ([WEB1], Subject(CONTAINER, A), f"{CALLED} {KNOWN}"),
    "its service is drained": (
        [WEB1, drained("service:web")], Subject(CONTAINER, A),
        f"{CALLED} {STILL}drained: an operator took service:web out",
    ),
    "a service, one of its containers is drained": (
        [WEB1, WEB2, drained(f"container:{A}")], Subject(SERVICE, "web"),
        f"service:web {KNOWN}; some of it is still out: drained: an operator took {CALLED} out",
    ),
    "a service whose versions have no share": (
        [WEB1, shifted("web", v1=0)], Subject(SERVICE, "web"),
        f"service:web {STILL}version 'v1' has no share: an operator shifted the load",
    ),
    "a container that fails": (
        [container("web-1", number=A, state="failing", why="\x1b[2J")], Subject(CONTAINER, A),
        f"{CALLED} {STILL}failing: \\x1b[2J",
    ),
    "a container that went": ([WEB1], Subject(CONTAINER, B), f"container:{B[:12]} has no endpoint that is registered"),
    "a host that has but a proxy": ([proxy("edge")], Subject(NODE, "edge"), f"node:edge {KNOWN}"),
}  # fmt: skip


@pytest.mark.parametrize(("things", "subject", "said"), BROUGHT_BACK.values(), ids=BROUGHT_BACK)
def test_what_is_said_of_what_comes_back(things, subject, said):
    """It is back only if it is served; else the reason is an error."""
    if STILL not in said:
        assert operate.brought_back(registry(*things), subject) == said
        return
    with pytest.raises(CannotStart) as caught:
        operate.brought_back(registry(*things), subject)
    assert str(caught.value) == said


H1, H2 = Subject(NODE, "h1"), Subject(NODE, "h2")
EMPTIED = {
    "the only host of a service": ([container("a"), container("b", "h2", service="db")], H1, ("web",)),
    "another host has it": ([container("a"), container("b", "h2")], H1, ()),
    "another host has it, drained": ([container("a"), container("b", "h2"), drained("node:h2")], H1, ("web",)),
    "another host has it, failing": ([container("a"), container("b", "h2", state="failing")], H1, ("web",)),
    "nothing of it is served here": ([container("a", state="starting"), container("b", "h2")], H1, ()),
    "nothing of it is served anywhere": ([container("a", state="failing")], H1, ()),
    "it is drained already, and others have it": (
        [container("a"), container("b", "h2"), drained("node:h1")], H1, (),
    ),
    "it is drained already, and was the last": ([container("a"), drained("node:h1")], H1, ("web",)),
    "both were drained in one moment": (
        [container("a"), container("b", "h2"), drained("node:h1"), drained("node:h2")], H2, ("web",),
    ),
    "the others have no share": (
        [container("a", version="v1"), container("b", "h2", version="v2"), shifted("web", v1=100)], H1, ("web",),
    ),
    "weight 0 elsewhere": ([container("a"), container("b", "h2", weight=0)], H1, ("web",)),
    "two services, sorted": ([container("a"), container("b", service="api")], H1, ("api", "web")),
}  # fmt: skip


@pytest.mark.parametrize(("things", "subject", "emptied"), EMPTIED.values(), ids=EMPTIED)
def test_which_services_a_drain_empties(things, subject, emptied):
    """Those that are served without it and not with it, whether the wish stands yet or not."""
    assert operate.empties(registry(*things), subject) == emptied


REFUSED = {
    "a service would be gone": ([container("a")], H1, "nothing would be left of web"),
    "the only proxy": ([node("h1"), proxy("h1")], H1, "it has the only proxy"),
    "the last proxy that is not drained": ([proxy("h1"), proxy("h2"), drained("node:h2")], H1, "it has the only proxy"),
    "the only one that is tagged so": (
        [container("n", service="edge", dns=("Proxy",)), container("m", "h2", service="edge")],
        H1,
        "the only proxy",
    ),
    "another one is tagged so": ([proxy("h1"), container("n", "h2", service="edge", dns=("proxy",))], H1, ""),
    "another one is tagged so, on a drained host": (
        [proxy("h1"), container("n", "h2", service="edge", dns=("proxy",)), drained("node:h2")],
        H1,
        "the only proxy",
    ),
    "another proxy lives": ([proxy("h1"), proxy("h2")], H1, ""),
    "a container may be the last one": ([container("a")], Subject(CONTAINER, b"a".hex().ljust(12, "0")), ""),
    "a service is gone by its nature": ([container("a")], Subject(SERVICE, "web"), ""),
}


@pytest.mark.parametrize(("things", "subject", "said"), REFUSED.values(), ids=REFUSED)
def test_a_node_that_is_needed_is_not_drained(things, subject, said):
    """The error names the services, and how to insist."""
    if not said:
        operate.refuse_emptying(registry(*things), subject, "proxy")
        return
    with pytest.raises(Refused) as caught:
        operate.refuse_emptying(registry(*things), subject, "proxy")
    assert said in str(caught.value)
    assert "--force" in str(caught.value)


COSTS = {
    "the default TTL": ([container("a")], H1, Costs(7.0)),
    "the longest TTL": ([container("a", ttl=3), container("b", ttl=90)], H1, Costs(92.0)),
    "a host with a proxy": ([container("a"), proxy("h1")], H1, Costs(60.0)),
    "a host with a proxy, and a long TTL": ([container("a", ttl=90), proxy("h1")], H1, Costs(92.0)),
    "a proxy alone": ([proxy("h1")], H1, Costs(60.0)),
    "a proxy elsewhere": ([container("a"), proxy("h2")], H1, Costs(7.0)),
    "a container that is tagged as a proxy": ([container("a", dns=("proxy",))], H1, Costs(60.0)),
    "a service that is tagged as a proxy": ([container("a", dns=("proxy",))], Subject(SERVICE, "web"), Costs(60.0)),
    "a service of the proxies' name, not tagged": ([container("a", service="proxy")], H1, Costs(7.0)),
    "a service on a host with a proxy": ([container("a"), proxy("h1")], Subject(SERVICE, "web"), Costs(7.0)),
    "the longest DRAIN": ([container("a", drain_s=3), container("b", drain_s=20)], H1, Costs(7.0, 20.0)),
    "DRAIN of others": (
        [container("a", "h1", endpoint("web"), endpoint("db", 81, drain_s=20))], Subject(SERVICE, "web"), Costs(7.0),
    ),
    "nothing runs there": ([node("h1")], H1, Costs(0.0)),
}  # fmt: skip


@pytest.mark.parametrize(("things", "subject", "costs"), COSTS.values(), ids=COSTS)
def test_what_taking_out_costs(things, subject, costs):
    """TTL and a margin; a minute where a proxy's address is cached; what DRAIN tags ask for."""
    assert operate.costs(registry(*things), subject, "proxy") == costs


BACK = {
    "the default TTL": ([container("a")], Costs(7.0)),
    "a proxy's TTL": ([container("a"), proxy("h1")], Costs(12.0)),
    "DRAIN does not count": ([container("a", drain_s=20)], Costs(7.0)),
    "nothing runs there": ([node("h1")], Costs(0.0)),
}


@pytest.mark.parametrize(("things", "costs"), BACK.values(), ids=BACK)
def test_what_bringing_back_costs(things, costs):
    """Answers that lack it have run out."""
    assert operate.costs_back(registry(*things), H1, "proxy") == costs


# Put at revision 9 and time 100; DNS takes 7 s, DRAIN 5 s. (now, proxies) step by step -> what is missing.
DNS, FINISH = "DNS answers from before run out in {} s", "the applications finish for another {} s (DRAIN)"
STEPS = {
    "no proxy at all": [
        (100, {}, DNS.format(7)), (106, {}, DNS.format(1)), (107, {}, FINISH.format(5)), (112, {}, ""),
    ],
    "a proxy that is late": [
        (100, {"h1": 8}, "the proxy on h1 has not applied it"),
        (120, {"h1": 8}, "the proxy on h1 has not applied it"),
        (121, {"h1": 9}, FINISH.format(5)), (125.9, {"h1": 9}, FINISH.format(1)), (126, {"h1": 9}, ""),
    ],
    "one of two is late": [
        (100, {"h1": 10, "h2": 8}, "the proxy on h2 has not applied it"), (101, {"h1": 10, "h2": 9}, DNS.format(6)),
    ],
    "the late one dies": [
        (100, {"h1": 10, "h2": 8}, "the proxy on h2 has not applied it"), (130, {"h1": 10}, FINISH.format(5)),
        (135, {"h1": 10}, ""),
    ],
    "a new one comes late": [
        (100, {"h1": 9}, DNS.format(7)), (110, {"h1": 9, "h2": 0}, "the proxy on h2 has not applied it"),
        (111, {"h1": 9, "h2": 11}, FINISH.format(5)), (116, {"h1": 9, "h2": 11}, ""),
    ],
}  # fmt: skip


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_when_it_is_safe(steps):
    """Proxies first, then DNS, which runs out meanwhile, then the applications."""
    wait = Wait(9, 100.0, Costs(7.0, 5.0))
    for now, proxies, missing in steps:
        assert "; ".join(wait.missing([proxy(name, at) for name, at in proxies.items()], now)) == missing


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 60), st.lists(st.integers(0, 20), max_size=3)), min_size=1),
    st.floats(0, 30),
    st.floats(0, 30),
)
def test_it_is_never_safe_too_early(looks, dns_s, drain_s):
    """Whatever proxies do: all have applied it, and DNS and DRAIN have passed."""
    wait, now = Wait(9, 100.0, Costs(dns_s, drain_s)), 100.0
    for later, revisions in looks:
        now += later
        if not wait.missing([proxy(f"h{number}", at) for number, at in enumerate(revisions)], now):
            assert all(at >= 9 for at in revisions)
            assert now >= 100.0 + dns_s + drain_s - 1e-6


def test_the_console_shows_what_operators_want():
    """Whom they took out, how they shifted the load, and the reason at each endpoint."""
    shown = catalog_state(
        registry(container("a"), drained("service:web"), drained("node:h2", 5.0), shifted("web", v2=10)), ()
    )
    assert shown["drains"] == {"node:h2": {"since": 5.0, "by": ""}, "service:web": {"since": 1.0, "by": ""}}
    assert shown["shifts"] == {"web": {"v2": 10}}
    assert shown["services"]["web"][0]["reason"] == "drained: an operator took service:web out"
