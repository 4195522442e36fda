"""What we make of a container beside what the original made of it: equal, or one of the decided differences.

Every difference names its row of docs/decisions/0011-names-and-ports.md and the condition, on the container alone,
under which it may be seen. Whatever differs without such a row fails.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import event
from hypothesis import given as any_of
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pilotfish.catalog.record import MAX_TEXT
from pilotfish.catalog.values import ID, NAME
from registrator.explaining.inspect import inspect
from registrator.rules.address import Host
from registrator.rules.tags import KNOWN, MAX_ATTRS_TEXT, split_escaped
from registrator.settings import RegistratorSettings
from tests.registrator import registrator_model as original
from tests.registrator.builders import document
from tests.registrator.registrator_model import Flags

PAGE = (Path(__file__).parents[2] / "docs/decisions/0011-names-and-ports.md").read_text()
IP = "192.168.0.1"
BRIDGE = "172.17.0.1"
IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}\Z")
ADDRESS_TAGS = {"ip", "network", "internal", "routable"}
NO = {"0", "f", "false", "no", "n", "off", ""}


class Case(NamedTuple):
    """One port of one container, as both saw it.

    Attributes:
        document: the container; flags: the original's; suffix: our --name-suffix.
        key: the port, such as "80/tcp".
        meta: the original's metadata of that port.
        was: what the original made of it, or None.
        now: our endpoint, or None.
        left: rule by which we left it out, or "".
    """

    document: dict
    flags: Flags
    suffix: str
    key: str
    meta: dict
    was: object
    now: dict | None
    left: str

    @property
    def mode(self):
        return self.document["HostConfig"]["NetworkMode"]

    @property
    def config(self):
        return self.document["Config"]

    @property
    def bindings(self):
        return (self.document["NetworkSettings"]["Ports"] or {}).get(self.key) or []

    def bound(self, test):
        """True when the port is bound to an address of some kind."""
        return any(test(ipaddress.ip_address(one["HostIp"] or "0.0.0.0")) for one in self.bindings)

    @property
    def all_published(self):
        return original.candidates(self.document, internal=self.flags.internal)

    @property
    def user_network(self):
        return self.mode not in {"default", "bridge", "host", "none"} and not self.mode.startswith("container:")

    @property
    def tagged_ports(self):
        """Numbers that tags name and the container does not have."""
        names = [text.partition("=")[0] for text in self.config["Env"]] + list(self.config["Labels"])
        found = {match[1] for name in names if (match := re.match(r"SERVICE_([1-9][0-9]{0,4})_.", name))}
        there = {
            key.split("/")[0] for key in (*self.config["ExposedPorts"], *self.document["NetworkSettings"]["Ports"])
        }
        return {one for one in found - there if int(one) < 65536}

    @property
    def compose(self):
        return self.config["Labels"].get("com.docker.compose.service") and self.config["Labels"].get(
            "com.docker.compose.project"
        )


class Difference(NamedTuple):
    """A decided difference: the row of the page, what it explains, and when."""

    row: str
    fields: str
    when: Callable[[Case], object]


def says_no(case):
    return case.meta.get("ignore", "").strip().lower() in NO and case.meta.get("ignore")


def is_bad_name(case):
    return case.was and not (NAME.pattern.match(case.was.name) and len(case.was.name) <= NAME.longest)


def unusable(ip):
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return True
    return address.is_unspecified or address.is_loopback or address.is_link_local


def several_ids(case):
    """There is an ID tag, and another port that could have it too."""
    ports = {key.split("/")[0] for key in case.all_published} | case.tagged_ports
    given = any(original.service_metadata(case.config, port)[0].get("id") for port in ports)
    return given and len(case.all_published) + len(case.tagged_ports) > 1


def shares_a_network(case):
    return case.mode.startswith("container:")


def nothing_said(case):
    return case.mode != "host" and case.config["ExposedPorts"].keys() - case.document["NetworkSettings"]["Ports"].keys()


def has_bad_id(case):
    return case.meta.get("id") and not (ID.pattern.match(case.meta["id"]) and len(case.meta["id"]) <= ID.longest)


def bad_label(case):
    return case.flags.use_ip_from_label and case.was and unusable(case.was.ip)


def odd_attrs(case):
    return any(not key or len(key) + len(text) > MAX_TEXT for key, text in case.meta.items()) or (
        sum(len(key) + len(text) for key, text in case.meta.items()) > MAX_ATTRS_TEXT
    )


SILENT = "exposed, and nothing said of its being published"
D = Difference
DIFFERENCES = [
    D("`IGNORE=false`, `0`, `no`", "presence", says_no),
    D("a port named by a tag, not exposed", "presence", lambda case: case.key.split("/")[0] in case.tagged_ports),
    D("a port named by a tag, not exposed", "name", lambda case: case.tagged_ports),
    D("not published, but tagged PROXY", "presence", lambda case: case.meta.get("proxy") and not case.bindings),
    D("a network shared with another container", "presence name ip port", shares_a_network),
    D("more than 64 ports", "presence", lambda case: len(case.all_published) > 64),
    D("sctp and others", "presence", lambda case: case.key.endswith("/sctp")),
    D(SILENT, "presence name ip", nothing_said),
    D("NAME on several ports", "name", lambda case: case.suffix == "seed" and case.meta.get("name")),
    D("a compose container", "name", lambda case: case.compose and not case.meta.get("name")),
    D("an image with a digest", "name", lambda case: "@" in case.config["Image"] and not case.meta.get("name")),
    D(
        "an image known by its id",
        "name",
        lambda case: IMAGE_ID.match(case.config["Image"]) and not case.meta.get("name"),
    ),
    D("a name that is no DNS name", "presence", is_bad_name),
    D("several names in NAME", "presence", lambda case: "," in case.meta.get("name", "")),
    D("ID on several ports", "id", several_ids),
    D("an ID that another port of the container has", "id presence", several_ids),
    D("an ID that cannot be read", "id", has_bad_id),
    D("a tag that we know", "attrs", lambda case: set(case.meta) & set(KNOWN)),
    D("a tag without a key, very long or very many tags", "attrs", odd_attrs),
    D("bound to 127.0.0.1, with `--ip`", "ip port presence", lambda case: case.bound(lambda ip: ip.is_loopback)),
    D("bound to the bridge's own address", "ip port presence", lambda case: case.bound(lambda ip: str(ip) == BRIDGE)),
    D("bound to one address, with `--ip`", "ip", lambda case: case.flags.ip and case.bound(lambda ip: ip.version == 6)),
    D("bound to `::`", "ip port presence", lambda case: case.bound(lambda ip: str(ip) == "::")),
    D("several bindings", "ip port", lambda case: len(case.bindings) > 1),
    D("a user-defined network", "ip presence", lambda case: case.user_network),
    D("several networks", "ip", lambda case: len(case.document["NetworkSettings"]["Networks"]) > 1),
    D("no address, or one that nobody can use", "presence ip port", lambda case: case.was and unusable(case.was.ip)),
    D("a label address that is none", "ip presence", bad_label),
    D("the IP, NETWORK, INTERNAL and ROUTABLE tags", "presence ip port", lambda case: set(case.meta) & ADDRESS_TAGS),
]


def fields_that_differ(case):
    """What is not the same, in the words of the table above."""
    if (case.was is None) != (case.now is None):
        return {"presence"}
    if case.was is None:
        return set()
    now = case.now
    tags = {
        *(split_escaped(case.meta.get("tags", ""))),
        *case.flags.tags.split(","),
        *(["udp"] * case.key.endswith("udp")),
    }
    pairs = {
        "name": (case.was.name, now["service"]),
        "id": (case.was.id, now["id"]),
        "ip": (case.was.ip, now["address"]),
        "port": (case.was.port, now["port"]),
        "tags": (sorted(tags - {""}), sorted(now["tags"])),
        "attrs": (case.was.attrs, now["attrs"]),
    }
    if set(case.was.tags) != tags - {""}:
        return {"the model itself"}
    return {field for field, (was, is_now) in pairs.items() if was != is_now}


def cases(documents, flags, suffix):
    """Every port that either of the two knows, of the first of some documents."""
    settings = RegistratorSettings(
        ip=(flags.ip,) if flags.ip else (),
        internal=flags.internal,
        explicit=flags.explicit,
        use_ip_from_label=flags.use_ip_from_label,
        tags=tuple(one for one in flags.tags.split(",") if one),
        name_suffix=suffix,
    )
    document = documents[0]
    known = {one["Id"]: one for one in documents}
    was = original.services(document, flags, known.get)
    now = inspect(documents, Host(flags.hostname, (flags.resolved,) if flags.resolved else ()), settings)["containers"][
        0
    ]
    ours = {one["container_port"]: one for one in now["endpoints"]}
    left = {one["port"]: one["rule"] for one in now["left_out"]}
    for key in sorted({*was, *ours, *left}):
        meta = original.service_metadata(document["Config"], key.split("/")[0])[0]
        yield Case(document, flags, suffix, key, meta, was.get(key), ours.get(key), left.get(key, ""))


def unexplained(case):
    """Fields that differ and that no row explains."""
    found = fields_that_differ(case)
    for one in DIFFERENCES:
        if found & set(one.fields.split()) and one.when(case):
            event(one.row)
            found -= set(one.fields.split())
    return found


WORDS = r"web Web a.b web_1 a,b a\,b,c x,,y 1 0 false true no please http tcp us2 - h:c:80 10.1.2.3 here dns a/b 7"
TEXTS = st.sampled_from([*WORDS.split(), "", "a b", "x" * 64])
COMMON = "NAME NAME NAME name ID TAGS IGNORE REGION SNI 80 PROXY DNS PROXYDNS WEIGHT IP NETWORK INTERNAL"
KEYS = st.sampled_from([*COMMON.split(), "CHECK_HTTP", ""])
TAG_NAMES = st.builds(
    "SERVICE_{}{}".format, st.sampled_from(["", "", "80_", "443_", "53_", "080_", "8080_", "x_"]), KEYS
)
PORT_KEYS = st.sampled_from(["80/tcp", "443/tcp", "53/tcp", "53/udp", "9200/tcp", "7/sctp"])
BINDING_IPS = st.sampled_from(
    ["0.0.0.0", "0.0.0.0", "0.0.0.0", "", "::", "127.0.0.1", "10.0.0.9", "172.17.0.1", "fd00::9"]
)
HOST_PORTS = st.sampled_from(["8000", "4443", "49153", "80"])
BINDINGS = st.lists(
    st.builds(lambda ip, port: {"HostIp": ip, "HostPort": port}, BINDING_IPS, HOST_PORTS), min_size=1, max_size=2
)
IMAGES = st.sampled_from(
    [
        "redis",
        "a/redis:3",
        "reg:5000/a/foo:1",
        "reg.io/x/y@sha256:ab12",
        "sha256:" + "ab" * 32,
        "abcdef012345",
        "nginx:1.29",
        "",
    ]
)
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
MODES = {
    "default": {"bridge": "172.17.0.2"},
    "bridge": {"bridge": "172.17.0.2", "aaa": "172.30.0.2"},
    "host": {"host": ""},
    "none": {"none": ""},
    "shop_front": {"shop_front": "172.20.0.5"},
    "container:" + "b" * 64: {},
}


@st.composite
def containers(draw):
    """A container as the engine shows it: on the host's network and in another's it has no ports of its own."""
    mode = draw(st.sampled_from(["default", "default", "default", *MODES]))
    own = mode not in {"host", "none"} and not mode.startswith("container:")
    published = draw(st.dictionaries(PORT_KEYS, BINDINGS, max_size=3)) if own else {}
    exposed = draw(st.lists(PORT_KEYS, max_size=3))
    silent = draw(st.booleans()) and draw(st.booleans())
    networks = {
        name: {"IPAddress": ip, "GlobalIPv6Address": "", "Gateway": "172.17.0.1" if ip else ""}
        for name, ip in MODES[mode].items()
    }
    labels = draw(st.dictionaries(TAG_NAMES, TEXTS, max_size=3))
    labels |= draw(st.sampled_from([{}, {}, COMPOSE, {"ipaddr": "10.1.2.3/24"}, {"ipaddr": "here"}]))
    return {
        "Id": "0123456789ab" * 5 + "cdef",
        "Name": "/" + draw(st.sampled_from(["c", "shop-web-1", "shop_web_1"])),
        "Config": {
            "Image": draw(IMAGES),
            "Env": [
                "PATH=/bin",
                "SERVICE_NOTHING",
                *draw(st.lists(st.builds("{}={}".format, TAG_NAMES, TEXTS), max_size=4)),
            ],
            "Labels": labels,
            "ExposedPorts": {key: {} for key in (*published, *exposed)},
        },
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {
            "Ports": ({} if silent or not own else dict.fromkeys(exposed)) | published,
            "Networks": networks,
            "IPAddress": "172.17.0.2" if mode in {"default", "bridge"} else "",
        },
        "State": {"Running": True, "StartedAt": "2026-01-02T03:04:05Z"},
    }


FLAGS = st.builds(
    Flags,
    ip=st.sampled_from(["", "", "10.0.0.1"]),
    internal=st.sampled_from([False, False, True]),
    explicit=st.sampled_from([False, False, True]),
    use_ip_from_label=st.sampled_from(["", "", "ipaddr"]),
    tags=st.sampled_from(["", "one,two"]),
    hostname=st.just("h"),
    resolved=st.sampled_from([IP, IP, ""]),
)
PAUSE = {
    "Id": "b" * 64,
    "Name": "/pause",
    "Config": {"Image": "pause", "Env": [], "Labels": {}, "ExposedPorts": {"80/tcp": {}}},
    "HostConfig": {"NetworkMode": "default"},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000"}]},
        "Networks": {"bridge": {"IPAddress": "172.17.0.9"}},
        "IPAddress": "172.17.0.9",
    },
    "State": {"Running": True},
}


@hypothesis_settings(max_examples=600, deadline=None)
@any_of(containers(), FLAGS, st.sampled_from(["auto", "seed"]))
def test_as_the_original_or_as_decided(given, flags, suffix):
    """Each port of any container: the same name, id, address, port, tags and attributes, or a row that says why not."""
    for case in cases([given, PAUSE], flags, suffix):
        assert unexplained(case) == set(), case


@pytest.mark.parametrize("row", sorted({one.row for one in DIFFERENCES}))
def test_every_difference_is_on_the_page(row):
    """The first cell of one row there."""
    assert f"| {row} |" in PAGE


def container(**given):
    return document(**{"ports": {"80/tcp": 8000}, **given})


TWO = {"80/tcp": 8000, "443/tcp": 4443}
SHOWN = [
    ("`IGNORE=false`, `0`, `no`", container(env=["SERVICE_IGNORE=no"]), {}),
    ("a port named by a tag, not exposed", document(mode="host", env=["SERVICE_80_NAME=a"]), {}),
    ("not published, but tagged PROXY", document(expose=["80/tcp"], env=["SERVICE_80_PROXY=http"]), {}),
    ("a network shared with another container", container(mode=f"container:{'b' * 64}"), {}),
    ("more than 64 ports", document(ports={f"{port}/tcp": port for port in range(1000, 1065)}), {}),
    ("sctp and others", container(ports={"80/sctp": 8000}), {}),
    ("NAME on several ports", container(ports=TWO, env=["SERVICE_NAME=web"]), {}),
    ("a compose container", container(labels=COMPOSE), {}),
    ("an image with a digest", container(image="x/y@sha256:ab"), {}),
    ("an image known by its id", container(image="sha256:" + "ab" * 32), {}),
    ("a name that is no DNS name", container(env=["SERVICE_NAME=a b"]), {}),
    ("several names in NAME", container(env=["SERVICE_NAME=a,b"]), {}),
    ("ID on several ports", container(ports=TWO, env=["SERVICE_ID=x"]), {}),
    ("an ID that another port of the container has", container(ports=TWO, env=["SERVICE_80_ID=h:c:443"]), {}),
    ("an ID that cannot be read", container(env=["SERVICE_ID=a b"]), {}),
    ("a tag that we know", container(env=["SERVICE_WEIGHT=3"]), {}),
    ("a tag without a key, very long or very many tags", container(env=["SERVICE_=x"]), {}),
    ("bound to 127.0.0.1, with `--ip`", container(ports={"80/tcp": ("127.0.0.1", 1)}), {"ip": "10.0.0.1"}),
    ("bound to the bridge's own address", container(ports={"80/tcp": (BRIDGE, 1)}), {}),
    ("bound to one address, with `--ip`", container(ports={"80/tcp": ("fd00::9", 1)}), {"ip": "10.0.0.1"}),
    ("bound to `::`", container(ports={"80/tcp": ("::", 1)}), {}),
    ("several bindings", container(ports={"80/tcp": [("fd00::9", 1), ("10.0.0.9", 2)]}), {}),
    ("a user-defined network", container(mode="shop", networks={"shop": "10.9.0.2"}), {}),
    ("several networks", container(networks={"bridge": "10.9.0.2", "x": "10.8.0.2"}), {"internal": True}),
    ("no address, or one that nobody can use", container(), {"resolved": "127.0.1.1"}),
    ("a label address that is none", container(labels={"ipaddr": "here"}), {"use_ip_from_label": "ipaddr"}),
    ("the IP, NETWORK, INTERNAL and ROUTABLE tags", container(env=["SERVICE_IP=10.9.9.9"]), {}),
]


@pytest.mark.parametrize(("row", "shown", "flags"), SHOWN, ids=[row[0] for row in SHOWN])
def test_each_difference_is_seen(row, shown, flags):
    """Each row has a container that shows it: something differs, and that row explains it."""
    [rules] = [[one for one in DIFFERENCES if one.row == row]]
    seen = [case for case in cases([shown, PAUSE], Flags(**flags), "seed") if fields_that_differ(case)]

    assert seen
    assert all(
        any(fields_that_differ(case) & set(one.fields.split()) and one.when(case) for one in rules) for case in seen
    )


def test_rows_are_shown():
    """All but the one that needs a document as no engine writes it, which has a test of its own."""
    assert {row for row, _, _ in SHOWN} == {one.row for one in DIFFERENCES} - {SILENT}


def test_nothing_said_of_being_published():
    shown = container(ports={}) | {"Config": {"Image": "a", "Env": [], "Labels": {}, "ExposedPorts": {"80/tcp": {}}}}
    [case] = cases([shown], Flags(), "seed")

    assert (case.was.port, case.now, case.left) == (80, None, "unpublished")


VECTORS = [
    ("one port", container(ports={"6379/tcp": 10000}), {}, {"6379/tcp": ("redis", "h:c:6379", 10000, (), {})}),
    (
        "two ports",
        container(image="nginx", ports=TWO),
        {},
        {"80/tcp": ("nginx-80", "h:c:80", 8000, (), {}), "443/tcp": ("nginx-443", "h:c:443", 4443, (), {})},
    ),
    (
        "a name on two ports",
        container(ports=TWO, env=["SERVICE_NAME=web", "SERVICE_80_NAME=web"]),
        {},
        {"80/tcp": ("web", "h:c:80", 8000, (), {}), "443/tcp": ("web-443", "h:c:443", 4443, (), {})},
    ),
    (
        "one ignored",
        container(image="x", ports=TWO, env=["SERVICE_443_IGNORE=1"]),
        {},
        {"80/tcp": ("x-80", "h:c:80", 8000, (), {})},
    ),
    (
        "an empty IGNORE of a port",
        container(image="x", ports=TWO, env=["SERVICE_IGNORE=true", "SERVICE_80_IGNORE="]),
        {},
        {"80/tcp": ("x-80", "h:c:80", 8000, (), {"ignore": ""})},
    ),
    ("ignored by any text", container(env=["SERVICE_IGNORE=false"]), {}, {}),
    (
        "tcp and udp",
        container(ports={"53/tcp": 53, "53/udp": 53}, env=["SERVICE_NAME=dns"]),
        {},
        {"53/tcp": ("dns-53", "h:c:53", 53, (), {}), "53/udp": ("dns-53", "h:c:53:udp", 53, ("udp",), {})},
    ),
    ("explicit", container(), {"explicit": True}, {}),
    ("internal", document(expose=["80/tcp"]), {"internal": True}, {"80/tcp": ("redis", "h:c:80", 80, (), {})}),
    ("a digest", container(image="r.io:5000/x/y@sha256:ab"), {}, {"80/tcp": ("y@sha256", "h:c:80", 8000, (), {})}),
    (
        "tags come out in reverse",
        container(env=[r"SERVICE_TAGS=foo,bar\,baz", "SERVICE_REGION=us2"]),
        {},
        {"80/tcp": ("redis", "h:c:80", 8000, ("bar,baz", "foo"), {"region": "us2"})},
    ),
]


@pytest.mark.parametrize(("shown", "flags", "expected"), [row[1:] for row in VECTORS], ids=[row[0] for row in VECTORS])
def test_the_model(shown, flags, expected):
    """The model gives what the original is known to give."""
    made = original.services(shown, Flags(**flags))

    assert {key: (one.name, one.id, one.port, one.tags, one.attrs) for key, one in made.items()} == expected
