"""The registrator as a whole, on a fake engine and an embedded store."""

from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest

from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.keys import ROOT, claim_key, container_key, containers_of, node_key
from pilotfish.catalog.mirror import Mirror
from pilotfish.catalog.record import Claim, Container, Endpoint, Node, decode, encode
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.store import Delete, Put, StoreUnavailable
from registrator.engines.swarm import ENGINE_PREFIX
from registrator.service import RegistratorService
from tests.parts.fake_docker import container
from tests.registrator import harness
from tests.registrator.harness import HOST_IP, NODE, exports, listening, records, web


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


@pytest.fixture
async def listener():
    """A TCP port of ours on a loopback address that stands for a container's; closed until told to open."""

    class Application:
        ip = "127.0.0.77"

        def __init__(self):
            with socket.socket() as probe:
                probe.bind((self.ip, 0))
                self.port = probe.getsockname()[1]
            self.server = None

        async def open(self):
            self.server = await asyncio.start_server(lambda _, writer: writer.close(), self.ip, self.port)

        def container(self, name="web-1", **changes):
            given = {"env": {"SERVICE_NAME": "web"}, "ports": {self.port: 8080}, "networks": {"bridge": self.ip}}
            return container(name, **{**given, **changes})

    application = Application()
    yield application
    if application.server is not None:
        application.server.close()
        await application.server.wait_closed()


async def test_a_started_container_is_recorded_with_its_exports(world):
    """From `docker run` to the store: one record, what others read, one lease."""
    one = await listening(world)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})

    found = await world.entries()
    assert exports(found) == {
        "/reg/all/web/h1:web-1:80": f"{HOST_IP}:8080",
        "/skydns/internal/svc/web/h1-web-1-80": {"host": HOST_IP, "port": 8080, "pilotfish": "h1"},
    }
    assert sorted((await world.record(web_1)).exports) == sorted(exports(found))
    assert len({entry.lease for entry in found.values()}) == 1
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
    assert one.metric("pilotfish_convergence_seconds_count", stage="store") == 1
    assert one.metric("pilotfish_registrator_endpoints", state="passing") == 1


async def test_what_runs_already_is_found(world):
    """Containers that nobody told of are listed at the start; paused ones are recorded, stopped ones are not."""
    running, paused, stopped = (
        world.engine.add(web(f"web-{number}", host_port=8000 + number), quiet=True) for number in range(3)
    )
    world.engine.pause(paused)
    world.engine.die(stopped)
    world.start()
    await world.see_states(running, {80: "passing"})
    await world.see_states(paused, {80: "failing"})
    assert await world.record(stopped) is None


GONE = {
    "die": lambda engine, one: engine.die(one),
    "stop": lambda engine, one: engine.stop(one),
    "kill -9 and removed": lambda engine, one: engine.remove(one),
}


@pytest.mark.parametrize("end", GONE.values(), ids=GONE)
async def test_a_container_that_ends_leaves_nothing(world, end):
    """Record and exports go; the node's key stays, so that readers know it was on purpose."""
    await listening(world)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    end(world.engine, web_1)
    await world.see("nothing is left of it", lambda found: not records(found) and not exports(found))
    assert await world.node()


async def test_a_stop_is_seen_before_the_process_ends(world):
    """The signal that begins a stop takes it out of the exports; the record says until when it drains."""
    await listening(world)
    web_1 = world.engine.add(web("web-1", stop_signal="SIGQUIT", stop_timeout=30))
    await world.see_states(web_1, {80: "passing"})
    world.engine.kill(web_1, signal=1)
    world.engine.kill(web_1, signal=15)
    world.engine.update(web_1)
    await asyncio.sleep(0)
    assert await world.states(web_1) == {80: "passing"}
    world.engine.kill(web_1, signal=3)
    await world.see_states(web_1, {80: "draining"})
    [endpoint] = (await world.record(web_1)).endpoints
    event = world.engine.history[-1]
    assert endpoint.deadline == pytest.approx(event["timeNano"] / 1e9 + 35)
    assert exports(await world.entries()) == {}


