"""Facts from the engine's JSON: total over whatever an API may return."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from registrator.rules.container import BadDocument, Binding, Network, PortSpec, facts, runs
from registrator.rules.signals import parse_signal
from tests.registrator.builders import ID, document, given

# As engine 28 answers for a compose container; cut to one network.
ENGINE_28 = json.loads(Path(__file__).with_name("engine_28.json").read_text())


def test_engine_28():
    """Every fact of a real document."""
    read = facts(ENGINE_28)

    assert (read.id[:12], read.name, read.image) == ("6e1b34b6ac9d", "shop-web-1", "nginx:1")
    assert read.env == (("SERVICE_80_PROXY", "http"),)
    assert (read.project, read.compose_service, read.hostname) == ("shop", "web", "6e1b34b6ac9d")
    assert read.network_mode == "shop_default"
    assert read.networks == (Network("shop_default", "172.18.0.2", "fd00::2", ("172.18.0.1", "fd00::1")),)
    assert read.exposed == (PortSpec(80, "tcp"),)
    assert read.bindings == {PortSpec(80, "tcp"): (Binding("0.0.0.0", 32768), Binding("::", 32768))}
    assert (read.started, read.running, read.paused, read.health) == (1767323046.5, True, False, "healthy")
    assert (read.exit_code, read.stop_signal, read.stop_timeout_s, read.pid) == (0, 3, 3.0, 4711)


VIRTUAL = [
    ("a host and what goes with it", ["VIRTUAL_HOST=a", "HSTS=off", "SECRET=x"], {"VIRTUAL_HOST": "a", "HSTS": "off"}),
    ("several ports", ["VIRTUAL_HOST_MULTIPORTS=a"], {"VIRTUAL_HOST_MULTIPORTS": "a"}),
    ("the later one", ["VIRTUAL_HOST=a", "VIRTUAL_HOST=b"], {"VIRTUAL_HOST": "b"}),
    ("no host", ["VIRTUAL_HOST=", "HSTS=off", "VIRTUAL_PORT=1", "VIRTUAL_ENV=/x"], {}),
]


@pytest.mark.parametrize(("env", "kept"), [row[1:] for row in VIRTUAL], ids=[row[0] for row in VIRTUAL])
def test_only_what_nginx_proxy_would_read_is_kept(env, kept):
    """Its variables have names that others use too: without a host among them, none is known."""
    assert (given(env=env).virtual, given(env=env).env) == (kept, ())


def test_almost_nothing():
    """Id and name are enough; the rest may be missing or null."""
    bare = facts({"Id": ID, "Name": "/c"})
    nulls = dict.fromkeys(("Config", "HostConfig", "NetworkSettings", "State", "Image"))

    assert bare == facts({"Id": ID, "Name": "/c", **nulls})
    assert (bare.exposed, bare.bindings, bare.health, bare.started, bare.running) == ((), {}, "none", 0.0, False)


def within(section, **fields):
    return {"Id": ID, "Name": "/c", section: fields}


BAD = [
    ("no document", None, "Id is '', which is none of a container"),
    ("a list", [], "the document is a list, not an object"),
    ("no id", {"Name": "/c"}, "Id is '', which is none of a container"),
    ("an id of other letters", {"Id": "xyz", "Name": "/c"}, "Id is 'xyz', which is none of a container"),
    ("a number for the id", {"Id": 7, "Name": "/c"}, "Id is a whole number, not text"),
    ("no name", {"Id": ID}, "Name is '', which is none of a container"),
    ("a name with a slash", {"Id": ID, "Name": "/a/b"}, "Name is 'a/b', which is none of a container"),
    ("a section of text", {"Id": ID, "Name": "/c", "Config": "x"}, "Config is text, not an object"),
    ("environment as a map", within("Config", Env={}), "Config.Env is an object, not a list"),
    ("an entry that is no text", within("Config", Env=[1]), "an entry of Config.Env is a whole number, not text"),
    ("a label that is no text", within("Config", Labels={"a": True}), "Config.Labels.a is true or false, not text"),
    (
        "a network that is none",
        within("NetworkSettings", Networks={"a": 1}),
        "NetworkSettings.Networks.a is a whole number, not an object",
    ),
    ("text for truth", within("State", Running="yes"), "State.Running is text, not true or false"),
]


@pytest.mark.parametrize(("bad", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_documents(bad, message):
    """The field at fault is named."""
    with pytest.raises(BadDocument) as raised:
        facts(bad)

    assert str(raised.value) == message


ODD_PORTS = [
    (
        "no number",
        within("Config", ExposedPorts={"http": {}}),
        [("http", "Config.ExposedPorts holds 'http', which is no port such as 80/tcp")],
    ),
    (
        "a range, as buildah keeps it",
        within("Config", ExposedPorts={"8000-8010/tcp": {}}),
        [("8000-8010/tcp", "Config.ExposedPorts holds '8000-8010/tcp', which is no port such as 80/tcp")],
    ),
    (
        "port 0",
        within("Config", ExposedPorts={"0/tcp": {}}),
        [("0/tcp", "Config.ExposedPorts holds '0/tcp', which is no port such as 80/tcp")],
    ),
    (
        "out of range",
        within("Config", ExposedPorts={"65536/tcp": {}}),
        [("65536/tcp", "Config.ExposedPorts holds '65536/tcp', which is no port such as 80/tcp")],
    ),
    (
        "what would not stay in its line",
        within("Config", ExposedPorts={"a\nb": {}}),
        [("a\\nb", "Config.ExposedPorts holds 'a\\nb', which is no port such as 80/tcp")],
    ),
    (
        "a host port that is none",
        within("NetworkSettings", Ports={"80/tcp": [{"HostPort": "x"}]}),
        [("80/tcp", "NetworkSettings.Ports.80/tcp.HostPort is 'x', which is no port")],
    ),
    (
        "an address that is none",
        within("NetworkSettings", Ports={"80/tcp": [{"HostPort": "1", "HostIp": "x"}]}),
        [("80/tcp", "NetworkSettings.Ports.80/tcp.HostIp is 'x', which is no address")],
    ),
    (
        "a binding that is none",
        within("NetworkSettings", Ports={"80/tcp": ["x"]}),
        [("80/tcp", "NetworkSettings.Ports.80/tcp is text, not an object")],
    ),
]


@pytest.mark.parametrize(("odd", "expected"), [row[1:] for row in ODD_PORTS], ids=[row[0] for row in ODD_PORTS])
def test_odd_ports(odd, expected):
    """A port that cannot be read costs itself, and says why."""
    odd["Config"] = {"Env": ["SERVICE_NAME=a"], **odd.get("Config", {})}

    read = facts(odd)

    assert list(read.unreadable) == expected
    assert (read.exposed, read.bindings, read.env) == ((), {}, (("SERVICE_NAME", "a"),))


EDGES = [
    ("a port without protocol", {"expose": ["80"]}, "exposed", (PortSpec(80, "tcp"),)),
    (
        "ports are sorted by number",
        {"expose": ["443/tcp", "80/udp", "80/tcp"]},
        "exposed",
        (PortSpec(80, "tcp"), PortSpec(80, "udp"), PortSpec(443, "tcp")),
    ),
    ("exposed only", {"expose": ["80/tcp"]}, "bindings", {}),
    ("host port 0", {"ports": {"80/tcp": 0}}, "bindings", {}),
    ("an empty host port", {"ports": {"80/tcp": ""}}, "bindings", {}),
    ("doubled bindings", {"ports": {"80/tcp": [1, 1]}}, "bindings", {PortSpec(80, "tcp"): (Binding("0.0.0.0", 1),)}),
    (
        "a mapped address",
        {"ports": {"80/tcp": ("::ffff:10.0.0.1", 1)}},
        "bindings",
        {PortSpec(80, "tcp"): (Binding("10.0.0.1", 1),)},
    ),
    (
        "an address with a mask",
        {"networks": {"a": "10.0.0.1/24"}},
        "networks",
        (Network("a", "10.0.0.1", "", ("172.17.0.1",)),),
    ),
    ("never started", {"State": {"StartedAt": "0001-01-01T00:00:00Z"}}, "started", 0.0),
    ("started at no time", {"State": {"StartedAt": "yesterday"}}, "started", 0.0),
    ("started on a day that is none", {"State": {"StartedAt": "2026-02-30T00:00:00Z"}}, "started", 0.0),
    ("another zone", {"State": {"StartedAt": "2026-01-02T05:04:06+02:00"}}, "started", 1767323046.0),
    ("an unknown health", {"State": {"Health": {"Status": "fine"}}}, "health", "none"),
    ("starting", {"State": {"Health": {"Status": "starting"}}}, "health", "starting"),
    ("paused", {"State": {"Running": True, "Paused": True}}, "paused", True),
    # An engine says both of a container that crashed and is to be started again in a while (seen on 20.10).
    ("waits to be started again", {"State": {"Running": True, "Restarting": True}}, "running", False),
    ("waits for ever", {"Config": {"StopTimeout": -1}}, "stop_timeout_s", 86400.0),
    ("kills at once", {"Config": {"StopTimeout": 0}}, "stop_timeout_s", 0.0),
    ("half a character", {"Config": {"Labels": {"a": "\ud800"}}}, "labels", {"a": "?"}),
    (
        "stopped: the ports that it asks for",
        {
            "State": {"Running": False},
            "NetworkSettings": {"Ports": {}},
            "HostConfig": {
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8000"}], "81/tcp": [{"HostPort": ""}]}
            },
        },
        "bindings",
        {PortSpec(80, "tcp"): (Binding("0.0.0.0", 8000),)},
    ),
    (
        "stopped: a port of a range has no number yet",
        {
            "State": {"Running": False},
            "NetworkSettings": {"Ports": {}},
            "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8000-8100"}], "81/tcp": [{"HostPort": "81"}]}},
        },
        "bindings",
        {PortSpec(81, "tcp"): (Binding("0.0.0.0", 81),)},
    ),
    ("a signal by its number, as podman has it", {"Config": {"StopSignal": 3}}, "stop_signal", 3),
    ("a timeout that is no number", {"Config": {"StopTimeout": "5"}}, "stop_timeout_s", 10.0),
    ("a huge number", {"State": {"Pid": 2**64}}, "pid", 0),
    ("truth for a number", {"State": {"Pid": True}}, "pid", 0),
    (
        "addresses that are none",
        {"networks": {"a": {"IPAddress": "10.1.1.2", "Gateway": "invalid IP", "IPv6Gateway": "x"}}},
        "networks",
        (Network("a", "10.1.1.2"),),
    ),
    (
        "running: only what is bound",
        {"NetworkSettings": {"Ports": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8000"}]}}},
        "bindings",
        {},
    ),
    (
        "an old engine",
        {"NetworkSettings": {"IPAddress": "172.17.0.9", "Gateway": "172.17.0.1"}},
        "networks",
        (Network("bridge", "172.17.0.9", "", ("172.17.0.1",)),),
    ),
]


@pytest.mark.parametrize(("container", "field", "expected"), [row[1:] for row in EDGES], ids=[row[0] for row in EDGES])
def test_edges(container, field, expected):
    assert getattr(given(**container), field) == expected


SIGNALS = [
    ("SIGTERM", 15),
    ("term", 15),
    ("SIGQUIT", 3),
    ("SIGWINCH", 28),
    ("9", 9),
    ("SIGRTMIN", 34),
    ("SIGRTMIN+3", 37),
    ("RTMAX-2", 62),
    ("SIGRTMIN+99", 15),
    ("65", 15),
    ("0", 15),
    ("SIGNONE", 15),
    ("", 15),
]


@pytest.mark.parametrize(("text", "number"), SIGNALS, ids=[row[0] or "none" for row in SIGNALS])
def test_signals(text, number):
    """Linux numbers of signal(7); what is unknown is SIGTERM."""
    assert parse_signal(text) == number


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
)


@any_of(JSON)
def test_any_json_is_read_or_refused(anything):
    with suppress(BadDocument):
        assert facts(anything).id


PATHS = [
    ("Config", "Env"),
    ("Config", "Labels"),
    ("Config", "ExposedPorts"),
    ("Config", "Image"),
    ("Config", "StopTimeout"),
    ("HostConfig", "NetworkMode"),
    ("HostConfig", "PortBindings"),
    ("NetworkSettings", "Ports"),
    ("NetworkSettings", "Networks"),
    ("State", "Running"),
    ("State", "StartedAt"),
    ("State", "Health"),
    ("State", "ExitCode"),
    ("Config",),
    ("State",),
    ("NetworkSettings",),
    ("Id",),
    ("Name",),
]


@any_of(st.sampled_from([path for path in PATHS if path[0] != "State"]), JSON, st.booleans())
def test_whether_it_runs_is_read_from_any_document(path, anything, running):
    """What cannot be read is known to have ended all the same, or its record would stay for ever."""
    bad = document(ports={"80/tcp": 8000}, State={"Running": running})
    inner = bad
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = anything
    assert runs(bad) is running


@any_of(JSON)
def test_only_what_says_so_does_not_run(anything):
    for said in (anything, {"State": anything}):
        assert runs(said) or facts({"Id": ID, "Name": "/c", **said}).running is False


@any_of(st.sampled_from(PATHS), JSON)
def test_anything_anywhere_is_read_or_refused(path, anything):
    """A good document with any JSON in one of its places."""
    bad = document(ports={"80/tcp": 8000})
    inner = bad
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = anything
    with suppress(BadDocument):
        assert facts(bad).id
