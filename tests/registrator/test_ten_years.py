"""What registrator's users asked for in ten years, and its known faults: one row each, by the numbers of both lists.

Short rows: each shows the behaviour on our code. `asked` are the wishes (1 to 18), `fault` what must not happen again
(1 to 16). A row whose answer is a decision names its page and holds a fact of it.
"""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pilotfish.catalog.io_stores import open_etcd
from pilotfish.catalog.keys import container_key, node_key
from pilotfish.catalog.settings import BadSettings, EtcdOptions, resolve
from pilotfish.catalog.store import Delete
from pilotfish.cli import program
from registrator.engines.io_docker import read_event
from registrator.engines.swarm import Listed
from registrator.explaining.inspect import inspect
from registrator.health import checks
from registrator.rules.address import Host
from registrator.rules.container import facts
from registrator.rules.filters import parse_filter
from registrator.rules.naming import label_of
from registrator.settings import RegistratorSettings
from tests.parts.fake_docker import container
from tests.registrator import harness
from tests.registrator.builders import IP, decide, document, endpoint, given, places, reasons
from tests.registrator.harness import exports, listening, records, web
from tests.registrator.test_swarm import node, port, published, service, task

ROOT = Path(__file__).parents[2]
TWO = {"80/tcp": 8000, "443/tcp": 4443}


def page(number):
    """The text of a decision."""
    [found] = (ROOT / "docs" / "decisions").glob(f"{number}-*.md")
    return found.read_text()


def services(decided):
    return [one.service for one in decided.container.endpoints]


def shown(*documents, **flags):
    return inspect(list(documents), Host("h", (IP,)), RegistratorSettings(**flags))["containers"]


def asked_2_the_right_address_on_every_kind_of_network():
    """A user network's published port is the host's; of several networks one is chosen."""
    user = {"ports": {"80/tcp": 8000}, "mode": "shop", "networks": {"shop": "172.20.0.5"}}
    both = {"expose": ["80/tcp"], "networks": {"back": "10.9.0.5", "front": "10.8.0.5"}}
    assert places(decide(**user), 80) == [f"lan {IP}:8000", "node 172.20.0.5:80"]
    assert places(decide({"internal": True, "network": ("front",)}, **both), 80) == ["lan 10.8.0.5:80"]
    assert places(decide({"internal": True}, **both, env=["SERVICE_NETWORK=10.9.0.0/16"]), 80) == ["lan 10.9.0.5:80"]
    assert places(decide(mode="host", expose=["80/tcp"]), 80) == [f"lan {IP}:80"]


def asked_3_names_that_can_be_foretold():
    """An explicit name is never changed; a default one has its port with several, whatever is ignored."""
    named = {"ports": TWO, "env": ["SERVICE_NAME=web"]}
    assert services(decide(**named)) == ["web", "web"]
    assert services(decide({"name_suffix": "always"}, **named)) == ["web-80", "web-443"]
    assert services(decide(image="x", ports=TWO, env=["SERVICE_443_IGNORE=1"])) == ["x-80"]


def asked_4_opt_in_and_filters():
    """By NAME, by label, by name, image, network and project; each says by which filter."""
    plain = {"ports": {"80/tcp": 1}, "labels": {"com.docker.compose.project": "shop"}}
    assert reasons(decide({"explicit": True}, **plain)) == {"80/tcp": "explicit"}
    for text in ("label=x", "name=x*", "image=x", "network=x", "project=x"):
        [left] = decide({"only": (parse_filter(text),)}, **plain).left_out
        assert (left.rule, text in left.reason) == ("filter", True)
    for text in ("label=com.*", "name=c", "image=a/redis", "network=bridge", "project=shop"):
        assert reasons(decide({"ignore": (parse_filter(text),)}, **plain)) == {"80/tcp": "filter"}


def asked_5_etcd_with_tls_users_and_several_endpoints():
    """v3 by a client of our own (decision 0001): several endpoints, certificates, a user, checked at the start."""
    flags = {"etcd": ("https://a:2379", "https://b:2379"), "etcd_cert": "c.pem", "etcd_user": "root"}
    options = resolve(EtcdOptions, flags, {}, {})
    assert options.etcd == ("https://a:2379", "https://b:2379")
    with pytest.raises(BadSettings, match="--etcd-cert and --etcd-key go together"):
        open_etcd(options)
    assert "etcd v3" in page("0001")