async def test_draining_ends_with_its_deadline_if_it_still_runs(world):
    """A container that survives its stop signal is served again."""
    await listening(world)
    web_1 = world.engine.add(web("web-1", stop_timeout=0))
    world.engine.kill(web_1, signal=15)
    await world.see_states(web_1, {80: "draining"})
    await world.see_states(web_1, {80: "passing"})


async def test_what_outlives_its_draining_is_dialled_before_it_is_served_again(world, listener):
    """`docker stop --time 600` is not told to us: what has closed its port meanwhile gets no request."""
    one = await listening(world)
    await listener.open()
    web_1 = world.engine.add(listener.container(stop_timeout=0))
    await world.see_states(web_1, {listener.port: "passing"})
    listener.server.close()
    await listener.server.wait_closed()
    world.engine.kill(web_1, signal=15)
    await world.see_states(web_1, {listener.port: "draining"})
    await world.see_states(web_1, {listener.port: "starting"})
    await harness.until(lambda: one.service.book.dials(web_1), "it is dialled")
    await listener.open()
    await world.see_states(web_1, {listener.port: "passing"})


async def test_draining_survives_a_restart_of_the_registrator(world):
    """The deadline is in the record, and the next process goes on with it."""
    first = await listening(world)
    web_1 = world.engine.add(web("web-1", stop_timeout=600))
    world.engine.kill(web_1, signal=15)
    await world.see_states(web_1, {80: "draining"})
    before = await world.record(web_1)
    await first.stop()
    second = world.start()
    await harness.until(lambda: not second.telemetry.ready.missing, "the second is ready")
    assert (await world.record(web_1)).endpoints == before.endpoints


HEALTH = {"starting": "starting", "unhealthy": "failing", "healthy": "passing"}


@pytest.mark.parametrize(("health", "state"), HEALTH.items(), ids=HEALTH)
async def test_health_decides_where_the_image_has_a_check(world, health, state):
    """HEALTHCHECK's word is the endpoint's state, at the start and at every change."""
    await listening(world)
    web_1 = world.engine.add(web("web-1", health=health))
    await world.see_states(web_1, {80: state})
    for later, then in HEALTH.items():
        world.engine.health_status(web_1, later)
        await world.see_states(web_1, {80: then})


async def test_a_port_is_dialled_before_the_first_time(world, listener):
    """Without a HEALTHCHECK, an endpoint is starting until its own address takes a connection."""
    await listening(world)
    web_1 = world.engine.add(listener.container())
    await world.see_states(web_1, {listener.port: "starting"})
    assert exports(await world.entries()) == {}
    await listener.open()
    await world.see_states(web_1, {listener.port: "passing"})
    await world.see("its exports are there", lambda found: len(exports(found)) == 2)


async def test_a_port_that_was_ready_is_not_dialled_again_by_the_next_process(world, listener):
    """A restart of the registrator must not take out what serves: what the record says of the same run is believed."""
    first = await listening(world)
    await listener.open()
    web_1 = world.engine.add(listener.container())
    await world.see_states(web_1, {listener.port: "passing"})
    listener.server.close()
    before = await world.entries()
    await first.stop()
    second = world.start()
    await harness.until(lambda: not second.telemetry.ready.missing, "the second is ready")
    after = await world.entries()
    assert {key: entry.mod_revision for key, entry in after.items() if key != node_key(NODE)} == {
        key: entry.mod_revision for key, entry in before.items() if key != node_key(NODE)
    }


async def test_udp_needs_no_dial(world):
    """Nobody answers a UDP port without being asked properly: it is ready with its container."""
    await listening(world)
    dns = world.engine.add(container("dns-1", env={"SERVICE_NAME": "resolver"}, ports={"53/udp": 5353}))
    await world.see_states(dns, {53: "passing"})


