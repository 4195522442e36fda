"""`pilotfish endpoints`: what is registered, as a table, JSON, and as it changes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotfish.catalog import keys
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.io_feed import FeedServer
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.record import Address, Container, Drain, Endpoint, Proxy, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.store import Delete, Entry, Put, Reading
from pilotfish.endpoints import UnknownService, plain, rows, table, unlisted

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 20.0


def record(name, service, *, node="h1", started=1000.0, **endpoint):
    """A container with one endpoint at port 80."""
    held = {"addresses": (Address("10.0.0.1", 8080, "lan"), Address("172.17.0.2", 80, "node")), "state": "passing"}
    one = Endpoint(service=service, id=f"{node}:{name}:80", label=f"{node}-{name}-80", port=80, **{**held, **endpoint})
    return Container(
        node=node, id=name.encode().hex().ljust(12, "0"), name=name, image="i", started=started, observed=started,
        endpoints=(one,),
    )  # fmt: skip


RECORDS = (
    record("web-1", "web", dns=("www", "w")),
    record("web-2", "Web", state="starting", addresses=(Address("172.17.0.3", 80, "node"),), started=990.0),
    record("db", "db", node="h2", weight=0, dns=()),
)


def registry(*records, wishes=()):
    found = Registry()
    entries = [Entry(keys.container_key(one.node, one.id), encode(one), 1, 1, 0) for one in records]
    entries += [Entry(key, encode(wish), 1, 1, 0) for key, wish in wishes]
    found.apply(Mirror(keys.ROOT).start(Reading("c", 1, tuple(sorted(entries, key=lambda one: one.key)))))
    return found


def test_what_the_store_does_not_hold_is_not_passed_over():
    known = registry(*RECORDS)
    assert not unlisted(known)
    known.proxies["h1"] = Proxy(node="h1", addresses=(), away=("h7",))
    assert unlisted(known) == "not listed is what runs on h7: away, and served as long as it answers"


def test_table():
    assert table(rows(registry(*RECORDS), None, "d.e"), 1125.0).splitlines() == [
        "SERVICE  NAME           ADDRESS                         HEALTH                      NODE  AGE",
        "db       -              10.0.0.1:8080                   weight 0: takes no traffic  h2    2m5s",
        "web      www.d.e,w.d.e  10.0.0.1:8080                   passing, weight 100         h1    2m5s",
        "Web      web.d.e        172.17.0.3:80 (this host only)  starting: not yet ready     h1    2m15s",
    ]


def test_one_service_in_any_case():
    assert [row.container for row in rows(registry(*RECORDS), "WEB", "d")] == ["web-1", "web-2"]


def test_the_verdict_counts_what_operators_did():
    """Not what the record says of itself."""
    wish = (keys.wish_key("drain", "service:web"), Drain(since=1.0))
    found = rows(registry(RECORDS[0], wishes=[wish]), None, "d")
    assert [(row.state, row.weight, row.reason) for row in found] == [
        ("passing", 0, "drained: an operator took service:web out")
    ]


def test_a_drained_container_is_shown_as_people_know_it():
    """Not by the 64 digits of its id."""
    wish = (keys.wish_key("drain", f"container:{RECORDS[0].id}"), Drain(since=1.0))
    [row, _] = rows(registry(*RECORDS, wishes=[wish]), "web", "d")
    assert row.reason == "drained: an operator took web-1 on h1 (7765622d3100) out"


def test_an_unknown_service_has_a_nearest():
    with pytest.raises(UnknownService, match="no endpoint is of service 'wep'; did you mean web"):
        rows(registry(*RECORDS), "wep", "d")


def test_json():
    [first, *_] = plain(rows(registry(*RECORDS), "web", "d"), 1010.0)["endpoints"]
    assert json.loads(json.dumps(first)) == {
        "service": "web",
        "names": ["www.d", "w.d"],
        "addresses": ["10.0.0.1:8080", "172.17.0.2:80 (this host only)"],
        "state": "passing",
        "weight": 100,
        "reason": "passing",
        "node": "h1",
        "container": "web-1",
        "id": "h1:web-1:80",
        "since": 1000.0,
        "published": True,
        "age_s": 10.0,
    }


def test_what_others_wrote_stays_in_its_line():
    shown = table(rows(registry(record("a", "a", state="failing", why="\x1b[2J\nforged")), None, "d"), 0)
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown


@pytest.fixture
async def feed(tmp_path):
    """A store that serves its feed where `up` with this --data does."""
    (tmp_path / "run").mkdir()
    store = EmbeddedStore(quiet_s=0.2)
    async with FeedServer(store, tmp_path / "run" / "feed.sock").serving():
        yield store
    await store.close()


def command(folder, *arguments, **how):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return asyncio.create_subprocess_exec(
        sys.executable, "-m", "pilotfish", "endpoints", "--data", str(folder), *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **how,
    )  # fmt: skip


async def put(store, *records):
    await store.commit([], [Put(keys.container_key(one.node, one.id), encode(one)) for one in records])


async def test_over_the_feed(feed, tmp_path):
    """The store of a running `up`, by its --data."""
    await put(feed, *RECORDS)
    shown = await command(tmp_path, "web", "--json", "--domain", "x.example")
    out, err = await asyncio.wait_for(shown.communicate(), WAIT_S)
    assert (shown.returncode, err) == (0, b"")
    assert [one["names"][0] for one in json.loads(out)["endpoints"]] == ["www.x.example", "web.x.example"]


async def test_watch(feed, tmp_path):
    """One document a line, again when something changes, until it is told to end."""
    await put(feed, RECORDS[0])
    watching = await command(tmp_path, "--watch", "--json")

    async def services():
        line = await asyncio.wait_for(watching.stdout.readline(), WAIT_S)
        return [one["service"] for one in json.loads(line)["endpoints"]]

    assert await services() == ["web"]
    await put(feed, RECORDS[2])
    assert await services() == ["db", "web"]
    await feed.commit([], [Delete(keys.container_key("h1", RECORDS[0].id))])
    assert await services() == ["db"]
    watching.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert await asyncio.wait_for(watching.wait(), WAIT_S) == 0
    assert time.monotonic() - began < WAIT_S


FAILS = [
    (
        "nobody serves",
        "gone",
        [],
        3,
        "is `pilotfish up` running there? Else name the cluster with --etcd, or the",
    ),
    ("no such service", "", ["wep"], 1, "no endpoint is of service 'wep'"),
]


@pytest.mark.usefixtures("feed")
@pytest.mark.parametrize("row", FAILS, ids=[row[0] for row in FAILS])
async def test_what_cannot_be_shown(tmp_path, row):
    _, folder, more, code, words = row
    failing = await command(tmp_path / folder, *more)
    _, err = await asyncio.wait_for(failing.communicate(), WAIT_S)
    assert (failing.returncode, words in err.decode()) == (code, True), err