def asked_6_services_of_a_swarm():
    """Tasks at their nodes, or the service as one; the rest of it is test_swarm.py, and tests/lab/test_swarm.py."""
    plain = service(ports=[port()])
    whole = service(ports=[port()], labels={"SERVICE_SWARM": "vip"})
    nodes = [node("n1", "10.0.0.1"), node("n2", "10.0.0.2")]
    at_n2 = [("web", [("10.0.0.2", 8080, "lan")])]
    at_both = [("web", [("10.0.0.1", 8080, "lan"), ("10.0.0.2", 8080, "lan")])]
    assert list(published(Listed([plain], [task(at="n2")], nodes)).values()) == [at_n2]
    assert list(published(Listed([whole], [task(at="n2")], nodes)).values()) == [at_both]
    assert "one more node" in page("0020")


def asked_7_ports_chosen_by_tags():
    """On the host's network a tag brings its port in, exposed or not, and IGNORE takes one out."""
    env = ["SERVICE_8080_NAME=api", "SERVICE_443_IGNORE=1"]
    decided = decide(mode="host", expose=["443/tcp"], env=env)
    assert places(decided, 8080) == [f"lan {IP}:8080"]
    assert reasons(decided) == {"443/tcp": "ignored"}


def asked_7_a_service_without_any_port_is_told_so():
    assert decide().notices == ("no port is exposed, published or named by a tag",)


def asked_8_rich_values_and_own_keys():
    """Key templates make any key and value, with tags and attributes."""
    text = '/x/{{.Name}} {"region": "{{.Attrs.region}}", "tag": "{{index .Tags 0}}"}'
    one = document(ports={"80/tcp": 1}, env=["SERVICE_NAME=a", "SERVICE_REGION=us2", "SERVICE_TAGS=t"])
    [made] = shown(one, etcd_tmpl={"ETCD_TMPL_A": text})[0]["endpoints"]
    assert {key: json.loads(value) for key, value in made["exports"].items()} == {"/x/a": {"region": "us2", "tag": "t"}}


def asked_9_the_signal_of_a_stop_takes_it_out():
    """Before the process ends; a HUP is none."""
    seen = given(Config={"Image": "a", "StopSignal": "SIGQUIT", "StopTimeout": 3})
    now = seen.started + 100
    assert [checks.stop_deadline(seen, signal, now, now) for signal in (1, 15, 3, 9)] == [0, 0, now + 8, now + 8]


def asked_10_a_healthcheck_decides_and_can_be_switched_off():
    """`starting` and `unhealthy` are out, `healthy` is in; HEALTH=ignore and CHECK=none decide otherwise."""
    for health, state in (("starting", "starting"), ("healthy", "passing"), ("unhealthy", "failing")):
        state_of = {"State": {"Running": True, "StartedAt": "2026-01-02T03:04:05Z", "Health": {"Status": health}}}
        seen = {"ports": {"80/tcp": 1}, **state_of}
        begun = checks.resume(given(**seen), endpoint(decide(**seen), 80), None)
        assert checks.state(begun) == state, health
    off = decide(ports={"80/tcp": 1}, env=["SERVICE_NAME=a", "SERVICE_HEALTH=ignore", "SERVICE_CHECK=none"])
    assert off.checks[80, "tcp"].ignores_health


def asked_12_ipv6():
    """Bindings, host addresses, container addresses and keys of both families."""
    ports = {"80/tcp": [("0.0.0.0", 8000), ("::", 8000)]}
    networks = {"bridge": ("172.17.0.2", "fd00:17::2")}
    decided = decide(host=("h", (IP, "fd00::1")), ports=ports, networks=networks)
    assert places(decided, 80, "lan") == [f"lan {IP}:8000", "lan fd00::1:8000"]
    assert places(decided, 80, "node") == ["node 172.17.0.2:80", "node fd00:17::2:80"]
    only = document(ports={"80/tcp": ("fd00::9", 8000)}, env=["SERVICE_NAME=a"])
    assert shown(only)[0]["endpoints"][0]["exports"]["/reg/all/a/h:c:80"] == "[fd00::9]:8000"