async def test_a_renamed_container_gets_its_new_id(world):
    """What an inspection shows is what is recorded; the keys of the old name go."""
    await listening(world)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    world.engine.rename(web_1, "shop-1")
    await world.see("only the new keys", lambda found: list(exports(found))[:1] == ["/reg/all/web/h1:shop-1:80"])
    assert (await world.record(web_1)).name == "shop-1"


async def test_a_recreated_container_takes_over_the_keys_of_its_name(world):
    """Compose recreates: the old id goes, a new one has its name, and at the end the exports are there."""
    await listening(world)
    old = world.engine.add(web("web-1"))
    await world.see_states(old, {80: "passing"})
    world.engine.remove(old)
    new = world.engine.add(web("web-1", container_id="f" * 64, host_port=8081))
    await world.see_states(new, {80: "passing"})
    await world.see(
        "the new address",
        lambda found: (
            records(found) == {new}
            and exports(found).get("/reg/all/web/h1:web-1:80") == f"{HOST_IP}:8081"
            and len(exports(found)) == 2
        ),
    )


@pytest.mark.parametrize("by", ["Id", "Name"])
async def test_a_container_that_shares_a_network_follows_its_holder(world, by):
    """network_mode container:X has the ports of X, whatever X is called there; it is looked at again when X is."""
    await listening(world)
    holder = web("pod-1", env={"SERVICE_IGNORE": "true"})
    sharer = web("app-1", network_mode=f"container:{holder[by].lstrip('/')}")
    app = world.engine.add(sharer)
    await harness.until(lambda: world.engine.requests["inspect"], "it is looked at")
    world.engine.add(holder)
    await world.see_states(app, {80: "passing"})
    world.engine.die(holder["Id"])
    await world.see_states(app, {})


async def test_resync_writes_nothing_when_nothing_differs(world):
    """Listing and comparing again and again leaves the store's revision as it is."""
    one = await listening(world, resync_s=0.05)
    world.engine.add(web("web-1"))
    await harness.until(lambda: not one.telemetry.ready.missing and one.service.book.pages, "it is ready")
    await world.see("written", lambda found: len(exports(found)) == 2)
    before = (await world.store.read("/")).revision
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 5, "it has listed five times more")
    assert (await world.store.read("/")).revision == before


async def test_what_others_do_to_our_keys_is_mended(world):
    """A record or an export that somebody deletes or changes comes back."""
    one = await listening(world, resync_s=0.2)
    await harness.until(lambda: not one.telemetry.ready.missing, "its own key says all that it will say")
    web_1 = world.engine.add(web("web-1"))
    await world.see("written", lambda found: len(exports(found)) == 2)

    def said(found):  # when a record was observed does not count
        return {key: re.sub(rb'"observed":[^,}]*', b"", entry.value) for key, entry in found.items()}

    good = said(await world.entries())
    for key in (container_key(NODE, web_1), "/reg/all/web/h1:web-1:80"):
        await world.store.commit([], [Delete(key)])
        await world.see(f"{key} is back", lambda found: said(found) == good)


async def test_an_export_that_somebody_else_holds_is_left_alone(world):
    """A key of others is neither written nor removed; it is said, and written when they let go of it."""
    theirs = "/reg/all/web/h1:web-1:80"
    await world.store.commit([], [Put(theirs, b"10.0.0.1:1")])
    one = await listening(world, resync_s=0.2)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    await harness.until(lambda: theirs in one.service.state()["blocked_exports"], "it is said")
    assert (await world.entries())[theirs].value == b"10.0.0.1:1"
    assert theirs not in (await world.record(web_1)).exports
    await world.store.commit([], [Delete(theirs)])
    await world.see("it is ours", lambda found: theirs in found and found[theirs].value == f"{HOST_IP}:8080".encode())


