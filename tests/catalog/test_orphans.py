"""Which records a reader keeps beyond the store, and when each ends."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.catalog import keys
from pilotfish.catalog.dialling import Dialling
from pilotfish.catalog.guard import Guard, Limit
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.orphans import OTHERS_S, PROXIES_S, Age, Orphans
from pilotfish.catalog.record import Address, Claim, Container, Endpoint, Node, Proxy, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Change, Entry, Reading

X, Y, Z = ("0" * 12, "a" * 12, "b" * 12)
LAN = Address("192.0.2.1", 8080, "lan")
BRIDGE = Address("172.17.0.2", 80, "node")
NO_GUARD = Limit()


def endpoint(id_="e", *addresses, **fields):
    own = {"service": "web", "label": id_, "port": 80, "state": "passing"} | fields
    return Endpoint(id=id_, addresses=addresses or (LAN,), **own)


def container(id_, *endpoints, node="h1"):
    record = Container(node=node, id=id_, name="c", image="i", started=0.0, observed=0.0, endpoints=endpoints)
    return keys.container_key(node, id_), encode(record)


def node(name="h1", **fields):
    own = {"addresses": (), "boot": "b", "engine": "e", "instance": "i", "version": "1"} | fields
    return keys.node_key(name), encode(Node(node=name, **own))


class Reader:
    """A mirror and a registry with orphans kept between them, fed with transactions."""

    def __init__(self, *first, keep_s=60.0, at="h9", most=100, limit=NO_GUARD):
        self.mirror, self.registry = Mirror(keys.ROOT), Registry()
        self.dialling = Dialling(lambda: 0.5)
        self.orphans = Orphans(at, keep_s, self.dialling, Guard(limit, lambda: self.registry), most)
        self.now, self.revision = 0.0, 0
        self.touched = set()
        self.registry.apply(self.orphans.take(self.mirror.start(Reading("c1", 0, ())), self.now))
        self.put(*first)

    def put(self, *pairs, deletes=()):
        self.revision += 1
        held = self.mirror.entries
        puts = tuple(
            Entry(key, value, held[key].create_revision if key in held else self.revision, self.revision, 7)
            for key, value in pairs
        )
        self.tell(self.mirror.apply(Change(self.revision, puts, tuple(deletes))))

    def tell(self, difference):
        touched = self.registry.apply(self.orphans.take(difference, self.now))
        self.touched |= touched.services | touched.names

    def lease_ends(self, *names):
        self.put(deletes=[key for key in self.mirror.entries if any(f"/{name}" in key for name in names or ("h1",))])

    def hear(self):
        touched = self.registry.apply(self.orphans.changes(self.mirror.revision))
        self.touched |= touched.services & touched.names

    @property
    def served(self):
        return sorted(one.endpoint.id for one in self.registry.service("web") if one.verdict.published)


def test_what_goes_with_its_node_stays_and_says_so():
    reader = Reader(node(), container(X, endpoint("e")))
    reader.lease_ends()
    [placed] = reader.registry.service("web")
    assert placed.verdict.published
    assert placed.verdict.reason.startswith("orphan: its registrator is away")
    assert reader.registry.nodes == {}
    assert len(reader.dialling) == 1


def test_what_goes_while_its_node_stays_goes_at_once():
    reader = Reader(node(), container(X, endpoint("e")))
    reader.put(deletes=[container(X)[0]])
    assert reader.registry.services() == ()


def test_whoever_leaves_on_purpose_leaves_nothing():
    reader = Reader(node(), container(X, endpoint("e")), container(Y, endpoint("f")))
    reader.put(node(leaving=True), deletes=[container(X)[0]])
    reader.lease_ends()
    assert reader.registry.services() == ()


def test_nothing_is_kept_when_nothing_is_to_be():
    reader = Reader(node(), container(X, endpoint("e")), keep_s=0.0)
    reader.lease_ends()
    assert reader.registry.services() == ()


OTHER = Address("192.0.2.1", 8081, "lan")
ENDS = {
    "its record is back": ((node(), container(X, endpoint("e"))), {X: ["e"]}),
    "its record is back, with less": ((node(), container(X)), {}),
    "another container has its address": ((node(), container(Y, endpoint("g"))), {Y: ["g"]}),
    "another host's container has its address": ((container(Y, endpoint("g"), node="h2"),), {Y: ["g"]}),
    "another container has another address": ((node(), container(Y, endpoint("g", OTHER))), {X: ["e"], Y: ["g"]}),
    "its registrator has listed everything": ((node(listed=True),), {}),
    "its registrator has only begun": ((node(),), {X: ["e"]}),
    "another registrator has listed everything": ((node("h2", listed=True),), {X: ["e"]}),
    "a node key that nobody can read": (((keys.node_key("h1"), b"{"),), {X: ["e"]}),
    "its container's record is one that nobody can read": (((container(X)[0], b"{"),), {}),
}


@pytest.mark.parametrize(("puts", "left"), ENDS.values(), ids=ENDS)
def test_what_the_store_says_ends_an_orphan(puts, left):
    reader = Reader(node(), container(X, endpoint("e")))
    reader.lease_ends()
    reader.put(*puts)
    found = {}
    for placed in reader.registry.service("web"):
        found.setdefault(placed.container.id, []).append(placed.endpoint.id)
    assert found == left
    assert set(reader.registry.orphans) == set(reader.orphans.kept)
    assert set(reader.registry.orphans) == ({container(X)[0]} if X in left and "g" not in left[X] else set()) - {
        key for key, _ in puts
    }


def test_bridges_of_two_hosts_have_the_same_addresses():
    """A `node` address of another host is another address."""
    reader = Reader(node(), container(X, endpoint("e", LAN, BRIDGE)))
    reader.lease_ends()
    reader.put(container(Y, endpoint("g", OTHER, BRIDGE), node="h2"))
    assert reader.served == ["e", "g"]


DIALLED = {
    "from elsewhere": ("h9", endpoint("e", LAN, BRIDGE), 1),
    "from its own host": ("h1", endpoint("e", BRIDGE), 1),
    "a bridge's address from elsewhere": ("h9", endpoint("e", BRIDGE), 0),
    "UDP": ("h9", endpoint("e", protocol="udp"), 0),
    "no address at all": ("h9", msgspec.structs.replace(endpoint(), addresses=()), 0),
}


@pytest.mark.parametrize(("at", "one", "dials"), DIALLED.values(), ids=DIALLED)
def test_what_cannot_be_dialled_is_not_kept_alone(at, one, dials):
    reader = Reader(node(), container(X, one), at=at)
    reader.lease_ends()
    assert len(reader.dialling) == dials
    assert len(reader.orphans.kept) == dials == len(reader.registry.containers)


def test_an_endpoint_that_is_given_up_leaves_alone():
    reader = Reader(node(), container(X, endpoint("e"), endpoint("f", OTHER)))
    reader.lease_ends()
    reader.orphans.give_up(container(X)[0], "e")
    reader.hear()
    assert reader.served == ["f"]
    assert reader.registry.service("web")[0].verdict.reason.startswith(
        "orphan: its registrator is away, and it is gone"
    )
    reader.orphans.give_up(container(X)[0], "f")
    reader.hear()
    assert reader.registry.services() == ()
    assert len(reader.dialling) == 0


@pytest.mark.parametrize("others", [(), (container(Y, endpoint("f", OTHER)),)], ids=["the last one", "one of two"])
def test_a_record_that_is_back_before_its_end_was_told_stays(others):
    reader = Reader(node(), container(X, endpoint("e")), *others)
    reader.lease_ends()
    reader.orphans.give_up(container(X)[0], "e")
    reader.put(node(), container(X, endpoint("e")))
    reader.hear()
    assert "e" in reader.served


def test_udp_stays_with_the_tcp_of_its_container():
    reader = Reader(
        node(), container(X, endpoint("e"), endpoint("u", protocol="udp")), container(Y, endpoint("f", OTHER))
    )
    reader.lease_ends()
    assert reader.served == ["e", "f", "u"]
    reader.orphans.give_up(container(X)[0], "e")
    reader.hear()
    assert reader.served == ["f"]


def test_udp_alone_stays_with_the_others_of_its_host():
    reader = Reader(
        node(),
        container(X, endpoint("e")),
        container(Y, endpoint("u", protocol="udp")),
        container(Z, endpoint("f", OTHER)),
    )
    reader.lease_ends()
    reader.orphans.give_up(container(X)[0], "e")
    reader.hear()
    assert reader.served == ["f", "u"]
    reader.orphans.give_up(container(Z)[0], "f")
    reader.hear()
    assert reader.served == []


def test_udp_waits_for_its_record_while_its_registrator_comes_back():
    """The records of a host come back in several transactions, and `listed` comes last."""
    reader = Reader(node(), container(X, endpoint("e")), container(Y, endpoint("u", protocol="udp")))
    reader.lease_ends()
    reader.put(node(), container(X, endpoint("e")))
    assert reader.served == ["e", "u"]
    reader.put(node(listed=True))
    assert reader.served == ["e"]


def test_a_host_is_given_up_whole():
    reader = Reader(node(), node("h2"), container(X, endpoint("e")), container(Y, endpoint("f", OTHER), node="h2"))
    reader.lease_ends("h1", "h2")
    reader.orphans.give_up_host("h1")
    reader.hear()
    assert reader.served == ["f"]


def test_nothing_is_kept_longer_than_it_may():
    reader = Reader(node(), node("h2"), container(X, endpoint("e")), container(Y, endpoint("f", OTHER), node="h2"))
    reader.lease_ends()
    reader.now = 30.0
    reader.lease_ends("h2")
    for now, left in ((59.0, ["e", "f"]), (60.0, ["f"]), (89.0, ["f"]), (90.0, [])):
        reader.orphans.expire(now)
        reader.hear()
        assert reader.served == left


def test_no_more_are_kept_than_may_be():
    reader = Reader(node(), container(X, endpoint("e")), container(Y, endpoint("f", OTHER)), most=1)
    reader.lease_ends()
    assert len(reader.served) == 1


def test_an_etcd_that_lost_everything_takes_nothing_away():
    """Another cluster, in which the registrators have come halfway: records and claims stay until they are there."""
    place = Place("www.example.com", "/")
    claim = (keys.claim_key(place), encode(Claim(service="web", since=1.0)))
    proxy = keys.proxy_key("h1"), encode(Proxy(node="h1", addresses=("192.0.2.1",), http_port=80))
    reader = Reader(node(), claim, proxy, container(X, endpoint("e")), container(Y, endpoint("f", OTHER)))
    reader.tell(reader.mirror.start(Reading("c2", 1, (Entry(*node(instance="j"), 1, 1, 9),))))
    reader.revision = 1
    assert reader.served == ["e", "f"]
    assert (list(reader.registry.claims), list(reader.registry.proxies)) == ([place], ["h1"])
    reader.put(container(X, endpoint("e")), proxy)
    reader.put(node(instance="j", listed=True))
    assert reader.served == ["e"]
    for now, left in ((OTHERS_S - 0.1, [place]), (OTHERS_S, [])):
        reader.orphans.expire(now)
        reader.hear()
        assert list(reader.registry.claims) == left
    assert (reader.registry.claims, list(reader.registry.proxies)) == ({}, ["h1"])
    assert reader.orphans.kept == {}


def test_an_etcd_that_lost_everything_keeps_no_dead_proxy():
    """One that has not come back within its lease is dead, however long the orphans live; claims stay beside them."""
    place = Place("www.example.com", "/")
    claim = (keys.claim_key(place), encode(Claim(service="web", since=1.0)))
    proxies = [(keys.proxy_key(name), encode(Proxy(node=name, addresses=("192.0.2.1",)))) for name in ("h1", "h2")]
    reader = Reader(node(), claim, *proxies, container(X, endpoint("e")))
    reader.tell(reader.mirror.start(Reading("c2", 1, (Entry(*proxies[0], 1, 1, 9),))))
    for now, left in ((PROXIES_S - 0.1, ["h1", "h2"]), (PROXIES_S, ["h1"])):
        reader.orphans.expire(now)
        reader.hear()
        assert sorted(reader.registry.proxies) == left
    assert (reader.served, list(reader.registry.claims)) == (["e"], [place])


def test_the_next_run_goes_on_with_what_the_last_one_kept():
    reader = Reader(node(), container(X, endpoint("e"), endpoint("f", OTHER)))
    reader.lease_ends()
    reader.orphans.give_up(container(X)[0], "e")
    ages = {key: Age(50.0 - one.since, tuple(one.silent)) for key, one in reader.orphans.kept.items()}

    after = Reader()
    after.orphans.restore([one.entry for one in reader.orphans.kept.values()], ages, 1000.0)
    after.registry.apply(after.orphans.whole(0))
    assert after.served == ["f"]
    after.tell(after.mirror.start(Reading("c1", 9, ())))
    assert after.served == ["f"]
    after.orphans.expire(1010.0)
    after.hear()
    assert after.served == []


def test_what_cannot_be_dialled_outlives_a_restart_with_the_others_of_its_host():
    """Whatever the order in which they come back."""
    udp, tcp = container(X, endpoint("u", protocol="udp")), container(Y, endpoint("f", OTHER))
    entries = [Entry(key, value, 1, 1, 7) for key, value in (udp, tcp)]
    for order in (entries, entries[::-1]):
        after = Reader()
        after.orphans.restore(order, {entry.key: Age(10.0 - n) for n, entry in enumerate(order)}, 1000.0)
        assert after.orphans.kept.keys() == {udp[0], tcp[0]}
        assert after.orphans.hosts == ("h1",)


# --- however it comes about

STEPS = st.sampled_from(
    [
        ("put", node()),
        ("put", node(listed=True)),
        ("put", node("h2")),
        ("put", container(X, endpoint("e"))),
        ("put", container(Y, endpoint("f", OTHER), endpoint("u", protocol="udp"))),
        ("put", container(Z, endpoint("f", OTHER), node="h2")),
        ("put", container(X)),
        ("delete", container(X)[0]),
        ("delete", container(Y)[0]),
        ("end", "h1"),
        ("end", "h2"),
        ("give up", (container(X)[0], "e")),
        ("give up", (container(Y)[0], "f")),
        ("give up host", "h1"),
        ("expire", 7.0),
        ("another store", None),
    ]
)


@given(st.lists(STEPS, max_size=30))
@settings(max_examples=400)
def test_the_registry_holds_what_the_store_and_the_orphans_say(history):
    """Whatever happened, and in which order: one catalog, in which no record is both, and nothing is left behind."""
    reader = Reader(keep_s=20.0)
    for step, what in history:
        before, reader.touched = reader.registry.service("web"), set()
        match step:
            case "put":
                reader.put(what)
            case "delete":
                reader.put(deletes=[what] if what in reader.mirror.entries else [])
            case "end":
                reader.lease_ends(what)
            case "give up":
                reader.orphans.give_up(*what)
            case "give up host":
                reader.orphans.give_up_host(what)
            case "expire":
                reader.now += what
                reader.orphans.expire(reader.now)
            case _:
                reader.tell(reader.mirror.start(Reading(f"c{reader.revision}x", reader.revision, ())))
        reader.hear()
        assert reader.registry.service("web") == before or "web" in reader.touched
        kept = {key: one.entry for key, one in reader.orphans.kept.items()}
        anew = Registry()
        anew.apply(_whole(reader))

        assert not kept.keys() & reader.mirror.entries.keys()
        assert set(reader.registry.containers.held) == set(anew.containers.held)
        assert (
            reader.registry.orphans
            == anew.orphans
            == {key: frozenset(one.silent) for key, one in reader.orphans.kept.items()}
        )
        assert reader.registry.service("web") == anew.service("web")
        assert reader.registry.nodes == anew.nodes
        assert len(reader.dialling) == sum(len(one.doors) for one in reader.orphans.kept.values())
        assert all(reader.now - one.since <= 20.0 for one in reader.orphans.kept.values())


def _whole(reader):
    whole = reader.orphans.whole(reader.mirror.revision)
    return msgspec.structs.replace(whole, puts=(*reader.mirror.entries.values(), *whole.puts))
