"""PROXY tags of a port -> its route, or the reason why it has none.

Pure. One bad PROXY tag leaves the route out: half a route could stand where it was not wanted, or be open to everybody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, cast

import msgspec

from pilotfish.catalog.options import NOTHING, Options
from pilotfish.catalog.route import HTTP_SCHEMES, Backend, Hsts, InTheClear, Reserved, Route, Scheme
from pilotfish.catalog.values import quoted
from registrator.rules.container import PortSpec
from registrator.rules.tags import GUARDS, PortTags

# What a scheme runs over, what its application speaks unless told otherwise, and what it may be told to speak.
TRANSPORT: Mapping[str, str] = MappingProxyType(
    {"http": "tcp", "https": "tcp", "grpc": "tcp", "tcp": "tcp", "udp": "udp"}
)
BACKENDS: Mapping[str, tuple[Backend, ...]] = MappingProxyType(
    {
        "http": ("http", "https", "grpc", "grpcs"),
        "https": ("http", "https", "grpc", "grpcs"),
        "grpc": ("grpc", "grpcs"),
        "tcp": ("http",),
        "udp": ("http",),
    }
)
# Tag -> field of `Options`.
OPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "proxy_sticky": "sticky",
        "proxy_timeout": "timeout_s",
        "proxy_body": "body",
        "proxy_auth": "auth",
        "proxy_allow": "allow",
        "proxy_rate": "rate",
        "proxy_redirect": "redirect",
        "proxy_compress": "compress",
        "proxy_security": "security",
        "proxy_maintenance": "maintenance",
    }
)
HTTP_ONLY = ("proxy_path", "proxy_strip", "proxy_dest", "proxy_backend", *OPTIONS)
# Of a path that is guarded. What applications may take for it is an expression that nginx has to read (`quote.nearly`).
LONGEST_GUARDED, MOST_PARTS_GUARDED = 120, 10
STREAMS_TOO = frozenset({"proxy_allow", "proxy_timeout"})
NAMES_TOO = frozenset({"proxy_allow"})  # of streams that are told by their name: others stand at the port
NOT_STREAMS = tuple(key for key in HTTP_ONLY if key not in STREAMS_TOO)
HTTPS_ONLY = ("proxy_cert", "proxy_hsts", "proxy_http")
# What has no effect with a scheme. PROXY_HOST with tcp: the host that a client asks for in its TLS greeting.
IDLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "http": ("proxy_port", *HTTPS_ONLY),
        "https": ("proxy_port",),
        "grpc": ("proxy_port", *HTTPS_ONLY),
        "tcp": (*NOT_STREAMS, *HTTPS_ONLY),
        "udp": ("proxy_host", *NOT_STREAMS, *HTTPS_ONLY),
    }
)


class Proxied(NamedTuple):
    """How a port is proxied.

    Attributes:
        route: how the proxies serve it; None: they do not.
        names: that point at the proxies (PROXYDNS).
        notices: what the admin should know.
    """

    route: Route | None
    names: tuple[str, ...]
    notices: tuple[str, ...] = ()


def unproxied(ports: Sequence[PortTags], candidates: Sequence[PortTags]) -> tuple[frozenset[PortSpec], tuple[str, ...]]:
    """Ports to which a PROXY tag does not apply that stands for them too.

    A container-wide one is for one port, and for none when several could be; that of a number, for the protocol that it
    goes over, where both have the number.

    Args:
        ports: all that are not left out.
        candidates: those among them that the tag may mean.

    Returns:
        Those ports, and the notice that asks to name one.
    """
    own = [one for one in ports if "proxy" in one.values and one.own("proxy")]
    fitting = {one.port.port for one in own if _fits(one)}
    beside = frozenset(one.port for one in own if one.port.port in fitting and not _fits(one))
    under = [one for one in ports if "proxy" in one.values and not one.own("proxy")]
    meant = [one for one in candidates if one in under and _fits(one)]
    if len(meant) == 1:
        return beside | {one.port for one in under} - {meant[0].port}, ()
    if not meant:
        return beside, ()  # each says itself why it does not fit
    tag = meant[0].raw["proxy"]
    listed = ", ".join(str(one.port) for one in meant)
    example = quoted(f"SERVICE_{meant[0].port.port}_PROXY={tag.value}")[1:-1]
    notice = f"{tag.name}={quoted(tag.value)}: applies to none of {listed}: name the port, as in {example}"
    return beside | {one.port for one in under}, (notice,)


def _fits(one: PortTags) -> bool:
    return TRANSPORT[cast("str", one.values["proxy"])] == one.port.protocol


def proxied(one: PortTags, service: str, reserved: Reserved) -> Proxied:
    """Read the PROXY tags of one port.

    Args:
        one: its tags; what was refused there leaves the route out.
        service: the name of the endpoint.
        reserved: what nobody may take.
    """
    names = cast("tuple[str, ...]", one.values.get("proxydns", ()))
    if one.costs("route"):
        return Proxied(None, ())
    if "proxy" not in one.values:
        return Proxied(None, names, _without_proxy(one))
    problem = _problem(one, service, names, reserved)
    if problem:
        return Proxied(None, (), (f"{one.raw['proxy'].shown}: not proxied: {problem}",))
    scheme = cast("Scheme", one.values["proxy"])
    route = _http(one, scheme) if scheme in HTTP_SCHEMES else _stream(one, scheme)
    return Proxied(route, names, _no_effect(one, scheme))


def _problem(one: PortTags, service: str, names: tuple[str, ...], reserved: Reserved) -> str:
    scheme = cast("str", one.values["proxy"])
    hosts = cast("tuple[str, ...]", one.values.get("proxy_host", ()))
    if TRANSPORT[scheme] != one.port.protocol:
        return f"{one.port} is no {TRANSPORT[scheme]} port"
    backend = one.values.get("proxy_backend")
    if backend and backend not in BACKENDS[scheme]:
        return f"PROXY_BACKEND={backend} does not go with it: {', '.join(BACKENDS[scheme])}"
    guarding = sorted(key for key in GUARDS if key in one.raw and one.raw[key].value)
    guards = [key for key in guarding if key not in STREAMS_TOO]
    if guards and scheme not in HTTP_SCHEMES:
        return f"{one.raw[guards[0]].name} asks for protection that streams have not: only PROXY_ALLOW guards them"
    path = cast("str", one.values.get("proxy_path", "/"))
    if guarding and (len(path) > LONGEST_GUARDED or path.count("/") > MOST_PARTS_GUARDED):
        most = f"{LONGEST_GUARDED} characters and {MOST_PARTS_GUARDED} parts at most"
        return f"{one.raw[guarding[0]].name} goes with a PROXY_PATH of {most}, whose other spellings can be kept out"
    if one.values.get("proxy_dest", "/") != "/" and one.values.get("proxy_path", "/") == "/":
        return f"{one.raw['proxy_dest'].name} goes with a PROXY_PATH, in whose place it stands"
    if one.values.get("proxy_http") == "refuse" and scheme in {"http", "grpc"}:
        return f"{one.raw['proxy_http'].name}=refuse goes with PROXY=https alone"
    for name in (service, *names, *hosts):
        if reserved.covers(name):
            return f"{quoted(name)} is a reserved name, or that of the proxies or the console"
    return ""


def _http(one: PortTags, scheme: Scheme) -> Route:
    default: Backend = "grpc" if scheme == "grpc" else "http"
    return Route(
        scheme=scheme,
        hosts=cast("tuple[str, ...]", one.values.get("proxy_host", ())),
        path=cast("str", one.values.get("proxy_path", "/")),
        strip="proxy_dest" in one.values or bool(one.values.get("proxy_strip", False)),
        dest=cast("str", one.values.get("proxy_dest", "/")),
        backend=cast("Backend", one.values.get("proxy_backend", default)),
        options=_options(one, OPTIONS),
        cert=cast("str", one.values.get("proxy_cert", "")) if scheme == "https" else "",
        hsts=cast("Hsts | None", one.values.get("proxy_hsts")) if scheme == "https" else None,
        http=cast("InTheClear", one.values.get("proxy_http", "redirect")) if scheme == "https" else "redirect",
    )


def _options(one: PortTags, known: Collection[str]) -> Options | None:
    asked = {OPTIONS[key]: value for key, value in one.values.items() if key in known}
    options = msgspec.convert(asked, Options)
    return options if options != NOTHING else None


def _stream(one: PortTags, scheme: Scheme) -> Route:
    hosts = cast("tuple[str, ...]", one.values.get("proxy_host", ())) if scheme == "tcp" else ()
    default = 0 if hosts else one.port.port  # several names share the port of https
    port = cast("int", one.values.get("proxy_port", default))
    return Route(scheme=scheme, hosts=hosts, port=port, options=_options(one, NAMES_TOO if hosts else STREAMS_TOO))


def _no_effect(one: PortTags, scheme: Scheme) -> tuple[str, ...]:
    idle = [f"{one.raw[key].name}: has no effect with PROXY={scheme}" for key in IDLE[scheme] if key in one.values]
    if scheme == "tcp" and "proxy_host" in one.values:
        also = (key for key in sorted(STREAMS_TOO - NAMES_TOO) if key in one.values)
        idle += (f"{one.raw[key].name}: has no effect with PROXY=tcp and PROXY_HOST" for key in also)
    return tuple(idle)


def _without_proxy(one: PortTags) -> tuple[str, ...]:
    idle = (key for key in ("proxy_host", *HTTP_ONLY, "proxy_port", *HTTPS_ONLY) if key in one.values and one.own(key))
    return tuple(f"{one.raw[key].name}: has no effect without PROXY" for key in idle)
