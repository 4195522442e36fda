"""The few facts of a container that we use, read from the engine's JSON.

Pure and total: `facts` takes whatever a JSON API may return (nulls, missing maps, wrong types, later fields) and either
makes frozen `Facts` of it or raises `BadDocument`, which names the field. That is for what nothing can be decided
without: id, name, tags, whether it runs, and sections of another type. An odd port, address or number costs itself. Of
the environment only SERVICE_* entries and those of nginx-proxy are kept: the others hold secrets, and nothing behind
this boundary can leak what it never had.
Source: Docker Engine API, ContainerInspect (GET /containers/{id}/json), from API 1.41 on; podman answers the same.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from pilotfish.catalog.values import quoted
from registrator.rules.signals import DEFAULT_STOP_SIGNAL, parse_signal

Health: TypeAlias = Literal["none", "starting", "healthy", "unhealthy"]

PREFIX = "SERVICE_"
HOSTS, MULTIPORTS = "VIRTUAL_HOST", "VIRTUAL_HOST_MULTIPORTS"
# What nginx-proxy reads of a container's environment, as far as it means something here; see `virtual`.
VIRTUAL = frozenset(
    {
        HOSTS,
        MULTIPORTS,
        "VIRTUAL_PORT",
        "VIRTUAL_PATH",
        "VIRTUAL_DEST",
        "VIRTUAL_PROTO",
        "HTTPS_METHOD",
        "HSTS",
        "CERT_NAME",
        "NETWORK_ACCESS",
    }
)
DEFAULT_STOP_TIMEOUT_S = 10.0  # the engine's own, when a container names none
LONGEST_STOP_TIMEOUT_S = 86400.0  # stands for -1 too, which waits for ever

_ID = re.compile(r"^[0-9a-f]{12,64}\Z")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_PORT = re.compile(r"^([0-9]{1,5})(?:/([A-Za-z]+))?\Z")
_RANGE = re.compile(r"^[0-9]{1,5}-[0-9]{1,5}\Z")
_SHOWN = 40  # characters of a port that is none
_HEALTH: dict[str, Health] = {"starting": "starting", "healthy": "healthy", "unhealthy": "unhealthy"}
# RFC 3339 with up to nine decimals, as Go prints it; Python reads six.
_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")

_JSON: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}

T = TypeVar("T")


class BadDocument(ValueError):
    """What the engine said of a container cannot be used; the message names the field."""


class PortSpec(NamedTuple):
    """A port of a container: `443/tcp`."""

    port: int
    protocol: str

    def __str__(self) -> str:
        """As Docker writes it."""
        return f"{self.port}/{self.protocol}"


class Unreadable(NamedTuple):
    """A port that the engine tells in a way that we cannot read: as it wrote it, and what is wrong with that."""

    port: str
    why: str


class Binding(NamedTuple):
    """Where a port is published on the host: an address of it (unspecified: all of them) and a port."""

    ip: str
    port: int


class Network(NamedTuple):
    """A network that a container is on; an address that it does not have there is empty.

    Attributes:
        name: of the network.
        ipv4: its address there (EndpointSettings.IPAddress).
        ipv6: its address there (EndpointSettings.GlobalIPv6Address).
        gateways: the host's own addresses on a bridge; only containers and this host reach them.
    """

    name: str
    ipv4: str = ""
    ipv6: str = ""
    gateways: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """What we know of a container.

    Attributes:
        id: the engine's id, hexadecimal.
        name: without the leading slash.
        image: as it was started with (Config.Image).
        env: SERVICE_* entries in the order given; never any other.
        virtual: nginx-proxy's variables that mean something here; none without a host in them.
        labels: all of them, sorted by key: of `SERVICE_name` and `SERVICE_NAME`, the same one wins each time.
        hostname: as it sees itself (Config.Hostname).
        network_mode: `default`, `bridge`, `host`, `none`, `container:<id>` or a network (HostConfig.NetworkMode).
        networks: the network of its mode first, then by name.
        exposed: sorted by port and protocol (Config.ExposedPorts).
        bindings: published ports (NetworkSettings.Ports); of a stopped container those that it asks for by number.
        unreadable: ports that are exposed or published in a way that cannot be read; sorted.
        started: UNIX time in seconds (State.StartedAt); 0: never.
        running: its process runs; true also when it is paused.
        paused: its processes are frozen.
        health: what its HEALTHCHECK says; `none`: it has none.
        exit_code: of its last run.
        stop_signal: number of the signal that `docker stop` sends first.
        stop_timeout_s: seconds until `docker stop` kills it.
        pid: of its first process on the host; 0: not running.
        project: compose project (label com.docker.compose.project).
        compose_service: compose service (label com.docker.compose.service).
    """

    id: str
    name: str
    image: str = ""
    env: tuple[tuple[str, str], ...] = ()
    virtual: dict[str, str] = {}
    labels: dict[str, str] = {}
    hostname: str = ""
    network_mode: str = "default"
    networks: tuple[Network, ...] = ()
    exposed: tuple[PortSpec, ...] = ()
    bindings: dict[PortSpec, tuple[Binding, ...]] = {}
    unreadable: tuple[Unreadable, ...] = ()
    started: float = 0.0
    running: bool = False
    paused: bool = False
    health: Health = "none"
    exit_code: int = 0
    stop_signal: int = DEFAULT_STOP_SIGNAL
    stop_timeout_s: float = DEFAULT_STOP_TIMEOUT_S
    pid: int = 0
    project: str = ""
    compose_service: str = ""


def facts(document: object) -> Facts:
    """Read one inspect document.

    Raises:
        BadDocument: a field is of the wrong type, or id or name is missing or none; the message names it. Every other
            field may be missing or null.

    Source: Docker Engine API, ContainerInspect.
    """
    top = _Object("", _typed("the document", document, dict, {}))
    config, host, network, state = (top.child(name) for name in ("Config", "HostConfig", "NetworkSettings", "State"))
    labels, environment = dict(config.texts("Labels")), _environment(config.entries("Env"))
    mode = host.text("NetworkMode") or "default"
    running = state.flag("Running") and not state.flag("Restarting")  # both, while the engine waits to start it again
    exposed, unexposed = _exposed(config.child("ExposedPorts"))
    bindings, unbound = _bindings(network.child("Ports"))
    if not bindings and state.has("Running") and not running:
        bindings, unbound = _bindings(host.child("PortBindings"))
    return Facts(
        id=top.matching("Id", _ID),
        name=top.matching("Name", _NAME, strip="/"),
        image=config.text("Image"),
        env=tuple(one for one in environment if one[0].startswith(PREFIX)),
        virtual=_virtual(environment),
        labels=labels,
        hostname=config.text("Hostname"),
        network_mode=mode,
        networks=_networks(network, mode),
        exposed=exposed,
        bindings=bindings,
        unreadable=tuple(Unreadable(_shown(key), why) for key, why in sorted((unexposed | unbound).items())),
        started=_time(state.text("StartedAt")),
        running=running,
        paused=state.flag("Paused"),
        health=_HEALTH.get(state.child("Health").text("Status"), "none"),
        exit_code=state.integer("ExitCode"),
        stop_signal=parse_signal(config.number_or_text("StopSignal")),
        stop_timeout_s=_stop_timeout(config),
        pid=state.integer("Pid"),
        project=labels.get("com.docker.compose.project", ""),
        compose_service=labels.get("com.docker.compose.service", ""),
    )


def runs(document: object) -> bool:
    """False where a document says that its container does not run, whatever else of it cannot be read. Never raises."""
    state = document.get("State") if isinstance(document, dict) else None
    said = state if isinstance(state, dict) else {}
    return said.get("Running") is not False and said.get("Restarting") is not True


class _Object:
    """A JSON object and the path that led to it; every getter takes null or nothing for its empty value."""

    def __init__(self, path: str, held: dict[str, object]) -> None:
        self.path = path
        self.held = held

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.held.get(name) is not None

    def child(self, name: str) -> _Object:
        return _Object(self.at(name), _typed(self.at(name), self.held.get(name), dict, {}))

    def entries(self, name: str) -> list[object]:
        return _typed(self.at(name), self.held.get(name), list, [])

    def text(self, name: str) -> str:
        return _text(self.at(name), self.held.get(name))

    def flag(self, name: str) -> bool:
        return _typed(self.at(name), self.held.get(name), bool, False)

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number; the default for what is none, or for one that no container has."""
        number = self.held.get(name)
        usable = isinstance(number, int) and not isinstance(number, bool) and abs(number) < 2**53
        return cast("int", number) if usable else default

    def number_or_text(self, name: str) -> str:
        """Text; podman writes a number for some of what Docker writes as text."""
        held = self.held.get(name)
        return str(held) if isinstance(held, int) and not isinstance(held, bool) else self.text(name)

    def texts(self, name: str) -> dict[str, str]:
        """A map of texts, sorted by key."""
        held = self.child(name)
        pairs = ((_text(f"a key of {held.path}", key), _text(held.at(str(key)), held.held[key])) for key in held.held)
        return dict(sorted(pairs))

    def matching(self, name: str, pattern: re.Pattern[str], strip: str = "") -> str:
        text = self.text(name).removeprefix(strip)
        if not pattern.match(text):
            raise BadDocument(f"{self.at(name)} is {quoted(text)}, which is none of a container")
        return text


