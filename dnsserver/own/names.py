"""Whose name is it: from the endpoints that stand behind a name, and the living proxies, to addresses and services.

Pure. A registrator cannot know what another host tagged, so the reader judges over all hosts:

| the name's endpoints                      | A, AAAA                          | SRV                              |
| ----------------------------------------- | -------------------------------- | -------------------------------- |
| any is proxied, or PROXYDNS names it      | the living proxies               | the proxies, at their ports      |
| none proxied, tagged DNS                  | the endpoints tagged for it      | those, each with its port        |
| none proxied, no DNS tag                  | all its endpoints                | all, each with its port          |

`<label>.<name>` is an instance, `_<port>._<proto>.<name>` the ports themselves. Only addresses of scope `lan` are
given: a DNS server does not know on which host the one who asks lives. `nearest.<name>` is for those who know it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dnsserver.message import dname, rr, svcb
from dnsserver.message.dname import BadName
from dnsserver.message.rr import Data, Service, Type
from dnsserver.message.svcb import Binding
from dnsserver.own import spoken
from pilotfish.catalog.record import DEFAULT_PRIORITY, DEFAULT_WEIGHT, Endpoint, Proxy
from pilotfish.catalog.route import HTTP_SCHEMES, OVER_TLS
from pilotfish.catalog.verdict import How, Placed, published

ENDPOINT_TTL = 5  # seconds; endpoints come and go, and a client that keeps a dead one waits for a timeout
PROXY_TTL = 10  # seconds; proxies live longer than what they serve
MAX_PRIORITY = 65535  # of SRV; RFC 2782
DEFAULT_ALPN = "http/1.1"  # what every client takes for granted; RFC 9460 §9.1


class Addressed(NamedTuple):
    """One address: A or AAAA, seconds, and its data."""

    type: Type
    ttl: int
    data: Data


class Offered(NamedTuple):
    """One SRV record: seconds and what it says."""

    ttl: int
    service: Service


class Own(NamedTuple):
    """What one of our names says. A name that says nothing exists all the same: NODATA, not NXDOMAIN.

    Attributes:
        addresses: each once, in a stable order.
        services: SRV records.
        bindings: HTTPS records.
        depends: names (or marks) whose change changes this; the name itself is not among them.
        yields: foreign records at or below the name go first.
        near: how many of `addresses`, from the first, are nearer than the others and stay in front of them.
    """

    addresses: tuple[Addressed, ...] = ()
    services: tuple[Offered, ...] = ()
    bindings: tuple[Binding, ...] = ()
    depends: frozenset[bytes] = frozenset()
    yields: bool = False
    near: int = 0

    @property
    def empty(self) -> bool:
        """True when it says nothing at all."""
        return not self.addresses and not self.services and not self.bindings

    def fence(self, kind: Type) -> int:
        """How many addresses of one type stay in front when their order turns; 0: all turn together."""
        near = sum(one.type == kind for one in self.addresses[: self.near])
        return near if near < sum(one.type == kind for one in self.addresses) else 0


def in_front(near: Own, far: Own) -> Own:
    """Both as one: what is near first, and preferred by clients of SRV, which take the lowest priority.

    It has no bindings: nothing is served under a name that says how to sort.
    """
    addresses = dict.fromkeys((*near.addresses, *far.addresses))
    highest = max((one.service.priority for one in near.services), default=-1)
    lowest = min((one.service.priority for one in far.services), default=0)
    return Own(
        addresses=tuple(addresses),
        services=(*near.services, *(_lowered(one, max(0, highest + 1 - lowest)) for one in far.services)),
        depends=near.depends | far.depends,
        yields=far.yields,
        near=len(near.addresses),
    )


def _lowered(one: Offered, by: int) -> Offered:
    priority = min(MAX_PRIORITY, one.service.priority + by)
    return one._replace(service=one.service._replace(priority=priority))


class View(NamedTuple):
    """All endpoints that stand behind one name, in whatever state, as questions ask for them.

    Attributes:
        how: how they stand: the highest of all.
        members: those that stand so, sorted by id.
        labels: instance label -> endpoints.
        ports: (container port, protocol) -> endpoints.
        told: what the members say under a name, as soon as somebody asked: it goes with the view.
    """

    how: How
    members: tuple[Placed, ...]
    labels: dict[str, list[Placed]]
    ports: dict[tuple[int, str], list[Placed]]
    told: dict[bytes, Own]

    def says(self, name: bytes) -> Own:
        """What the members say together, under a wire name that they stand behind."""
        found = self.told.get(name)
        if found is None:
            found = self.told[name] = of_endpoints(self.members, name)
        return found

    def speaking(self, service: str, protocol: str) -> list[Placed]:
        """Endpoints that a service name asks for; `http`, `postgresql`."""
        held = (placed for (_, its), placed in self.ports.items() if its == protocol)
        return [one for placed in held for one in placed if spoken.speaks(one.endpoint, service, protocol)]


def view_of(standing: Sequence[tuple[How, Placed]]) -> View:
    """Arrange what stands behind a name; `standing` is not empty."""
    how = max(its for its, _ in standing)
    labels: dict[str, list[Placed]] = {}
    ports: dict[tuple[int, str], list[Placed]] = {}
    for _, placed in standing:
        endpoint = placed.endpoint
        labels.setdefault(endpoint.label, []).append(placed)
        ports.setdefault((endpoint.port, endpoint.protocol), []).append(placed)
    return View(how, tuple(placed for its, placed in standing if its is how), labels, ports, {})


class ProxyHost(NamedTuple):
    """A living proxy as clients reach it: its host, addresses, ports (0: not served), and protocols on https."""

    node: str
    addresses: tuple[str, ...]
    http_port: int
    https_port: int
    alpn: tuple[str, ...] = ()


class Proxies(NamedTuple):
    """All living proxies: those that registered themselves, and endpoints that carry the proxies' name as a DNS tag."""

    hosts: tuple[ProxyHost, ...] = ()
    tagged: tuple[Placed, ...] = ()

    @property
    def covers_tagged(self) -> bool:
        """True when each address of a tagged endpoint is that of a proxy that registered itself."""
        known = {ip for host in self.hosts for ip in host.addresses}
        return all(ip in known for placed in self.tagged for ip, _ in lan(placed.endpoint))

    def only(self, takes: Callable[[str], bool]) -> Proxies:
        """Those on certain nodes."""
        return Proxies(
            tuple(host for host in self.hosts if takes(host.node)),
            tuple(placed for placed in self.tagged if takes(placed.node)),
        )