@pytest.mark.parametrize("told", [True, False], ids=["by the watch", "by the comparison"])
async def test_a_record_that_comes_back_leaves_with_its_exports(world, told):
    """A restored store brings back what had gone: record and exports, of which this process knew nothing any more."""
    one = await listening(world, resync_s=3600.0 if told else 0.2)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    before = await world.entries()
    world.engine.stop(web_1)
    await world.see_states(web_1, {})
    if not told:
        one.service.writer.observe = lambda _: None
    again = [Put(entry.key, entry.value, entry.lease) for entry in before.values() if entry.key != node_key(NODE)]
    await world.store.commit([], again)
    await world.see("only the node is there", lambda found: set(found) == {node_key(NODE)})


async def test_what_was_blocked_is_forgotten_with_its_container(world):
    """What is said to be blocked is wanted by something that runs."""
    await world.store.commit([], [Put("/reg/all/web/h1:web-1:80", b"10.0.0.1:1")])
    one = await listening(world)
    web_1 = world.engine.add(web("web-1"))
    await harness.until(lambda: one.service.state()["blocked_exports"], "it is said")
    await world.see_states(web_1, {80: "passing"})
    world.engine.stop(web_1)
    await world.see_states(web_1, {})
    await harness.until(lambda: not one.service.state()["blocked_exports"], "it is forgotten")
    assert one.metric("pilotfish_registrator_blocked_exports") == 0


async def test_a_key_that_two_containers_ask_for_goes_to_the_other_at_once(world, caplog):
    """One SERVICE_ID for two containers: the first has the keys, it is said once, and the second gets them from it."""
    key, env = "/reg/all/web/same", {"SERVICE_NAME": "web", "SERVICE_ID": "same"}
    one = await listening(world, resync_s=3600.0)
    first = world.engine.add(web("web-1", env=env))
    await world.see_states(first, {80: "passing"})
    second = world.engine.add(web("web-2", env=env, host_port=8081))
    await world.see_states(second, {80: "passing"})
    for _ in range(2):  # everything is looked at again, and nothing is said twice
        looks = one.metric("pilotfish_registrator_inspections_total")
        world.engine.update(first)
        world.engine.update(second)
        await harness.until(lambda: one.metric("pilotfish_registrator_inspections_total") >= looks + 2, "two looks")  # noqa: B023
    await one.service.writer.settled()
    assert key in one.service.state()["blocked_exports"]
    [said] = [said for said in caplog.messages if repr(key) in said]
    assert said == (
        f"container web-2 ({second[:12]}): an export is not written: {key!r} is written for container "
        f"web-1 ({first[:12]}) already: give one of them another ID tag"
    )
    world.engine.stop(first)
    await world.see("it is the other's", lambda found: key in found and found[key].value.endswith(b":8081"))
    await harness.until(lambda: not one.service.state()["blocked_exports"], "nothing is blocked")


async def test_a_host_whose_address_comes_late(world, monkeypatch):
    """Started before the network is up: ports are published when the host has an address, and the node says it."""
    found = []
    monkeypatch.setattr("pilotfish.catalog.io_host.default_addresses", lambda: tuple(found))
    one = await listening(world, ip=(), resync_s=0.2)
    web_1 = world.engine.add(web("web-1"))
    await harness.until(lambda: one.service.state()["containers"], "it is looked at")
    assert [left["rule"] for left in one.service.state()["containers"][0]["left_out"]] == ["address"]
    found.append("192.0.2.77")
    await world.see_states(web_1, {80: "passing"})
    assert (await world.record(web_1)).endpoints[0].addresses[0].ip == "192.0.2.77"
    assert (await world.node()).addresses == ("192.0.2.77",)
    found.clear()  # the network is down again: where we were is all that is known
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 2, "it lists again")
    assert await world.states(web_1) == {80: "passing"}


