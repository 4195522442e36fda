"""Records <-> bytes: what stands in the values under /pilotfish/v1.

A record is JSON with sorted keys and a format number, written as the field `format`. Decoding checks every field
(types, bounds and patterns of `values`), so that what comes out may be used anywhere; a field that we do not know
is left alone and survives a rewrite.
Knows nothing of keys, stores or clocks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

from pilotfish.catalog.route import Route
from pilotfish.catalog.values import IP_PATTERN, EndpointId, Label, Name, NodeName, Port, Priority, Ttl, Weight

FORMAT = 1
DEFAULT_WEIGHT = 100  # the same number in SRV and in nginx
DEFAULT_PRIORITY = 10  # SkyDNS's default
MAX_ENDPOINTS = 64  # per container; more are refused by name unless tags narrow them
MAX_TEXT = 4096  # octets of one free text (image, attribute): more is no description but a payload
MAX_AWAY = 64  # hosts that a proxy names as away
MAX_DRAIN_S = 86400.0  # that an endpoint may ask for
NO_DRAIN_S = 0.0  # this very object is left out of records, as an equal one is not

Scope: TypeAlias = Literal["lan", "node"]
State: TypeAlias = Literal["starting", "passing", "failing", "draining"]
Protocol: TypeAlias = Literal["tcp", "udp"]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Alpn: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9./_-]{1,32}\Z")]  # IANA's registry, RFC 7301 §6
Ip: TypeAlias = Annotated[str, msgspec.Meta(pattern=IP_PATTERN, max_length=45)]


class BadRecord(ValueError):
    """A value of the store is not the record that its key promises; the message says what and where in it."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """One way to reach an endpoint.

    Attributes:
        ip: canonical IPv4 or IPv6 address; never unspecified, never loopback for `lan`.
        port: the port at this address; differs from the container's when it is published.
        scope: `lan` from every host; `node` only from the endpoint's own host (every host has a 172.17.0.0/16).
    """

    ip: Ip
    port: Port
    scope: Scope


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One port of one container, as the registrator knows it.

    Attributes:
        service: the name it belongs to, relative to our domains, case as tagged.
        id: `node:container:port[:udp]` unless tagged otherwise.
        label: the id as one DNS label, unique as far as the id is.
        port: the container's port.
        protocol: of that port.
        addresses: where it can be reached, preferred first.
        dns: None: the service's name finds it; else exactly these names do (DNS tag; empty: none at all).
        proxydns: names that point at the proxies (PROXYDNS tag).
        route: how the proxies serve it; None: they do not.
        version: VERSION tag, for blue/green and canary.
        tags: TAGS in the order given, and `udp` for a UDP port.
        attrs: tags that mean nothing to us, for templates; keys in lower case.
        state: readiness and health; only `passing` is served.
        passed: it was passing since its container started: what fails now did work.
        why: in a few words, why it is in this state, if there is more to say: "GET /health: 500".
        deadline: for `draining`: UNIX time in seconds at which it ends if the container still runs.
        weight: SRV and upstream weight; 0: not served.
        priority: SRV priority.
        ttl: of its DNS records in seconds; 0: the default.
        drain_s: seconds that it asks for to finish its work after an operator took it out (DRAIN tag).
    """

    service: Name
    id: EndpointId
    label: Label
    port: Port
    protocol: Protocol = "tcp"
    addresses: tuple[Address, ...] = ()
    dns: tuple[Name, ...] | None = None
    proxydns: tuple[Name, ...] = ()
    route: Route | None = None
    version: Text = ""
    tags: tuple[Text, ...] = ()
    attrs: dict[Text, Text] = {}
    state: State = "starting"
    deadline: float = 0.0
    passed: bool = False
    why: Text = ""
    weight: Weight = DEFAULT_WEIGHT
    priority: Priority = DEFAULT_PRIORITY
    ttl: Ttl = 0
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_DRAIN_S)] = NO_DRAIN_S


class Container(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="format", tag=FORMAT):
    """One container with all its endpoints: the truth that everything else is derived from.

    Attributes:
        node: the host it runs on, as named by its registrator.
        id: the engine's id of the container, hexadecimal.
        name: its name without the leading slash.
        image: as the container was started with.
        started: UNIX time in seconds at which it was started (State.StartedAt).
        observed: UNIX time in seconds of the event that led to this record; not compared.
        endpoints: sorted by port and protocol; may be empty when everything was left out.
        exports: keys written for others' eyes, sorted; removed with the record if their values are still ours.
        project: compose project, if any.
        compose_service: compose service, if any.
        hostname: as it sees itself, where that is not the beginning of its id; for key templates.
    """

    node: NodeName
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12,64}\Z")]
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z", max_length=255)]
    image: Text
    started: float
    observed: float
    endpoints: Annotated[tuple[Endpoint, ...], msgspec.Meta(max_length=MAX_ENDPOINTS)] = ()
    exports: tuple[str, ...] = ()
    project: Text = ""
    compose_service: Text = ""
    hostname: Text = ""