def proxy_host(proxy: Proxy) -> ProxyHost:
    """What of a proxy's record matters to names; the generation it serves, which changes often, does not."""
    return ProxyHost(proxy.node, proxy.addresses, proxy.http_port, proxy.https_port, proxy.alpn)


def addressed(ips: Iterable[str], ttl: int) -> tuple[Addressed, ...]:
    """Addresses as records, each once. What is no address, though it has the letters of one, is left out."""
    found: dict[Addressed, None] = {}
    for ip in ips:
        with contextlib.suppress(ValueError):
            kind, data = rr.address(ip)
            found[Addressed(kind, ttl, data)] = None
    return tuple(found)


def lan(endpoint: Endpoint) -> list[tuple[str, int]]:
    """Where every host reaches an endpoint: (ip, port)."""
    return [(address.ip, address.port) for address in endpoint.addresses if address.scope == "lan"]


def under(label: str, name: bytes) -> bytes | None:
    """`<label>.<name>`; None when that is too long for a name."""
    try:
        return dname.from_labels((label.lower().encode(), *dname.labels_of(name)))
    except BadName:
        return None


def of_endpoints(placed: Iterable[Placed], name: bytes) -> Own:
    """The endpoints themselves: those that are served, at their `lan` addresses.

    Args:
        placed: who stands behind the name.
        name: wire name that instances stand under; targets are `<label>.<name>`.
    """
    addresses: list[Addressed] = []
    services: list[Offered] = []
    for one in published(placed):
        endpoint = one.endpoint
        ttl = endpoint.ttl or ENDPOINT_TTL
        reached = lan(endpoint)
        addresses += addressed((ip for ip, _ in reached), ttl)
        target = under(endpoint.label, name)
        if target is not None:
            weight = one.verdict.weight
            services += [
                Offered(ttl, Service(endpoint.priority, weight, port, target))
                for port in dict.fromkeys(port for _, port in reached)
            ]
    return Own(_each_once(addresses), tuple(dict.fromkeys(services)))


# Endpoints that share an address may ask for different TTLs; the lowest is right for all of them (RFC 2181 §5.2).
def _each_once(addresses: Iterable[Addressed]) -> tuple[Addressed, ...]:
    lowest: dict[tuple[Type, Data], int] = {}
    for kind, ttl, data in addresses:
        lowest[kind, data] = min(ttl, lowest.get((kind, data), ttl))
    return tuple(Addressed(kind, ttl, data) for (kind, data), ttl in lowest.items())


