"""What one answer may cost: never too much for what people have, never without bound for what they could write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from dnsserver import aliases, as_coredns
from dnsserver.case import MAX_WORK
from dnsserver.message.dname import to_text
from dnsserver.skydns.foreign import MAX_FOUND
from tests.dnsserver.forwarding_kit import Forwarding, found
from tests.dnsserver.kit import Others, World, container, endpoint, lan

ENDPOINTS = 200
MANY = 2000
TO_WEB: dict[str, object] = {f"internal/svc/x/{at}": {"host": "web.svc.internal", "port": at} for at in range(MANY)}
OUTSIDE = {("www.example.com.", "A"): [f"www.example.com. 60 A 192.0.2.{at}" for at in range(ENDPOINTS)]}


def services(names: int, endpoints: int) -> World:
    """Services web, web1, ... with so many endpoints each."""
    world = World()
    for number in range(names):
        name = f"web{number or ''}"
        world.put(
            *[
                container(at, endpoint(name, 80, lan(f"10.{number}.{at // 250}.{at % 250}"), name=f"c{at}"), host=name)
                for at in range(endpoints)
            ]
        )
    return world


class Row(NamedTuple):
    """Foreign records, the type asked for at x, and how many records say so."""

    records: Mapping[str, object]
    rtype: str
    answers: int
    with_forwarder: int
    endpoints: int = ENDPOINTS


ROWS = {
    "a name with many endpoints": Row({"internal/svc/x": {"host": "web.svc.internal"}}, "A", 1001, 1001, 1000),
    "ports of an endpoint": Row(TO_WEB, "A", ENDPOINTS + 1, ENDPOINTS + 1),
    "the same as targets": Row(TO_WEB, "SRV", MANY, MANY),
    "besides an address": Row({**TO_WEB, "internal/svc/x/z": {"host": "192.0.2.1"}}, "A", 202, 201),
    "besides a text": Row({**TO_WEB, "internal/svc/x/z": {"text": "x"}}, "A", 201, 201),
    "by a hundred names": Row(
        {
            **{f"internal/svc/a{at}": {"host": "web.svc.internal"} for at in range(100)},
            **{f"internal/svc/x/{at}": {"host": f"a{at}.svc.internal"} for at in range(100)},
        },
        "A",
        301,
        ENDPOINTS,
    ),
    "others' names by a hundred names": Row(
        {
            **{f"internal/svc/a{at}": {"host": "www.example.com"} for at in range(100)},
            **{f"internal/svc/x/{at}": {"host": f"a{at}.svc.internal"} for at in range(100)},
        },
        "A",
        0,
        ENDPOINTS,
    ),
}


@pytest.fixture
def made(monkeypatch):
    """Records that were made while names were followed."""
    made = []

    def count(*fields):
        made.append(fields)
        return record(*fields)

    record = aliases.Record
    for module in (aliases, as_coredns):
        monkeypatch.setattr(module, "Record", count)
    return made


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_what_people_have_is_answered_at_a_bounded_price(row, made):
    """A target is followed once, however many records lead there."""
    world = services(1, row.endpoints)
    world.skydns(row.records)
    plain, strict = (world.answered("x.svc.internal", row.rtype, others) for others in (None, Others(OUTSIDE)))
    assert (len(plain.reply.answer), len(strict.reply.answer)) == (row.answers, row.with_forwarder)
    assert len(made) < 2 * MAX_WORK


@pytest.mark.parametrize("rtype", ["A", "SRV"])
@pytest.mark.parametrize("others", [None, Others({})], ids=["alone", "with a forwarder"])
def test_a_name_with_many_endpoints_is_answered(rtype, others):
    """It may be the largest there is; what does not fit is cut, not refused."""
    world = services(1, 3000)
    assert len(world.answered("web.svc.internal", rtype, others).reply.answer) == 3000


@pytest.mark.parametrize("others", [None, Others({})], ids=["alone", "with a forwarder"])
def test_endpoints_of_ours_count_as_work(made, others):
    """A name that leads to many names with many endpoints each is too much."""
    world = services(60, ENDPOINTS)
    world.skydns({f"internal/svc/x/{at}": {"host": f"web{at}.svc.internal"} for at in range(1, 60)})
    assert world.answered("x.svc.internal", "A", others).reply.rcode == 2
    assert len(made) < 2 * MAX_WORK


TOO_MANY = {f"internal/svc/y/{at}": {"host": f"10.1.{at // 250}.{at % 250}"} for at in range(MAX_FOUND + 1)}
ALIAS = {"internal/svc/al/1": {"host": "y.svc.internal"}, "internal/svc/al/2": {"host": "192.0.2.1"}}


@pytest.mark.parametrize("name", ["y.svc.internal", "svc.internal", "al.svc.internal", "*.y.svc.internal"])
def test_too_much_is_found_out_once(name):
    """It is what costs most; it is said again from memory until something changes, and then no longer."""
    world = World()
    world.skydns({**TOO_MANY, **ALIAS})
    for _ in range(2):
        assert world.ask(name).rcode == "SERVFAIL"
    misses = world.responder.misses
    for _ in range(3):
        assert world.ask(name).rcode == "SERVFAIL"
    assert world.responder.misses == misses
    world.skydns_gone(*(f"internal/svc/y/{at}" for at in range(10, MAX_FOUND + 1)))
    assert world.ask(name).rcode == "NOERROR"


def test_too_much_of_others_ends_with_what_they_said():
    """What others said decides only as long as it counts."""
    world = Forwarding(lambda asked: found(*(f"{to_text(asked.name)} 60 A 192.0.2.{at}" for at in range(250))))
    world.skydns({f"internal/svc/x/{at}": {"host": f"a{at}.example.com"} for at in range(32)})
    for at in range(5):
        world.skydns({f"internal/svc/x/many{at}": {"host": f"many{at}.svc.internal"}})
        world.skydns({f"internal/svc/many{at}/{n}": {"host": f"10.{at}.{n // 250}.{n % 250}"} for n in range(300)})
    for _ in range(3):
        assert world.ask("x.svc.internal").rcode == "SERVFAIL"
    misses = world.responder.misses
    assert world.ask("x.svc.internal").rcode == "SERVFAIL"
    assert world.responder.misses == misses
    world.clock.now += 61
    world.others = lambda asked: found(f"{to_text(asked.name)} 60 A 192.0.2.1")
    assert world.ask("x.svc.internal").rcode == "NOERROR"
