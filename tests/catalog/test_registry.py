"""The typed catalog: however it came to what it holds, it holds what the records say."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog import keys
from pilotfish.catalog.keys import ContainerKey
from pilotfish.catalog.mirror import Difference, Mirror
from pilotfish.catalog.record import Claim, Container, Drain, Endpoint, Node, Proxy, Shift, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.store import Change, Entry, Reading
from pilotfish.catalog.verdict import How

IDS = ["0" * 12, "a" * 12]
PLACE = Place("www.example.com", "/a")


def endpoint(service, **fields):
    port = fields.get("port", 80)
    own = {"id": f"h:{service}:{port}".lower(), "label": f"h-{service}-{port}".lower(), "port": port}
    return Endpoint(**({"service": service} | own | fields))


def container(node="h1", id_=IDS[0], *endpoints):
    return Container(node=node, id=id_, name="c", image="i", started=0.0, observed=0.0, endpoints=endpoints)


ENDPOINTS = [
    endpoint("web"),
    endpoint("Web", port=81),
    endpoint("web", dns=("www", "Web")),
    endpoint("db", proxydns=("www",)),
    endpoint("db", port=90, dns=()),
    endpoint("shop", route=Route(scheme="http", hosts=("web", "a.example.com"))),
    # Enough of these in one service make a panic.
    *(endpoint("web", port=port, state="passing", passed=True, version="1") for port in (82, 83)),
    *(endpoint("web", port=port, state="failing", passed=True, dns=("www",)) for port in (84, 85, 86)),
    endpoint("web", port=87, state="failing"),
]
BAD = [b"", b"{}", b"\xff", b'{"format":7}']


def pool():
    """Keys with the values that are put there: good ones, bad ones, and good ones of another key."""
    node = Node(node="h1", addresses=("192.0.2.1",), boot="b", engine="e", instance="i", version="1")
    proxy = Proxy(node="h1", addresses=("192.0.2.1",))
    found = {}
    for name in ("h1", "h2"):
        found[keys.node_key(name)] = [encode(node), *BAD]
        found[keys.proxy_key(name)] = [encode(proxy), encode(msgspec.structs.replace(proxy, http_port=80)), *BAD]
        for id_ in IDS:
            found[keys.container_key(name, id_)] = BAD
    found[keys.claim_key(PLACE)] = [encode(Claim(service=name, since=1.0)) for name in ("web", "db")] + BAD
    found[keys.claim_key(PLACE).replace("%2F", "%2f")] = [encode(Claim(service="thief", since=1.0))]
    for name in ("web", "service:web", "node:h1", f"container:{IDS[0]}"):
        found[keys.wish_key("drain", name)] = [encode(Drain(since=1.0)), *BAD]
    shifts = ({"1": 10}, {"1": 100}, {"": 0, "2": 5})
    found[keys.wish_key("shift", "web")] = [encode(Shift(since=1.0, percents=one)) for one in shifts] + BAD
    found[keys.wish_key("hope", "web")] = [encode(Drain(since=1.0))]
    found[f"{keys.ROOT}nonsense"] = BAD
    return found


POOL = pool()
CONTAINER_KEYS = [keys.container_key(name, id_) for name in ("h1", "h2") for id_ in IDS]
good_containers = st.builds(
    lambda key, of, chosen: (key, encode(container(of[0], of[1], *chosen))),
    st.sampled_from(CONTAINER_KEYS),
    st.tuples(st.sampled_from(["h1", "h2"]), st.sampled_from(IDS)),
    st.lists(st.sampled_from(ENDPOINTS), max_size=3),
)
own_containers = st.builds(
    lambda key, chosen: (key, encode(container(*key.split("/")[-2:], *chosen))),
    st.sampled_from(CONTAINER_KEYS),
    st.lists(st.sampled_from(ENDPOINTS), max_size=6),
)
others = st.sampled_from([(key, value) for key, found in POOL.items() for value in found])
deletions = st.sampled_from(list(POOL)).map(lambda key: (key, None))
steps = st.lists(own_containers | own_containers | good_containers | others | deletions, min_size=1, max_size=4).map(
    dict
)


def shown(found):
    """Everything that a reader can see."""
    return {
        "nodes": found.nodes,
        "proxies": found.proxies,
        "claims": found.claims,
        "containers": found.containers,
        "refused": found.refused,
        "services": {name: found.service(name) for name in found.services()},
        "names": {name: found.name(name) for name in found.names()},
        "standing": {name: found.standing(name) for name in found.names()},
        "drains": found.wishes.drains,
        "shifts": found.wishes.shifts,
    }


def changes_of(history):
    for revision, step in enumerate(history, 1):
        puts = tuple(Entry(key, step[key], revision, revision) for key in sorted(step) if step[key] is not None)
        yield Change(revision, puts, tuple(key for key in sorted(step) if step[key] is None))


def test_a_node_that_leaves_is_not_there():
    """Its key stands for a lease more, for readers that were away."""
    found, key = Registry(), keys.node_key("h1")
    here = Node(node="h1", addresses=("192.0.2.1",), boot="b", engine="e", instance="i", version="1")
    found.apply(Difference(1, (Entry(key, encode(here), 1, 1),)))
    assert set(found.nodes) == {"h1"}
    touched = found.apply(Difference(2, (Entry(key, encode(msgspec.structs.replace(here, leaving=True)), 1, 2),)))
    assert (found.nodes, touched.nodes) == ({}, {"h1"})


@given(st.lists(steps, min_size=1, max_size=10))
@settings(max_examples=200, deadline=None)
def test_any_sequence_of_differences_equals_building_from_scratch(history):
    mirror, found = Mirror(keys.ROOT), Registry()
    found.apply(mirror.start(Reading("c1", 0, ())))
    for change in changes_of(history):
        found.apply(mirror.apply(change))
        anew = Registry()
        anew.apply(Difference(mirror.revision, tuple(mirror.entries.values())))

        assert shown(found) == shown(anew)
        assert found.revision == mirror.revision


def differing(before, after):
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


@given(st.lists(steps, min_size=2, max_size=6))
@settings(max_examples=200, deadline=None)
def test_everything_that_changed_is_touched(history):
    """A reader that redoes only what was touched misses nothing."""
    mirror, found = Mirror(keys.ROOT), Registry()
    mirror.start(Reading("c1", 0, ()))
    for change in changes_of(history):
        before = {part: dict(held) for part, held in shown(found).items()}
        touched = found.apply(mirror.apply(change))
        after = shown(found)

        for part, told in (
            ("nodes", touched.nodes),
            ("proxies", touched.proxies),
            ("claims", touched.places),
            ("services", touched.services),
            ("standing", touched.names),
        ):
            assert differing(before[part], after[part]) <= told


def filled(*entries):
    found = Registry()
    found.apply(Difference(1, tuple(Entry(key, value, 1, 1) for key, value in entries)))
    return found


REFUSED = {
    "a container that is no JSON": (CONTAINER_KEYS[0], b"{", "truncated"),
    "a container at another host's key": (CONTAINER_KEYS[0], encode(container("h2")), "says it is h2/0"),
    "a container at another's key": (CONTAINER_KEYS[0], encode(container("h1", IDS[1])), f"says it is h1/{IDS[1]}"),
    "a node at another's key": (keys.node_key("h2"), POOL[keys.node_key("h1")][0], "says it is h1"),
    "a proxy at another's key": (keys.proxy_key("h2"), POOL[keys.proxy_key("h1")][0], "says it is h1"),
    "a proxy for a node": (keys.node_key("h1"), POOL[keys.proxy_key("h1")][0], "missing required field"),
    "a claim that is none": (keys.claim_key(PLACE), b"[]", "Expected `object`"),
    "another spelling of a claim": (keys.claim_key(PLACE).replace("%2F", "%2f"), b"", "no known form"),
    "a drain of nobody": (keys.wish_key("drain", "web"), encode(Drain(since=1.0)), "no kind that this version knows"),
    "a wish of an unknown kind": (keys.wish_key("hope", "web"), encode(Drain(since=1.0)), "no kind that this version"),
    "a drain that is none": (keys.wish_key("drain", "node:h1"), b"[]", "Expected `object`"),
    "an unknown key": (f"{keys.ROOT}what", b"", "no known form"),
}


@pytest.mark.parametrize(("key", "value", "why"), REFUSED.values(), ids=REFUSED)
def test_a_bad_record_is_left_out_and_named_and_its_neighbours_stay(key, value, why):
    neighbour = container("h2", IDS[1], ENDPOINTS[0])
    found = filled((key, value), (CONTAINER_KEYS[3], encode(neighbour)))

    assert list(found.refused) == [key]
    assert why in found.refused[key]
    assert found.containers == {ContainerKey("h2", IDS[1]): neighbour}
    assert (found.nodes, found.proxies, found.claims) == ({}, {}, {})


def test_a_record_that_goes_bad_is_taken_out_and_comes_back():
    found = filled((CONTAINER_KEYS[0], encode(container("h1", IDS[0], ENDPOINTS[0]))))
    touched = found.apply(Difference(2, (Entry(CONTAINER_KEYS[0], b"{", 1, 2),)))

    assert (found.services(), list(found.refused)) == ((), [CONTAINER_KEYS[0]])
    assert (touched.services, touched.names) == ({"web"}, {"web"})
    found.apply(Difference(3, (Entry(CONTAINER_KEYS[0], encode(container("h1", IDS[0], ENDPOINTS[0])), 1, 3),)))
    assert (found.services(), found.refused) == (("web",), {})


def test_a_bad_record_that_goes_is_forgotten():
    found = filled((CONTAINER_KEYS[0], b"{"))
    found.apply(Difference(2, (), (CONTAINER_KEYS[0],)))

    assert found.refused == {}


def test_a_drained_node_touches_what_runs_on_it():
    """Services, names and the proxy of the node are judged anew; others are not touched."""
    one = container("h1", IDS[0], endpoint("web", state="passing"))
    other = container("h2", IDS[1], ENDPOINTS[3])
    found = filled((CONTAINER_KEYS[0], encode(one)), (CONTAINER_KEYS[3], encode(other)))
    key = keys.wish_key("drain", "node:h1")
    touched = found.apply(Difference(2, (Entry(key, encode(Drain(since=1.0)), 2, 2),)))

    assert (touched.services, touched.situations, touched.names) == ({"web"}, {"web"}, {"web"})
    assert (touched.nodes, touched.proxies) == ({"h1"}, {"h1"})
    assert [placed.verdict.weight for placed in found.service("web")] == [0]
    touched = found.apply(Difference(3, (), (key,)))
    assert (touched.situations, touched.names) == ({"web"}, {"web"})
    assert [placed.verdict.weight for placed in found.service("web")] == [100]


def test_who_stands_behind_a_name():
    """The highest way decides for the name, over all hosts; order is by id; case does not count."""
    one, other = (
        container("h1", IDS[0], ENDPOINTS[0], ENDPOINTS[1]),
        container("h2", IDS[0], ENDPOINTS[2], ENDPOINTS[3]),
    )
    found = filled((CONTAINER_KEYS[0], encode(one)), (CONTAINER_KEYS[2], encode(other)))

    assert found.names() == ("db", "web", "www")
    assert [(how, placed.node, placed.endpoint.port) for how, placed in found.standing("WEB")] == [
        (How.SERVICE, "h1", 80),
        (How.TAGGED, "h2", 80),
        (How.SERVICE, "h1", 81),
    ]
    assert [(placed.node, placed.endpoint) for placed in found.name("Web").endpoints] == [("h2", ENDPOINTS[2])]
    assert found.name("www").how is How.PROXIED
    assert [placed.endpoint for placed in found.service("WEB")] == [ENDPOINTS[0], ENDPOINTS[2], ENDPOINTS[1]]
    assert (found.name("nobody"), found.service("nobody"), found.standing("nobody")) == (None, (), ())