class Node(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """A host whose registrator is alive: the key hangs on its lease and is the fence of all its writes.

    Attributes:
        node: its name.
        addresses: where other hosts reach it, preferred first.
        boot: boot id of the host.
        engine: id of its Docker engine; two engines under one name is a mistake.
        instance: random for each registrator process that took the key.
        version: of the registrator.
        leaving: it is going away on purpose.
        listed: the process that put this has looked at every container and written what there is: records of earlier
            ones that are not there any more are not to be kept by anybody.
    """

    node: NodeName
    addresses: tuple[Ip, ...]
    boot: Text
    engine: Text
    instance: Text
    version: Text
    leaving: bool = False
    listed: bool = False


class Proxy(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """A living proxy: its key hangs on its own lease.

    Attributes:
        node: the host it runs on.
        addresses: where clients reach it.
        http_port: where it serves http; 0: it does not.
        https_port: where it serves https; 0: it does not.
        generation: content hash of the configuration that its workers serve.
        revision: store revision up to which its configuration is applied.
        boot: boot id of the host.
        alpn: what it speaks on https besides http/1.1, preferred first.
        away: hosts that have no key any more, and whose containers it keeps as long as they answer; the first of them.
    """

    node: NodeName
    addresses: tuple[Ip, ...]
    http_port: Port | Literal[0] = 0
    https_port: Port | Literal[0] = 0
    generation: Text = ""
    revision: int = 0
    boot: Text = ""
    alpn: Annotated[tuple[Alpn, ...], msgspec.Meta(max_length=8)] = ()
    away: Annotated[tuple[NodeName, ...], msgspec.Meta(max_length=MAX_AWAY)] = ()


class Claim(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="format", tag=FORMAT):
    """Who owns a route: the service that asked first.

    Attributes:
        service: its name in lower case.
        since: UNIX time in seconds of the claim.
        idle_since: UNIX time in seconds since when no endpoint of the service asks for the route; 0: one does.
    """

    service: Name
    since: float
    idle_since: float = 0.0


class Drain(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """An operator takes a node, a container or a service out, until he takes the wish back.

    Attributes:
        since: UNIX time in seconds.
        by: who asked, in words, for others to know.
        gone_since: UNIX time in seconds since when nobody knows whom it is about; 0: it is there.
    """

    since: float
    by: Text = ""
    gone_since: float = 0.0


class Shift(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """An operator says how the versions of a service share the load.

    Attributes:
        since: UNIX time in seconds.
        percents: VERSION tag -> its share of all requests; what is left of 100 goes to versions that are not named.
        by: who asked, in words.
        gone_since: UNIX time in seconds since when the service has no endpoint; 0: it has one.
    """

    since: float
    percents: dict[Text, Annotated[int, msgspec.Meta(ge=0, le=100)]]
    by: Text = ""
    gone_since: float = 0.0


class Release(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="format", tag=FORMAT):
    """An operator wants what the guard holds to go.

    Attributes:
        since: UNIX time in seconds.
        by: who asked, in words.
    """

    since: float
    by: Text = ""


Record: TypeAlias = Container | Node | Proxy | Claim | Drain | Shift | Release
R = TypeVar("R", Container, Node, Proxy, Claim, Drain, Shift, Release)

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Container, Node, Proxy, Claim, Drain, Shift, Release)
}


def encode(record: Record, *, keeping: bytes = b"") -> bytes:
    """A record as JSON with sorted keys.

    Args:
        record: what to write.
        keeping: the value that it replaces, if any: its top-level fields that this version does not know are kept.

    >>> encode(Claim(service="web", since=1.0))
    b'{"format":1,"service":"web","since":1.0}'
    """
    try:
        before = msgspec.json.decode(keeping) if keeping else None
        if isinstance(before, dict):
            known = {*record.__struct_fields__, "format"}
            unknown = {name: value for name, value in before.items() if name not in known}
            return _ENCODER.encode({**unknown, **msgspec.to_builtins(record)})
    except _UNREADABLE:
        pass  # not a record that anybody could have written: nothing in it is worth keeping
    return _ENCODER.encode(record)


def decode(kind: type[R], value: bytes) -> R:
    """Read a record of one kind.

    Raises:
        BadRecord: not JSON, a field is missing, of the wrong type or out of its bounds, or of a later format.
    """
    try:
        record: R = _DECODERS[kind].decode(value)
    except _UNREADABLE as error:
        raise BadRecord(str(error)) from error
    return record


def same(one: Container, other: Container) -> bool:
    """True when two records of a container say the same; when it was observed does not count."""
    return one == msgspec.structs.replace(other, observed=one.observed)