def _stop_timeout(config: _Object) -> float:
    seconds = config.integer("StopTimeout", int(DEFAULT_STOP_TIMEOUT_S))
    return LONGEST_STOP_TIMEOUT_S if seconds < 0 else min(float(seconds), LONGEST_STOP_TIMEOUT_S)


def _typed(path: str, value: object, kind: type[T], empty: T) -> T:
    if value is None:
        return empty
    if not isinstance(value, kind):
        raise BadDocument(f"{path} is {_JSON.get(type(value), 'nothing of JSON')}, not {_JSON[kind]}")
    return value


def _text(path: str, value: object) -> str:
    # A lone surrogate is legal in JSON text and in nothing that we write.
    return _typed(path, value, str, "").encode("utf-8", "replace").decode()


def _environment(entries: list[object]) -> list[tuple[str, str]]:
    split = (_text("an entry of Config.Env", entry).partition("=") for entry in entries)
    return [(name, value) for name, found, value in split if found]


def _virtual(environment: list[tuple[str, str]]) -> dict[str, str]:
    """nginx-proxy's variables, whose names others use too, where one of them names a host."""
    found = {name: value for name, value in environment if name in VIRTUAL and value}
    return found if HOSTS in found or MULTIPORTS in found else {}


def _port(path: str, text: str) -> PortSpec:
    found = _PORT.match(text)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise BadDocument(f"{path} holds {quoted(text)}, which is no port such as 80/tcp")
    return PortSpec(int(found[1]), (found[2] or "tcp").lower())


