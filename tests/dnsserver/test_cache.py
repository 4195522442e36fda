"""Finished answers: kept until a name that they depend on changes, dropped by name and never wholesale."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsserver import answer
from dnsserver.cache import Cache, Kept
from dnsserver.message import wire, writer
from dnsserver.responder import Data
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Claim
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Entry
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, http, lan, node, proxy, question, said


def kept(*depends: bytes, octets: int = 10) -> Kept:
    return Kept(lambda: b"x", octets, frozenset(depends), [0])


def test_an_answer_goes_with_any_of_its_names():
    """Dropped by one name, it is gone under all."""
    cache = Cache(10, 1000)
    cache.put(b"1", kept(b"a", b"b"))
    cache.put(b"2", kept(b"b"))
    cache.put(b"3", kept(b"c"))
    assert cache.drop([b"a", b"nothing"]) == 1
    assert (cache.get(b"1"), len(cache)) == (None, 2)
    assert cache.drop([b"b"]) == 1
    assert cache.get(b"3") is not None
    cache.clear()
    assert (len(cache), cache.octets, cache.drop([b"c"])) == (0, 0, 0)


@pytest.mark.parametrize(("most", "octets", "left"), [(3, 1000, 3), (100, 25, 2), (100, 5, 0)])
def test_bounds(most, octets, left):
    """The oldest go when there are too many answers or octets."""
    cache = Cache(most, octets)
    for number in range(10):
        cache.put(str(number).encode(), kept(b"a", str(number).encode()))
    assert len(cache) == left
    assert [cache.get(str(number).encode()) is not None for number in range(10)] == [n >= 10 - left for n in range(10)]
    assert cache.drop([b"a"]) == left
    assert cache.octets == 0


def test_the_same_key_again_replaces():
    """An answer put twice is held once, under its new names only."""
    cache = Cache(10, 1000)
    cache.put(b"1", kept(b"a"))
    cache.put(b"1", kept(b"b"))
    assert (len(cache), cache.octets, cache.drop([b"a"]), cache.drop([b"b"])) == (1, 10, 0, 1)


def loaded() -> World:
    world = World()
    world.put(node("h1", "192.168.0.1"), proxy("h1", "10.9.0.1"))
    for number in range(20):
        world.put(container(number, endpoint(f"s{number}", 80, lan("192.168.0.1", 32000 + number))))
    world.put(container(100, endpoint("app", 80, lan("192.168.0.1", 33000), route=http())))
    world.skydns({"internal/svc/db/1": {"host": "10.0.0.1"}, "internal/svc/alias": {"host": f"s3.{DOMAIN}"}})
    return world


def test_a_change_drops_what_depends_on_it_and_nothing_else():
    """One changed endpoint costs the answers of its own name, of aliases to it and of the apex."""
    world = loaded()
    names = [f"s{number}" for number in range(20)] + ["app", "db", "alias", "nope"]
    for name in [*names, "nope"]:  # what is not there is held from the second time on
        world.ask(f"{name}.{DOMAIN}")
    misses = world.responder.misses
    assert world.put(container(3, endpoint("s3", 80, lan("192.168.0.2")))) == 2
    for name in names:
        world.ask(f"{name}.{DOMAIN}")
    assert world.responder.misses == misses + 2
    assert world.ask(f"alias.{DOMAIN}").answer[1] == f"s3.{DOMAIN}. 5 A 192.168.0.2"


def test_a_finished_denial_carries_the_serial_of_now():
    """The serial in a kept "no such data" moves on although the answer was not made again."""
    world = loaded()
    world.ask(f"s1.{DOMAIN}", "TXT", use_edns=0)
    before = world.ask(f"s1.{DOMAIN}", "TXT", use_edns=0).authority
    misses = world.responder.misses
    world.put(container(3, endpoint("s3", 80, lan("192.168.0.2"))))
    after = world.ask(f"s1.{DOMAIN}", "TXT", use_edns=0).authority
    assert (world.responder.misses, int(after[0].split()[5])) == (misses, int(before[0].split()[5]) + 1)


def test_another_state_of_the_data_makes_all_answers_anew():
    """Stale and fresh answers are never mixed up."""
    world = loaded()
    assert world.ask(f"s1.{DOMAIN}", use_edns=0).ede is None
    world.responder.set_data(Data.STALE)
    stale = world.ask(f"s1.{DOMAIN}", use_edns=0)
    assert (stale.ede, stale.answer[0].split()[1]) == (3, "30")
    world.responder.set_data(Data.FRESH)
    assert world.ask(f"s1.{DOMAIN}", use_edns=0).ede is None


def test_every_address_comes_first_in_its_turn():
    """A and AAAA turn within their RRset, answer by answer; what stands before them does not move."""
    world = World()
    world.skydns({f"internal/svc/web/{number}": {"host": f"10.0.0.{number}"} for number in range(1, 6)})
    world.skydns({"internal/svc/alias": {"host": f"web.{DOMAIN}"}})
    firsts = [world.ask(f"web.{DOMAIN}").answer[0].split()[-1] for _ in range(10)]
    assert sorted(firsts) == sorted([f"10.0.0.{number}" for number in range(1, 6)] * 2)
    seen = [world.ask(f"alias.{DOMAIN}").answer for _ in range(5)]
    assert {rows[0] for rows in seen} == {f"alias.{DOMAIN}. 3600 CNAME web.{DOMAIN}."}
    assert len({rows[1] for rows in seen}) == 5
    assert len({tuple(sorted(rows)) for rows in seen}) == 1


def test_a_flood_of_made_up_names_is_answered_from_one_pattern():
    """Names that do not exist are made once for all; they are held nowhere, and push out no answer."""
    world = loaded()
    world.ask(f"s1.{DOMAIN}")
    misses = world.responder.misses
    message = question(f"x00000.{DOMAIN}.")
    for number in range(3_000):
        asked = message.replace(b"x00000", f"x{number:05}".encode())
        assert world.send(asked)[3] & 0xF == 3
    assert (world.responder.kept, world.responder.misses) == (2, misses + 1)
    world.ask(f"s1.{DOMAIN}")
    assert world.responder.misses == misses + 1


def test_a_flood_of_missing_types_pushes_out_no_answer():
    """What says that there is no such data has room of its own."""
    world = loaded()
    world.ask(f"s1.{DOMAIN}")
    misses = world.responder.misses
    message = question(f"s2.{DOMAIN}.", "TYPE1000")
    for number in range(300, 12_300):
        for _ in range(2):
            world.send(message[:-4] + number.to_bytes(2) + message[-2:])
    assert world.responder.kept == 10_001
    world.ask(f"s1.{DOMAIN}")
    assert world.responder.misses == misses + 24_000


# --- whatever happens in whatever order, a finished answer is the one that would be made now

SERVICES = ["web", "db.shop", "shop", "app"]
QUESTIONS = [
    f"{name}.{DOMAIN}."
    for name in [
        *SERVICES, "h1-c-80.web", "_80._tcp.web", "_tcp.web", "x.web", "y.x.web", "h1.node", "node", "proxy", "ns.dns",
        "alias", "*.web", "any.shop", "new", "a.new", "h1-c-80.db.shop", "q", "q.q", "q.web", "r.q.web", "Q.wEb",
        "q.node", "q.dns", "q.h1-c-80.web", "q.db.shop", "q.shop",
    ]
] + [f"{DOMAIN}.", "1.0.168.192.in-addr.arpa."]  # fmt: skip
TYPES = ["A", "SRV", "NS", "PTR", "TXT"]


def endpoints():
    return st.builds(
        lambda service, ip, state, how: endpoint(
            service, 80, lan(f"192.168.0.{ip}"), state=state,
            route=http() if how == 1 else http(f"*.{DOMAIN}") if how == 2 else None,
            dns=("proxy",) if how == 3 else ("new",) if how == 4 else None,
            proxydns=("alias",) if how == 5 else (),
        ),
        st.sampled_from(SERVICES), st.integers(1, 3), st.sampled_from(["passing", "failing"]), st.integers(0, 6),
    )  # fmt: skip


VALUES = [{"host": "10.0.0.1"}, {"host": f"web.{DOMAIN}"}, {"host": f"alias.{DOMAIN}", "text": "t"}]
OPERATIONS = st.one_of(
    st.tuples(st.just("container"), st.integers(1, 3), endpoints() | st.none()),
    st.tuples(st.just("node"), st.sampled_from(["h1", "h2"]), st.integers(1, 3) | st.none()),
    st.tuples(st.just("proxy"), st.sampled_from(["h1", "h2"]), st.integers(1, 3) | st.none()),
    st.tuples(st.just("claim"), st.sampled_from([f"*.{DOMAIN}", f"web.{DOMAIN}", f"new.{DOMAIN}"]), st.booleans()),
    st.tuples(
        st.just("skydns"),
        st.sampled_from(["web", "web/x", "web/x/y", "alias", "shop/a", "new", "dns/ns/a", ""]),
        st.none() | st.sampled_from(VALUES),
    ),
)  # fmt: skip


def perform(world: World, operation) -> None:
    match operation:
        case "container", number, None:
            world.remove(container(number))
        case "container", number, made:
            world.put(container(number, made))
        case "node", name, None:
            world.remove(node(name))
        case "node", name, ip:
            world.put(node(name, f"192.168.0.{ip}"))
        case "proxy", name, None:
            world.remove(proxy(name))
        case "proxy", name, ip:
            world.put(proxy(name, f"10.9.0.{ip}"))
        case "claim", host, True:
            world.claim("app", host)
        case "claim", host, False:
            world.remove(Claim(service="app", since=1.0), place=Place(host, "/"))
        case "skydns", below, None:
            world.skydns_gone(f"internal/svc/{below}".rstrip("/"))
        case "skydns", below, value:
            world.skydns({f"internal/svc/{below}".rstrip("/"): value})


MESSAGES = [question(name, rtype) for name, rtype in itertools.product(QUESTIONS, TYPES)]


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, min_size=1, max_size=12))
def test_a_finished_answer_is_the_one_that_would_be_made_now(operations):
    """After any change, what is kept is a turn of what the zone says."""
    world = World()
    for operation in operations:
        perform(world, operation)
        for message in MESSAGES:
            query = wire.read(message)
            fresh = answer.answer(
                world.responder.zone, query.name, query.type, answer.Authority(world.responder.serial, 2)
            )
            written = writer.write(query, fresh.reply, 512)
            turned = {message[:2] + writer.turned(written, by) for by in range(8)}
            assert world.send(message) in turned, (operation, said(next(iter(turned))), said(world.send(message)))


def zone_difference(revision: int, *, started_over: bool = False) -> Difference:
    entry = Entry(f"/skydns/internal/svc/r{revision}", b'{"host":"10.0.0.1"}', revision, revision)
    return Difference(revision, (entry,), started_over=started_over)


def test_the_serial_never_goes_back_but_with_the_store():
    """The two mirrors come each at its own pace (RFC 1982); a store that began anew takes the serial with it."""
    responder = World().responder
    seen = []
    for side, difference in [
        (responder.apply_foreign, zone_difference(100)),
        (responder.apply_own, zone_difference(99)),
        (responder.apply_own, zone_difference(90, started_over=True)),
        (responder.apply_own, zone_difference(101)),
        (responder.apply_foreign, zone_difference(7, started_over=True)),
        (responder.apply_own, zone_difference(8, started_over=True)),
        (responder.apply_own, zone_difference(9)),
    ]:
        side(difference)
        seen.append(responder.serial)
    assert seen == [100, 100, 100, 101, 101, 8, 9]