async def test_unknown_fields_of_our_own_record_survive(world):
    """A later version may have written more; a rewrite keeps it."""
    first = await listening(world)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    await first.stop()
    key = container_key(NODE, web_1)
    entry = (await world.entries())[key]
    await world.store.commit([], [Put(key, entry.value[:-1] + b',"zz_later":{"a":1}}', entry.lease)])
    world.engine.pause(web_1)
    world.start()
    await world.see_states(web_1, {80: "failing"})
    assert b'"zz_later":{"a":1}' in (await world.entries())[key].value


ROUTE = {"SERVICE_NAME": "shop", "SERVICE_PROXY": "http"}
PLACE = Place("shop.svc.internal", "/")


async def test_a_route_is_claimed_before_its_record(world):
    """Whoever sees the record finds the claim."""
    await listening(world)
    shop = world.engine.add(web("shop-1", env=ROUTE))
    await world.see_states(shop, {80: "passing"})
    found = await world.entries()
    claim = found[claim_key(PLACE)]
    assert decode(Claim, claim.value).service == "shop"
    assert claim.mod_revision < found[container_key(NODE, shop)].create_revision
    assert claim.lease == 0


async def test_a_route_that_somebody_has_is_a_conflict_until_it_is_free(world):
    """The container is recorded all the same; the state says whose the route is."""
    await world.store.commit([], [Put(claim_key(PLACE), encode(Claim(service="other", since=1.0)))])
    one = await listening(world)
    shop = world.engine.add(web("shop-1", env=ROUTE))
    await world.see_states(shop, {80: "passing"})
    await harness.until(lambda: one.service.state()["conflicts"], "it is said")
    assert one.service.state()["conflicts"][0]["text"] == (
        "h1:shop-1:80: shop.svc.internal/ belongs to other, which asked first; both serve it"
        " when both have one SERVICE_NAME"
    )
    await world.store.commit([], [Delete(claim_key(PLACE))])
    await world.see(
        "it is ours", lambda found: b'"shop"' in found[claim_key(PLACE)].value if claim_key(PLACE) in found else 0
    )
    await harness.until(lambda: not one.service.state()["conflicts"], "no conflict is left")


async def test_an_unused_claim_is_marked_idle_and_used_again(world):
    """A claim outlives its containers; the time since when is kept, and forgotten when they come back."""
    await listening(world, resync_s=0.2)
    shop = world.engine.add(web("shop-1", env=ROUTE))
    await world.see_states(shop, {80: "passing"})
    world.engine.remove(shop)
    await world.see("idle", lambda found: decode(Claim, found[claim_key(PLACE)].value).idle_since > 0)
    world.engine.add(web("shop-1", env=ROUTE))
    await world.see("used", lambda found: decode(Claim, found[claim_key(PLACE)].value).idle_since == 0)


async def test_a_name_that_is_proxied_elsewhere_is_exported_as_the_proxies(world):
    """Names are judged over all hosts: another host's tag changes what we export."""
    await listening(world)
    web_1 = world.engine.add(web("web-1"))
    key = "/skydns/internal/svc/web/h1-web-1-80"
    await world.see("plain", lambda found: exports(found).get(key, {}).get("host") == HOST_IP)
    endpoint = Endpoint(service="web", id="h2:web-1:80", label="h2-web-1-80", port=80, route=Route(scheme="http"))
    theirs = Container(
        node="h2", id="a" * 64, name="web-1", image="web", started=1.0, observed=1.0, endpoints=(endpoint,)
    )
    await world.store.commit([], [Put(container_key("h2", "a" * 64), encode(theirs))])
    await world.see("nothing of ours under the proxied name", lambda found: key not in exports(found))
    await world.store.commit([], [Delete(container_key("h2", "a" * 64))])
    await world.see("plain again", lambda found: exports(found).get(key, {}).get("host") == HOST_IP)
    assert web_1