class Wanted(NamedTuple):
    """What the proxies serve a name as: over http, over https too, as streams at these ports (0: that of https)."""

    http: bool = False
    https: bool = False
    streams: tuple[int, ...] = ()

    def also(self, other: Wanted) -> Wanted:
        """What either of two says."""
        streams = sorted({*self.streams, *other.streams})
        return Wanted(self.http or other.http, self.https or other.https, tuple(streams))


def wanted_of(members: Iterable[Placed]) -> Wanted:
    """As what the proxies serve these endpoints. PROXYDNS without a route means http, as it always has.

    gRPC is served over https too, and most of its clients speak nothing else.
    """
    routes = [placed.endpoint.route for placed in members]
    http = any(route is None or route.scheme in HTTP_SCHEMES for route in routes)
    https = any(route is not None and route.scheme in OVER_TLS for route in routes)
    streams = {route.port for route in routes if route is not None and route.scheme not in HTTP_SCHEMES}
    return Wanted(http, https, tuple(sorted(streams)))


def of_proxies(proxies: Proxies, wanted: Wanted, domain: bytes, proxy_name: bytes) -> Own:
    """The living proxies.

    Args:
        proxies: who lives.
        wanted: what they are asked for.
        domain: wire name; hosts are `<node>.node.<domain>`.
        proxy_name: wire name, under the domain, that stands for all proxies; tagged endpoints stand under it.
    """
    tagged = of_endpoints(proxies.tagged, proxy_name)
    ips = [ip for host in proxies.hosts for ip in host.addresses]
    addresses = [*addressed(ips, PROXY_TTL), *(one._replace(ttl=PROXY_TTL) for one in tagged.addresses)]
    services = [*_offered(proxies.hosts, domain, lambda host: _ports(host, wanted))]
    if wanted.http:
        services += [one._replace(ttl=PROXY_TTL) for one in tagged.services]
    bindings = bindings_of(proxies, domain, svcb.OWNER) if wanted.https else ()
    return Own(tuple(dict.fromkeys(addresses)), tuple(services), bindings)


def proxies_speaking(proxies: Proxies, scheme: str, domain: bytes, proxy_name: bytes) -> tuple[Offered, ...]:
    """The proxies at their ports for `http` or `https` alone; arguments as in of_proxies.

    A tagged endpoint speaks https at the container port that is assigned to it, and http at all others.
    """
    secure = scheme == "https"
    services = _offered(proxies.hosts, domain, lambda host: [host.https_port if secure else host.http_port])
    fitting = [placed for placed in proxies.tagged if (placed.endpoint.port == svcb.HTTPS_PORT) == secure]
    return (*services, *(one._replace(ttl=PROXY_TTL) for one in of_endpoints(fitting, proxy_name).services))


def bindings_of(proxies: Proxies, domain: bytes, name: bytes, port: int = 0) -> tuple[Binding, ...]:
    """Where a name is served over https (RFC 9460 §9).

    Args:
        proxies: who lives; those that serve no https are left out, and so is what is tagged, of which nobody knows.
        domain: as in of_proxies.
        name: target that has the addresses of all proxies; told when all serve alike, else each is told by its host.
        port: only proxies that serve at this port; 0: at whichever.
    """
    serving = [host for host in proxies.hosts if host.https_port and port in {0, host.https_port}]
    alike = len({(host.https_port, host.alpn) for host in serving}) == 1 and len(serving) == len(proxies.hosts)
    if alike and proxies.covers_tagged:
        return (Binding(1, name, _alpn(serving[0]), serving[0].https_port),)
    named = [(host_name(host.node, domain), host) for host in serving]
    return tuple(Binding(1, target, _alpn(host), host.https_port) for target, host in named if target is not None)


def _alpn(host: ProxyHost) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*host.alpn, DEFAULT_ALPN)))


def host_name(node: str, domain: bytes) -> bytes | None:
    """`<node>.node.<domain>`; None when that is too long for a name."""
    return under(node, b"\x04node" + domain)


def _offered(
    hosts: Iterable[ProxyHost], domain: bytes, ports: Callable[[ProxyHost], Iterable[int]]
) -> tuple[Offered, ...]:
    named = [(host_name(host.node, domain), host) for host in hosts]
    return tuple(
        Offered(PROXY_TTL, Service(DEFAULT_PRIORITY, DEFAULT_WEIGHT, port, target))
        for target, host in named
        if target is not None
        for port in ports(host)
        if port
    )


def _ports(host: ProxyHost, wanted: Wanted) -> list[int]:
    streams = [port or host.https_port for port in wanted.streams]
    return [*((host.http_port, host.https_port) if wanted.http else ()), *streams]