def _shown(text: str) -> str:
    """What stands where a port should, fit for a line of its own."""
    return ascii(text)[1:-1][:_SHOWN]


def _exposed(ports: _Object) -> tuple[tuple[PortSpec, ...], dict[str, str]]:
    """Ports, sorted; and why others cannot be read: 0/tcp, an EXPOSE of a range that was kept as text (buildah)."""
    found, unreadable = set(), {}
    for key in map(str, ports.held):
        try:
            found.add(_port(ports.path, key))
        except BadDocument as error:
            unreadable[key] = str(error)
    return tuple(sorted(found)), unreadable


def _bindings(ports: _Object) -> tuple[dict[PortSpec, tuple[Binding, ...]], dict[str, str]]:
    """Published ports, sorted, but for one without a binding (EXPOSE alone); and why others cannot be read."""
    found: dict[PortSpec, tuple[Binding, ...]] = {}
    unreadable: dict[str, str] = {}
    for key in map(str, ports.held):
        try:
            entries = [_typed(ports.at(key), entry, dict, {}) for entry in ports.entries(key)]
            port, bound = _port(ports.path, key), [_binding(_Object(ports.at(key), entry)) for entry in entries]
        except BadDocument as error:
            unreadable[key] = str(error)
            continue
        if some := tuple(dict.fromkeys(one for one in bound if one)):
            found[port] = some
    return dict(sorted(found.items())), unreadable


def _binding(entry: _Object) -> Binding | None:
    text = entry.number_or_text("HostPort")
    # None yet: a stopped container that asks for one of a range gets it when it starts.
    if not text or text == "0" or _RANGE.match(text):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= 65535):
        raise BadDocument(f"{entry.at('HostPort')} is {quoted(text)}, which is no port")
    return Binding(_address(entry.at("HostIp"), entry.text("HostIp")) or "0.0.0.0", int(text))


def _networks(settings: _Object, mode: str) -> tuple[Network, ...]:
    networks = settings.child("Networks")
    found = [_network(_text(f"a key of {networks.path}", name), networks.child(name)) for name in networks.held]
    if not found and settings.text("IPAddress"):  # filled on the default bridge, by engines older than Networks too
        found = [_network("bridge", settings)]
    first = "bridge" if mode == "default" else mode
    return tuple(sorted(found, key=lambda network: (network.name != first, network.name)))


def _network(name: str, of: _Object) -> Network:
    def read(field: str) -> str:
        try:
            return _address(of.at(field), of.text(field))
        except BadDocument:  # as `invalid IP`, which Go writes for an address that was never set
            return ""

    gateways = (read("Gateway"), read("IPv6Gateway"))
    return Network(name, read("IPAddress"), read("GlobalIPv6Address"), tuple(one for one in gateways if one))


def _address(path: str, text: str) -> str:
    """An address in its canonical form (RFC 5952); empty when there is none. podman writes a mask behind some."""
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError as error:
        raise BadDocument(f"{path} is {quoted(text)}, which is no address") from error
    return str(getattr(address, "ipv4_mapped", None) or str(address).partition("%")[0])


def _time(text: str) -> float:
    """UNIX time in seconds; 0 for none, for Go's zero time (year 1) and for what is no time at all."""
    found = _TIME.match(text)
    if not found:
        return 0.0
    zone = "+00:00" if found[3] == "Z" else found[3]
    try:
        at = datetime.fromisoformat(found[1] + zone)
    except ValueError:
        return 0.0
    return max(0.0, (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() + float(f"0{found[2] or ''}"))