async def test_key_templates_replace_the_exports(world):
    """ETCD_TMPL_*: exactly the keys of the admin."""
    text = "/reg/proxy/{{.Attrs.proxy}}/{{.Name}}/{{.ID}} {{.Published.HostIP}}:{{.Published.HostPort}}"
    template = f"{{{{if .Attrs.proxy}}}}{text}{{{{end}}}}"
    await listening(world, etcd_tmpl={"ETCD_TMPL_PROXY": template})
    world.engine.add(web("shop-1", env=ROUTE))
    await world.see(
        "the admin's key", lambda found: exports(found) == {"/reg/proxy/http/shop/h1:shop-1:80": f"{HOST_IP}:8080"}
    )


async def test_bad_templates_are_refused_at_once(world):
    """A template that cannot be used is named before anything is written."""
    with pytest.raises(BadSettings, match="ETCD_TMPL_X"):
        RegistratorService(
            harness.settings(world.engine, etcd_tmpl={"ETCD_TMPL_X": "{{.Nme}} x"}),
            world.store,
            harness.Telemetry("r", lambda: 0.0),
        )


async def test_a_node_without_a_usable_name_is_refused(world, monkeypatch):
    """The host's name may be no label: then it must be given."""
    monkeypatch.setattr(socket, "gethostname", lambda: "-bad-")
    with pytest.raises(CannotStart, match="--node-name"):
        RegistratorService(
            harness.settings(world.engine, node_name=""), world.store, harness.Telemetry("r", lambda: 0.0)
        )


async def test_on_exit_remove_takes_everything_away_on_purpose(world):
    """The records go while the node's key still stands, then the rest; nothing but that key is left."""
    one = await listening(world, on_exit="remove")
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    start = (await world.store.read("/")).revision
    await one.stop()
    assert set(await world.entries()) == {node_key(NODE)}
    watch = world.store.watch("/", start)
    deletes = []
    while len(deletes) < 2:
        change = await anext(watch)
        if getattr(change, "deletes", ()):
            deletes.append(change.deletes)
    await watch.aclose()
    assert deletes[0] == (container_key(NODE, web_1),)
    assert len(deletes[1]) == 2  # its exports


async def test_the_nodes_key_says_when_everything_is_listed(world):
    """Not before all that ran is written; anew under a new lease, and then not before it is written there."""
    ids = [world.engine.add(web(f"web-{number}", host_port=8000 + number)) for number in range(30)]
    start = (await world.store.read("/")).revision
    one = await listening(world)
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
    for turn in range(2):
        await world.see("the key says so", lambda found: node_key(NODE) in found and _listed(found[node_key(NODE)]))
        written, said = set(), False
        watch = world.store.watch(ROOT, start)
        while not said:
            change = await anext(watch)
            for entry in getattr(change, "puts", ()):
                if entry.key == node_key(NODE):
                    said = _listed(entry)
                    assert not said or written == {container_key(NODE, id_) for id_ in ids}, turn
                elif entry.key.startswith(containers_of(NODE)):
                    written.add(entry.key)
        await watch.aclose()
        found = await world.entries()
        start = (await world.store.read("/")).revision
        await world.store.revoke(found[node_key(NODE)].lease)


def _listed(entry):
    return decode(Node, entry.value).listed


async def test_on_exit_remove_says_that_it_is_on_purpose(world):
    """In the transaction that takes the records away, for readers that keep what only vanishes."""
    one = await listening(world, on_exit="remove")
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    await harness.until(lambda: not one.telemetry.ready.missing, "it is ready")
    start = (await world.store.read("/")).revision
    await one.stop()
    watch = world.store.watch("/", start)
    change = await anext(watch)
    while not getattr(change, "puts", ()):
        change = await anext(watch)
    await watch.aclose()
    [entry] = change.puts
    assert decode(Node, entry.value).leaving
    assert container_key(NODE, web_1) in change.deletes


