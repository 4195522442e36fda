"""Blue and green: one shift moves the weights of SRV records and of nginx together, and stands across restarts.

The command writes into a real store; a DNS server and a proxy read it, each from its own copy.
"""

from __future__ import annotations

import re

import pytest

from pilotfish import io_operate
from pilotfish.catalog import keys
from pilotfish.catalog.io_embedded import EmbeddedStore
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.record import Address, Claim, encode
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Delete, Put
from pilotfish.io_operate import Asked
from tests.confgen.kit import Catalog, tree_of
from tests.dnsserver.kit import DOMAIN, World
from tests.operate_kit import HTTP, container, key_of, pairs


def web(at, version, **fields):
    """A container of `web` at 192.0.2.<at>, proxied."""
    addresses = (Address(f"192.0.2.{at}", 80, "lan"),)
    return container(f"web-{at}", f"h{at}", version=version, route=HTTP, addresses=addresses, **fields)


class Readers:
    """A DNS server and a proxy, fed from one store."""

    def __init__(self, store):
        self.store = store
        self.mirror = Mirror(keys.ROOT)
        self.dns, self.proxy = World(), Catalog(node="edge", domains=(DOMAIN,))

    async def weights(self):
        """Address -> weight, as DNS gives it, and as nginx has it; one that gets nothing is in neither."""
        difference = self.mirror.start(await self.store.read(keys.ROOT))
        self.dns.responder.apply_own(difference)
        self.proxy.feed(*difference.puts, deletes=difference.deletes)
        rows = [row.split() for row in self.dns.ask(f"_80._tcp.web.{DOMAIN}", "SRV", tcp=True).answer]
        srv = {f"192.0.2.{row[-1].partition('-')[0][1:]}": int(row[-3]) for row in rows}
        text = b"\n".join(tree_of(self.proxy).files.values()).decode()
        found = re.findall(r"server (192\.0\.2\.\d+):80(?: weight=(\d+))?", text)
        return srv, {address: int(weight or 1) for address, weight in found}


async def put(store, *things):
    await store.commit([], [Put(key, value) for key, value in pairs(*things)])


@pytest.fixture
async def store(tmp_path):
    one = EmbeddedStore(tmp_path / "catalog.db")
    await put(one, (keys.claim_key(Place(f"web.{DOMAIN}", "/")), encode(Claim(service="web", since=1.0))))
    yield one
    await one.close()


# Containers as (version, weight), the shift, and the share of each that follows.
SHIFTS = {
    "a tenth to the new one": ([("v1", 100), ("v2", 100)], {"v2": 10}, [90, 10]),
    "a tenth to the new one, which has two": ([("v1", 100), ("v2", 100), ("v2", 100)], {"v2": 10}, [90, 5, 5]),
    "weights within a version": ([("v1", 100), ("v1", 300), ("v2", 7)], {"v2": 20}, [20, 60, 20]),
    "all to the new one": ([("v1", 100), ("v2", 100)], {"v2": 100}, [0, 100]),
    "nothing to the new one": ([("v1", 100), ("v2", 100)], {"v2": 0}, [100, 0]),
    "three, one of them not named": ([("v1", 100), ("v2", 100), ("", 100)], {"v1": 50, "v2": 25}, [50, 25, 25]),
    "weight 0 stays 0": ([("v1", 100), ("v2", 100), ("v2", 0)], {"v2": 10}, [90, 10, 0]),
}


@pytest.mark.parametrize(("held", "shift", "shares"), SHIFTS.values(), ids=SHIFTS)
async def test_a_shift_moves_srv_and_nginx_together(store, held, shift, shares):
    """The same numbers in both, in the shares that were asked for; taken back, they are as before."""
    await put(store, *(web(at, version, weight=weight) for at, (version, weight) in enumerate(held, 1)))
    readers = Readers(store)
    plain, proxied = await readers.weights()
    assert plain == proxied == {f"192.0.2.{at}": weight for at, (_, weight) in enumerate(held, 1) if weight}

    await io_operate.shift(store, "web", shift, Asked(str))
    srv, nginx = await readers.weights()
    assert srv == nginx
    whole = sum(srv.values())
    assert [round(100 * srv.get(f"192.0.2.{at}", 0) / whole) for at in range(1, len(held) + 1)] == shares

    await io_operate.unshift(store, "web", Asked(str))
    assert await readers.weights() == (plain, plain)


async def test_a_shift_stands_when_everything_is_started_again(tmp_path, store):
    """The store, both readers, and every container, which gets a new id."""
    await put(store, web(1, "v1"), web(2, "v2"))
    await io_operate.shift(store, "web", {"v2": 10}, Asked(str))
    before = await Readers(store).weights()
    assert before[0] == before[1] == {"192.0.2.1": 63000, "192.0.2.2": 7000}
    await store.close()

    again = EmbeddedStore(tmp_path / "catalog.db")
    try:
        readers = Readers(again)
        assert await readers.weights() == before
        await again.commit([], [Delete(key_of(web(1, "v1"))), Delete(key_of(web(2, "v2")))])
        assert await readers.weights() == ({}, {})
        await put(again, web(1, "v1", number="1" * 64), web(2, "v2", number="2" * 64))
        assert await readers.weights() == before
    finally:
        await again.close()


async def test_a_version_that_fails_leaves_its_share_to_the_others(store):
    """Shares are among those that are served, and one that is alone has all."""
    await put(store, web(1, "v1"), web(2, "v2"))
    await io_operate.shift(store, "web", {"v2": 10}, Asked(str))
    await put(store, web(1, "v1", state="failing"))
    srv, nginx = await Readers(store).weights()
    assert srv.keys() == nginx.keys() == {"192.0.2.2"}


async def test_a_drained_container_is_out_of_both(store):
    """And back in both when it is undrained."""
    await put(store, web(1, "v1"), web(2, "v2"))
    readers = Readers(store)
    before = await readers.weights()
    await io_operate.drain(store, "web-1", Asked(str))
    assert await readers.weights() == ({"192.0.2.2": 100}, {"192.0.2.2": 100})
    await io_operate.undrain(store, "web-1", Asked(str))
    assert await readers.weights() == before