def asked_14_names_and_ids_that_dns_can_carry():
    """Each id has a label; scaled containers with one SERVICE_ID are told; `@sha256` never is part of a name."""
    assert label_of("Docker01:shop_web_1:80:udp").replace("-", "").isalnum()
    both = shown(*(document(id_=char * 64, name=char, ports={"80/tcp": 1}, env=["SERVICE_ID=x"]) for char in "ab"))
    assert [one["notices"][-1] for one in both] == ["id 'x' is used by another container too"] * 2
    assert services(decide(image="r.io:5000/x/y@sha256:ab12", ports={"80/tcp": 1})) == ["y"]


def asked_14_scaled_containers_of_compose_stay_apart():
    """One service, one name; ids and labels differ by the container's own name."""
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "SERVICE_80_PROXY": "http"}
    three = [document(id_=str(number) * 64, name=f"shop-web-{number}", ports={"80/tcp": number}, labels=labels)
             for number in (1, 2, 3)]  # fmt: skip
    made = [one for container in shown(*three) for one in container["endpoints"]]
    assert {one["service"] for one in made} == {"web.shop"}
    assert [one["label"] for one in made] == ["h-shop-web-1-80", "h-shop-web-2-80", "h-shop-web-3-80"]
    assert len({key for one in made for key in one["exports"]}) == 9


def asked_16_several_names_for_one_port():
    """DNS has as many as one likes (decision 0011): NAME is one."""
    decided = decide(ports={"80/tcp": 1}, env=["SERVICE_NAME=a", "SERVICE_80_DNS=a,b,c.shop"])
    assert endpoint(decided, 80).dns == ("a", "b", "c.shop")
    [left] = decide(ports={"80/tcp": 1}, env=["SERVICE_NAME=a,b"]).left_out
    assert left.reason.endswith("a service has one; several names are DNS=a,b; the port is left out")
    assert "| several names in NAME |" in page("0011")


def asked_18_a_project_that_is_kept_up():
    """What changes is written down, and each decision has a page that the list names."""
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text()
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    assert [one.name for one in (ROOT / "docs" / "decisions").glob("0*.md") if f"({one.name})" not in listed] == []


def fault_8_never_an_address_that_is_none():
    """Unspecified, loopback, link-local or empty: left out with what to do, or for this host only."""
    for host in ((), ("127.0.1.1",), ("0.0.0.0",), ("169.254.1.1",)):
        [left] = decide(host=("h", host), ports={"80/tcp": 1}).left_out
        assert (left.rule, "--ip" in left.reason) == ("address", True)
    bound = decide({"ip": ("10.0.0.1",)}, ports={"80/tcp": ("127.0.0.1", 1)})
    assert places(bound, 80, "lan") == []
    assert decide({"internal": True}, expose=["80/tcp"], networks={"a": ""}).container.endpoints == ()


def fault_9_ids():
    """Of the node's name, not of the registrator's container; one SERVICE_ID on several ports is told apart."""
    ids = [one.id for one in decide(host=("node1", (IP,)), ports=TWO).container.endpoints]
    assert ids == ["node1:c:80", "node1:c:443"]
    assert [one.id for one in decide(ports=TWO, env=["SERVICE_ID=x"]).container.endpoints] == ["x:80", "x:443"]


def fault_12_what_has_no_effect_is_an_error():
    """Flags that the original took and ignored, and words behind its URI, are refused by name."""
    for arguments, word in (
        (["registrator", "-cleanup"], "cleanup"),
        (["registrator", "-retry-attempts", "3"], "retry-attempts"),
        (["registrator", "etcd://127.0.0.1:2379/x", "-ttl", "30"], "ttl"),
        (["registrator", "etcd://127.0.0.1:2379/x"], "etcd://127.0.0.1:2379/x"),
    ):
        done = CliRunner().invoke(program, arguments)
        assert (done.exit_code, word in done.output) == (2, True), done.output


def fault_13_values_and_templates():
    """IGNORE is a boolean; TAGS keep their order; what is not set is no `<no value>`; a bad template is named."""
    assert services(decide(ports={"80/tcp": 1}, env=["SERVICE_IGNORE=false", "SERVICE_NAME=a"])) == ["a"]
    assert endpoint(decide(ports={"80/tcp": 1}, env=["SERVICE_TAGS=a,b,c"]), 80).tags == ("a", "b", "c")
    one = document(ports={"80/tcp": 1}, env=["SERVICE_NAME=a"])
    unset = shown(one, etcd_tmpl={"ETCD_TMPL_X": "/k/{{.Attrs.none}} v"})[0]
    assert unset["endpoints"][0]["exports"] == {}
    assert ".Attrs.none is not set" in unset["notices"][-1]
    with pytest.raises(BadSettings, match="ETCD_TMPL_X"):
        shown(one, etcd_tmpl={"ETCD_TMPL_X": "{{if}}"})
    with pytest.raises(BadSettings, match=r"--tags: '{{.Name}}' is no tag: templates make keys"):
        resolve(RegistratorSettings, {"tags": ("{{.Name}},web",)}, {}, {})