async def test_on_exit_remove_is_no_fault_to_a_reader_that_was_away(world):
    """The node's key says so for a lease more; a new registrator has it at once."""
    one = await listening(world, on_exit="remove")
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    reader = Mirror(ROOT)
    reader.start(await world.store.read(ROOT))
    await one.stop()
    difference = reader.start(await world.store.read(ROOT))
    assert container_key(NODE, web_1) in difference.deletes
    assert difference.orphans == {}
    world.start()
    await world.see_states(web_1, {80: "passing"})
    assert not (await world.node()).leaving


async def test_on_exit_keep_leaves_everything_to_the_lease(world):
    """An upgrade: the next process finds it all."""
    one = await listening(world)
    web_1 = world.engine.add(web("web-1"))
    await world.see("written", lambda found: len(exports(found)) == 2 and web_1 in records(found))
    await harness.until(lambda: not one.telemetry.ready.missing, "its own key says all that it will say")
    before = await world.entries()
    await one.stop()
    assert await world.entries() == before


async def test_once_writes_and_returns(world):
    """--once: compare and write once, then end."""
    web_1 = world.engine.add(web("web-1"), quiet=True)
    one = world.start(once=True)
    async with asyncio.timeout(harness.WAIT_S):
        await one.task
    assert await world.states(web_1) == {80: "passing"}


async def test_dry_run_prints_and_writes_nothing(world, capsys):
    """--dry-run: what would be written, with keys and values."""
    shop = world.engine.add(web("shop-1", env=ROUTE), quiet=True)
    one = world.start(dry_run=True)
    async with asyncio.timeout(harness.WAIT_S):
        await one.task
    assert await world.entries() == {}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["put", claim_key(PLACE)],
        ["put", container_key(NODE, shop)],
        ["put", "/reg/all/shop/h1:shop-1:80"],
        ["put", "/reg/proxy/http/shop/h1:shop-1:80"],
        ["put", "/skydns/internal/svc/shop/h1-shop-1-80"],
        ["5", "keys"],
    ]


async def test_dry_run_keeps_what_ended_as_the_registrator_does(world, capsys):
    """With --deregister on-success what ended with an error stays, though it is in no list of what runs."""
    one = await listening(world, deregister="on-success")
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    world.engine.die(web_1, 3)
    await world.see_states(web_1, {80: "failing"})
    await one.stop()
    await world.start(dry_run=True, deregister="on-success").task
    assert capsys.readouterr().out == "0 keys would be written\n"
    await world.start(dry_run=True).task
    assert capsys.readouterr().out.splitlines()[0] == f"delete {container_key(NODE, web_1)}"


@pytest.mark.parametrize(("swarm", "written"), {"auto": 0, "off": 3}.items())
async def test_dry_run_leaves_tasks_to_the_registrator_of_their_swarm(world, capsys, swarm, written):
    """As the registrator does while there is one."""
    labels = {"com.docker.swarm.task.id": "t1", "com.docker.swarm.service.name": "web"}
    world.engine.add(web("web-1", labels=labels), quiet=True)
    theirs = Node(node="swarm-x", addresses=(), boot="", engine=f"{ENGINE_PREFIX}x", instance="i", version="1")
    lease = await world.store.grant(60)
    await world.store.commit([], [Put(node_key("swarm-x"), encode(theirs), lease.id)])
    await world.start(dry_run=True, swarm=swarm).task
    assert capsys.readouterr().out.splitlines()[-1] == f"{written} keys would be written"


@pytest.mark.parametrize("how", ["once", "dry_run"])
async def test_an_engine_that_is_not_there_ends_a_single_run(world, tmp_path, how):
    """Exit code 3, and what to look at."""
    one = world.start(docker=(f"unix://{tmp_path}/none.sock",), **{how: True})
    world.running.remove(one)
    with pytest.raises(CannotReach, match="there is no such socket: is Docker running"):
        await one.task


