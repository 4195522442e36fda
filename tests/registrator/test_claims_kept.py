"""Claims of real registrators on one store: who keeps a route, and who writes."""

from __future__ import annotations

import pytest

from pilotfish import io_operate
from pilotfish.catalog.keys import claim_key
from pilotfish.catalog.record import Claim, decode
from pilotfish.catalog.route import Place
from tests.parts.fake_docker import FakeDocker
from tests.registrator import harness
from tests.registrator.harness import records, web

ROUTE = {"SERVICE_NAME": "shop", "SERVICE_PROXY": "http"}


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


async def test_a_claim_keeps_its_winner_through_100_recreations_beside_a_waiting_claimant(world, tmp_path):
    """Whoever waits on another host gets the route when it is released, and not before."""
    host, place = "www.example.com", Place("www.example.com", "/")

    def asking(service, name):
        return web(name, env={"SERVICE_NAME": service, "SERVICE_PROXY": "http", "SERVICE_PROXY_HOST": host})

    def owner(found):
        return decode(Claim, found[claim_key(place)].value).service if claim_key(place) in found else ""

    async with FakeDocker(tmp_path / "other.sock", seed=1) as engine:
        first = world.start(resync_s=0.2)
        shop = world.engine.add(asking("shop", "shop-1"))
        await world.see("the first gets it", lambda found: owner(found) == "shop")
        second = world.start(engine=engine, node_name="h2", resync_s=0.2)
        engine.add(asking("rival", "rival-1"), quiet=True)
        await harness.until(lambda: second.service.state()["conflicts"], "the other waits")
        for _ in range(100):
            world.engine.remove(shop)
            await world.see("it is gone", lambda found: not records(found))
            assert owner(await world.entries()) == "shop"
            shop = world.engine.add(asking("shop", "shop-1"))
            await world.see("it is back", records)
            assert owner(await world.entries()) == "shop"
        assert first.service.state()["conflicts"] == []
        assert second.service.state()["conflicts"][0]["owner"] == "shop"
        assert second.metric("pilotfish_registrator_route_conflicts") == 1

        said = []
        await io_operate.release(world.store, host, io_operate.Asked(said.append))
        await world.see("the other gets it", lambda found: owner(found) == "rival")
        assert said == ["www.example.com/ is free: it was shop's; rival asks for it"]
        await harness.until(lambda: first.service.state()["conflicts"], "the first waits now")
        await second.stop()
        world.running.remove(second)


async def test_nodes_of_different_domains_do_not_write_one_claim_in_turns(world, tmp_path):
    """A resync of either writes nothing when nothing differs."""
    async with FakeDocker(tmp_path / "other.sock", seed=1) as engine:
        first = world.start(resync_s=0.1, domain=("one.test",))
        second = world.start(engine=engine, node_name="h2", resync_s=0.1, domain=("two.test",))
        world.engine.add(web("shop-1", env=ROUTE))
        engine.add(web("shop-2", env=ROUTE))
        places = [claim_key(Place(f"shop.{domain}", "/")) for domain in ("one.test", "two.test")]
        await world.see("both are claimed", lambda found: all(place in found for place in places))
        for one in (first, second):
            await harness.until(lambda one=one: not one.telemetry.ready.missing, "it is ready")
        before = (await world.store.read("/")).revision
        lists = world.engine.requests["list"], engine.requests["list"]
        await harness.until(
            lambda: world.engine.requests["list"] > lists[0] + 10 and engine.requests["list"] > lists[1] + 10,
            "both have compared several times",
        )
        assert (await world.store.read("/")).revision == before
        await second.stop()
        world.running.remove(second)