def fault_14_json_is_made_by_a_writer():
    """Every exported record is JSON, whatever a container says."""
    odd = document(ports={"80/tcp": 1}, env=['SERVICE_NAME=a"', "SERVICE_81_NAME=b", 'SERVICE_DNS=a","b'], name="c")
    good = document(ports={"80/tcp": 1}, env=["SERVICE_NAME=a"], labels={"SERVICE_TTL": '5,"x":1'})
    made = [json.loads(value) for one in shown(odd, good) for each in one["endpoints"]
            for key, value in each["exports"].items() if key.startswith("/skydns/")]  # fmt: skip
    assert made == [{"host": IP, "port": 1, "pilotfish": "h"}]


def fault_16_the_engine_of_today():
    """Events by Type, Action and Actor; addresses from Networks, NetworkSettings.IPAddress is not asked for."""
    id_ = "ab" * 32
    assert read_event({"Type": "container", "Action": "die", "Actor": {"ID": id_}, "timeNano": 10**9}).container == id_
    assert read_event({"status": "die", "id": id_, "time": 1}) is None
    assert facts(document()).networks[0].ipv4 == "172.17.0.2"


ROWS = [made for name, made in sorted(globals().items()) if name.startswith(("asked_", "fault_"))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_row(row):
    """The row's function holds its sentence."""
    row()


@pytest.fixture
async def world(tmp_path):
    async with harness.world(tmp_path) as there:
        yield there


async def test_asked_1_what_is_stale_goes_by_itself(world):
    """What died while the registrator was away goes with its next start, exports too."""
    first = await listening(world)
    gone, stays = (world.engine.add(web(f"web-{port}", host_port=port)) for port in (8001, 8002))
    await world.see("both", lambda found: records(found) == {gone, stays} and len(exports(found)) == 4)
    await first.stop()
    world.engine.remove(gone)
    await listening(world)
    await world.see("one", lambda found: records(found) == {stays} and len(exports(found)) == 2)


@pytest.mark.parametrize(("deregister", "stays"), {"always": False, "on-success": True}.items())
async def test_asked_9_what_crashed_can_be_kept_visible(world, deregister, stays):
    """Failing, without exports, until it is removed or starts again; docs/operation.md has how `drain` takes out."""
    await listening(world, deregister=deregister)
    web_1 = world.engine.add(web("web-1"))
    await world.see_states(web_1, {80: "passing"})
    world.engine.die(web_1, 1)
    await world.see_states(web_1, {80: "failing"} if stays else {})


async def test_asked_11_fault_3_the_stream_of_events_is_lost(world):
    """The engine restarts: nobody exits, and what happened meanwhile is found by listing."""
    one = await listening(world)
    await world.engine.down()
    missed = world.engine.add(web("web-1"), quiet=True)
    await world.engine.up()
    await world.see("it is there", lambda found: records(found) == {missed})
    assert not one.task.done()


async def test_asked_13_15_fault_10_a_restart_writes_nothing(world):
    """The same ids from the node's name: the next process finds its records, and changes none."""
    first = await listening(world)
    one = world.engine.add(web("web-1"))
    await world.see("written", lambda found: records(found) == {one} and len(exports(found)) == 2)
    before = await world.entries()
    await first.stop()
    second = await listening(world, resync_s=0.05)
    await harness.until(lambda: not second.telemetry.ready.missing, "the second is ready")
    lists = world.engine.requests["list"]
    await harness.until(lambda: world.engine.requests["list"] > lists + 2, "it has listed again")
    after = await world.entries()
    mine = before.keys() - {node_key(harness.NODE)}
    assert {key: after[key].mod_revision for key in mine} == {key: before[key].mod_revision for key in mine}
    assert after.keys() == before.keys()


async def test_asked_17_fault_1_11_a_lease_by_default_whose_renewal_touches_nothing(world):
    """30 s unless told otherwise; every key hangs on it; kept alive, the store's revision stays as it is."""
    assert RegistratorSettings().lease_ttl_s == 30
    renewed = []
    keep_alive = world.store.keep_alive

    async def counted(lease):
        renewed.append(lease)
        return await keep_alive(lease)

    world.store.keep_alive = counted
    registrator = await listening(world, lease_ttl_s=2)
    one = world.engine.add(web("web-1"))
    await world.see("written", lambda found: records(found) == {one} and len(exports(found)) == 2)
    await harness.until(lambda: not registrator.telemetry.ready.missing, "its own key says all that it will say")
    found, revision = await world.entries(), (await world.store.read("/")).revision
    await harness.until(lambda: len(renewed) > 2, "it was renewed")
    assert {entry.lease for entry in found.values()} == set(renewed)
    assert (await world.store.read("/")).revision == revision


async def test_fault_2_6_what_is_ours_is_known_and_mended(world):
    """The record lists the keys that it made; one that is lost comes back, and with the container all of them go."""
    await listening(world, resync_s=0.1)
    one = world.engine.add(web("web-1"))
    await world.see("written", lambda found: len(exports(found)) == 2)
    assert set((await world.record(one)).exports) == exports(await world.entries()).keys()
    await world.store.commit([], [Delete("/reg/all/web/h1:web-1:80")])
    await world.see("mended", lambda found: len(exports(found)) == 2)
    world.engine.remove(one)
    await world.see("gone", lambda found: not exports(found) and not records(found))


async def test_fault_4_a_quick_pair_of_events_is_taken_in_order(world):
    """However fast start and die follow each other, what counts is how the container is."""
    await listening(world)
    ends, runs = web("web-1"), web("web-2", host_port=8081)
    for _ in range(20):
        world.engine.add(ends)
        world.engine.remove(ends["Id"])
        world.engine.add(runs)
        world.engine.die(runs["Id"])
        world.engine.start(runs["Id"])
    world.engine.health_status(runs["Id"], "healthy")
    await world.see("one runs", lambda found: records(found) == {runs["Id"]} and len(exports(found)) == 2)


async def test_fault_5_a_known_container_is_read_again(world):
    """A rename, another network, and whatever an update shows."""
    await listening(world, internal=True)
    one = world.engine.add(web("web-1", networks={"bridge": "172.17.0.2"}))
    await world.see("written", lambda found: exports(found).get("/reg/all/web/h1:web-1:80") == "172.17.0.2:80")
    world.engine.rename(one, "web-9")
    await world.see("renamed", lambda found: exports(found).keys() & {"/reg/all/web/h1:web-9:80"})
    world.engine.network_connect(one, "app", "10.9.0.5")
    world.engine.network_disconnect(one, "bridge")
    await world.see("moved", lambda found: exports(found).get("/reg/all/web/h1:web-9:80") == "10.9.0.5:80")
    world.engine.containers[one]["Config"]["Labels"]["SERVICE_NAME"] = "shop"
    world.engine.update(one)
    await world.see("updated", lambda found: exports(found).get("/reg/all/shop/h1:web-9:80") == "10.9.0.5:80")
    assert len(exports(await world.entries())) == 2


async def test_fault_7_one_that_hangs_holds_up_nobody(world):
    """Each call has an end of its own, and each container a queue of its own."""
    await listening(world)
    slow = container("slow-1", env={"SERVICE_NAME": "slow"}, ports={80: 9000}, health="healthy")
    hang = world.engine.disturb("inspect", container=slow["Id"], hang=True)
    world.engine.add(slow)
    await harness.until(lambda: hang.bitten, "its inspection hangs")
    other = world.engine.add(web("web-1"))
    await world.see("the other is recorded", lambda found: records(found) == {other})


@pytest.mark.parametrize("on_exit", ["keep", "remove"])
async def test_fault_15_leaving_is_a_choice(world, on_exit):
    """SIGTERM keeps everything for the next process, or takes it away."""
    one = await listening(world, on_exit=on_exit)
    web_1 = world.engine.add(web("web-1"))
    await world.see("written", lambda found: container_key(harness.NODE, web_1) in found and len(exports(found)) == 2)
    await one.stop()
    assert bool(set(await world.entries()) - {node_key(harness.NODE)}) == (on_exit == "keep")
    assert (await world.node()).leaving == (on_exit == "remove")