class Nowhere:
    """A store that is not to be reached."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        if name == "watch":
            return self._store.watch
        return self._refuse

    async def _refuse(self, *_, **__):
        raise StoreUnavailable("no store at 192.0.2.1:2379")


@pytest.mark.parametrize("how", ["once", "dry_run"])
async def test_a_store_that_is_not_there_ends_a_single_run(world, how):
    """Exit code 3 too, and not a wait for ever."""
    one = world.start(Nowhere(world.store), **{how: True})
    world.running.remove(one)
    async with asyncio.timeout(harness.WAIT_S):
        with pytest.RaisesGroup(
            pytest.RaisesExc(CannotReach, match="no store at 192"), allow_unwrapped=True, flatten_subgroups=True
        ):
            await one.task


async def test_once_gives_up_under_a_name_that_is_anothers(world):
    """A lasting registrator waits for its name; a single run says why not."""
    theirs = Node(node=NODE, addresses=(), boot="", engine="another", instance="i", version="1")
    lease = await world.store.grant(60)
    await world.store.commit([], [Put(node_key(NODE), encode(theirs), lease.id)])
    one = world.start(once=True)
    world.running.remove(one)
    async with asyncio.timeout(harness.WAIT_S):
        with pytest.RaisesGroup(pytest.RaisesExc(CannotStart, match="own --node-name"), flatten_subgroups=True):
            await one.task


async def test_dry_run_leaves_what_it_cannot_read(world, capsys):
    """One unreadable container is named; its record stays, and the others are shown."""
    kept = web("web-1")
    web_1, shop = world.engine.add(kept, quiet=True), world.engine.add(web("shop-1", host_port=8081), quiet=True)
    once = world.start(once=True)
    await once.task
    odd = {**kept, "NetworkSettings": {"Networks": "none"}}
    world.engine.disturb("inspect", container=web_1, body=json.dumps(odd).encode())
    world.engine.rename(shop, "shop-2")
    async with asyncio.timeout(harness.WAIT_S):
        await world.start(dry_run=True).task
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"container {web_1[:12]} cannot be read: NetworkSettings.Networks is text, not an object"
    assert not any(web_1 in line for line in lines[1:])
    assert any(line.startswith(f"put    {container_key(NODE, shop)}") for line in lines)


async def test_the_state_names_what_is_left_out_and_why(world):
    """/api/state: containers, endpoints with their verdict, left-out ports, notices."""
    one = await listening(world)
    web_1 = world.engine.add(
        web("web-1", ports={80: 8080, 443: None}, env={"SERVICE_NAME": "web", "SERVICE_PROXI": "x"})
    )
    await world.see_states(web_1, {80: "passing"})
    [shown] = one.service.state()["containers"]
    assert [(left["port"], left["rule"]) for left in shown["left_out"]] == [("443/tcp", "unpublished")]
    assert [endpoint["verdict"] for endpoint in shown["endpoints"]] == ["passing"]
    assert any("PROXI" in notice for notice in shown["notices"])


async def test_secrets_of_a_container_reach_nothing(world, caplog):
    """Environment and labels of a container hold passwords; none of them is stored, shown or logged."""
    caplog.set_level("DEBUG")
    one = await listening(world)
    secret = "canary-123"
    web_1 = world.engine.add(
        web("web-1", env={"SERVICE_NAME": "web", "PASSWORD": secret}, labels={"com.example.token": secret})
    )
    await world.see_states(web_1, {80: "passing"})
    assert not any(secret.encode() in entry.value for entry in (await world.entries()).values())
    assert secret not in str(one.service.state())
    assert secret not in caplog.text


async def test_only_reading_calls_are_sent_to_the_engine(world):
    """The socket is worth root: nothing but six GETs ever goes over it."""
    await listening(world, resync_s=0.1)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    world.engine.remove(web_1)
    await world.see("gone", lambda found: not records(found))
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 2, "it lists again")
    assert world.engine.violations == []
    assert set(world.engine.requests) <= {"ping", "version", "info", "list", "inspect", "events"}
