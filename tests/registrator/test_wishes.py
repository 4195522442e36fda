"""What becomes of wishes about what is gone: marked, kept for a while, removed."""

from __future__ import annotations

import msgspec
import pytest

from pilotfish.catalog.keys import WishKey, wish_key
from pilotfish.catalog.record import Container, Drain, Endpoint, Proxy, Shift, decode, encode
from pilotfish.catalog.store import Delete, ModifiedAt, Put
from pilotfish.catalog.wishes import Kind, Subject
from registrator.writing.wishes import DAY_S, Wished, plan_wishes
from tests.operate_kit import node
from tests.registrator import harness
from tests.registrator.harness import NODE, web

NOW = 100 * DAY_S
DRAIN, SHIFT = Drain(since=1.0, by="ops"), Shift(since=1.0, percents={"v2": 10})

# Key, wish, since when it is marked as gone, whether it is there, and what follows.
ROWS = {
    "a node that is there": ("drain", "node:h1", 0.0, True, "nothing"),
    "a node that went": ("drain", "node:h1", 0.0, False, "marked"),
    "a node that is away for a week": ("drain", "node:h1", NOW - 7 * DAY_S, False, "nothing"),
    "a node that is away for a month": ("drain", "node:h1", NOW - 30 * DAY_S, False, "removed"),
    "a node that came back": ("drain", "node:h1", NOW - 7 * DAY_S, True, "unmarked"),
    "a container that went": ("drain", f"container:{'a' * 64}", 0.0, False, "marked"),
    "a container that is gone for less than a day": (
        "drain",
        f"container:{'a' * 64}",
        NOW - DAY_S + 1,
        False,
        "nothing",
    ),
    "a container that is gone for a day": ("drain", f"container:{'a' * 64}", NOW - DAY_S, False, "removed"),
    "a service that is gone for a day": ("drain", "service:web", NOW - DAY_S, False, "removed"),
    "a service that came back in time": ("drain", "service:web", NOW - DAY_S, True, "unmarked"),
    "a shift of a service that went": ("shift", "web", 0.0, False, "marked"),
    "a shift of a service that is gone for a day": ("shift", "web", NOW - DAY_S, False, "removed"),
    "a drain of a kind that a later version knows": ("drain", "rack:r1", NOW - 99 * DAY_S, False, "nothing"),
}


@pytest.mark.parametrize(("kind", "name", "gone_since", "there", "expected"), ROWS.values(), ids=ROWS)
def test_what_becomes_of_a_wish(kind, name, gone_since, there, expected):
    """Always under the condition that nobody touched it since, and with everything else in it kept."""
    record = SHIFT if kind == "shift" else DRAIN
    wish = msgspec.structs.replace(record, gone_since=gone_since)
    asked = []
    steps = plan_wishes([Wished(WishKey(kind, name), wish, 5)], lambda subject: asked.append(subject) or there, NOW)
    if expected == "nothing":
        assert steps == ()
        return
    [(condition, operation, said)] = steps
    key, mark = wish_key(kind, name), NOW if expected == "marked" else 0.0
    assert condition == ModifiedAt(key, 5)
    assert asked == [Subject(Kind.SERVICE, "web") if kind == "shift" else Subject(*_parsed(name))]
    put = Put(key, encode(msgspec.structs.replace(record, gone_since=mark)))
    assert operation == (Delete(key) if expected == "removed" else put)
    assert bool(said) is (expected == "removed")


def _parsed(name):
    kind, _, rest = name.partition(":")
    return Kind(kind), rest


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


async def test_registrators_look_after_wishes(world, caplog):
    """What is there is left alone, what went is marked, and what is forgotten is removed; one write each."""
    other = Container(
        node="h2", id="b" * 64, name="db", image="i", started=1.0, observed=1.0,
        endpoints=(Endpoint(service="DB", id="h2:db:1", label="h2-db-1", port=1),),
    )  # fmt: skip
    here = ("node:h1", "service:web", "node:h2", "service:db", f"container:{other.id}", "node:edge")
    gone = {"node:old": 0.0, "service:old": 0.0, f"container:{'a' * 64}": 0.0, "service:older": 1.0}
    puts = [Put(wish_key("drain", name), encode(Drain(since=1.0))) for name in here]
    puts += [Put(wish_key("drain", name), encode(Drain(since=1.0, gone_since=at))) for name, at in gone.items()]
    puts += [
        Put(harness.container_key("h2", other.id), encode(other)),
        Put("/pilotfish/v1/proxies/edge", encode(Proxy(node="edge", addresses=("192.0.2.3",)))),
        Put(harness.node_key("h2"), encode(node("h2"))),
    ]
    caplog.set_level("INFO")
    world.start(resync_s=0.1)
    one = world.engine.add(web("web-1"))
    await world.see("it is recorded", lambda found: harness.container_key(NODE, one) in found)
    await world.store.commit([], puts)

    def tidied(found):
        marks = {name: found.get(wish_key("drain", name)) for name in gone}
        return marks.pop("service:older") is None and all(decode(Drain, one.value).gone_since for one in marks.values())

    await world.see("what is gone is marked, and what is forgotten is removed", tidied)
    before = {key: entry.mod_revision for key, entry in (await world.entries("/pilotfish/v1/wishes/")).items()}
    assert [decode(Drain, (await world.entries())[wish_key("drain", name)].value).gone_since for name in here] == [
        0.0
    ] * 6
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 5, "it has compared several times")
    assert caplog.text.count("the drain of service:older is removed: it is gone for ") == 1
    after = await world.entries("/pilotfish/v1/wishes/")
    assert {key: entry.mod_revision for key, entry in after.items()} == before
