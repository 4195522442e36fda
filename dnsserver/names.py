"""Whose name is it: from the endpoints that stand behind a name, and the living proxies, to addresses and services.

Pure. A registrator cannot know what another host tagged, so the reader judges over all hosts:

| the name's endpoints                      | A, AAAA                          | SRV                              |
| ----------------------------------------- | -------------------------------- | -------------------------------- |
| any is proxied, or PROXYDNS names it      | the living proxies               | the proxies, at their ports      |
| none proxied, tagged DNS                  | the endpoints tagged for it      | those, each with its port        |
| none proxied, no DNS tag                  | all its endpoints                | all, each with its port          |

`<label>.<name>` is an instance, `_<port>._<proto>.<name>` the ports themselves. Only addresses of scope `lan` are
given: a DNS server does not know on which host the one who asks lives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dnsserver import dname, rr
from dnsserver.dname import BadName
from dnsserver.rr import Data, Service, Type
from pilotfish.catalog.record import DEFAULT_PRIORITY, DEFAULT_WEIGHT, Endpoint, Proxy
from pilotfish.catalog.route import HTTP_SCHEMES
from pilotfish.catalog.verdict import How, Placed, judge, published

ENDPOINT_TTL = 5  # seconds; endpoints come and go, and a client that keeps a dead one waits for a timeout
PROXY_TTL = 10  # seconds; proxies live longer than what they serve


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
        depends: names (or marks) whose change changes this; the name itself is not among them.
        yields: foreign records at or below the name go first.
    """

    addresses: tuple[Addressed, ...] = ()
    services: tuple[Offered, ...] = ()
    depends: frozenset[bytes] = frozenset()
    yields: bool = False

    @property
    def empty(self) -> bool:
        """True when there is neither an address nor a service."""
        return not self.addresses and not self.services


class View(NamedTuple):
    """All endpoints that stand behind one name, in whatever state, as questions ask for them.

    Attributes:
        how: how they stand: the highest of all.
        members: those that stand so, sorted by id.
        labels: instance label -> endpoints.
        ports: (container port, protocol) -> endpoints.
    """

    how: How
    members: tuple[Placed, ...]
    labels: dict[str, list[Placed]]
    ports: dict[tuple[int, str], list[Placed]]


def view_of(standing: Sequence[tuple[How, Placed]]) -> View:
    """Arrange what stands behind a name; `standing` is not empty."""
    how = max(its for its, _ in standing)
    labels: dict[str, list[Placed]] = {}
    ports: dict[tuple[int, str], list[Placed]] = {}
    for _, placed in standing:
        endpoint = placed.endpoint
        labels.setdefault(endpoint.label, []).append(placed)
        ports.setdefault((endpoint.port, endpoint.protocol), []).append(placed)
    return View(how, tuple(placed for its, placed in standing if its is how), labels, ports)


class ProxyHost(NamedTuple):
    """A living proxy as clients reach it: its host, addresses and ports (0: not served)."""

    node: str
    addresses: tuple[str, ...]
    http_port: int
    https_port: int


class Proxies(NamedTuple):
    """All living proxies: those that registered themselves, and endpoints that carry the proxies' name as a DNS tag."""

    hosts: tuple[ProxyHost, ...] = ()
    tagged: tuple[Placed, ...] = ()


def proxy_host(proxy: Proxy) -> ProxyHost:
    """What of a proxy's record matters to names; the generation it serves, which changes often, does not."""
    return ProxyHost(proxy.node, proxy.addresses, proxy.http_port, proxy.https_port)


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
            weight = judge(endpoint).weight
            services += [
                Offered(ttl, Service(endpoint.priority, weight, port, target))
                for port in dict.fromkeys(port for _, port in reached)
            ]
    return Own(tuple(dict.fromkeys(addresses)), tuple(dict.fromkeys(services)))


class Wanted(NamedTuple):
    """Which ports of the proxies a name is served at: those for HTTP, and ports of streams."""

    http: bool = True
    streams: tuple[int, ...] = ()


def wanted_of(members: Iterable[Placed]) -> Wanted:
    """At which ports the proxies serve these endpoints. PROXYDNS without a route means HTTP, as it always has."""
    routes = [placed.endpoint.route for placed in members]
    http = any(route is None or route.scheme in HTTP_SCHEMES for route in routes)
    streams = sorted({route.port for route in routes if route is not None and route.scheme not in HTTP_SCHEMES} - {0})
    return Wanted(http, tuple(streams))


def of_proxies(proxies: Proxies, wanted: Wanted, domain: bytes, proxy_name: bytes) -> Own:
    """The living proxies.

    Args:
        proxies: who lives.
        wanted: the ports asked for.
        domain: wire name; hosts are `<node>.node.<domain>`.
        proxy_name: wire name, under the domain, that stands for all proxies; tagged endpoints stand under it.
    """
    tagged = of_endpoints(proxies.tagged, proxy_name)
    ips = [ip for host in proxies.hosts for ip in host.addresses]
    addresses = [*addressed(ips, PROXY_TTL), *(one._replace(ttl=PROXY_TTL) for one in tagged.addresses)]
    services: list[Offered] = []
    for host in proxies.hosts:
        target = host_name(host.node, domain)
        if target is not None:
            services += [
                Offered(PROXY_TTL, Service(DEFAULT_PRIORITY, DEFAULT_WEIGHT, port, target))
                for port in _ports(host, wanted)
            ]
    if wanted.http:
        services += [one._replace(ttl=PROXY_TTL) for one in tagged.services]
    return Own(tuple(dict.fromkeys(addresses)), tuple(services))


def host_name(node: str, domain: bytes) -> bytes | None:
    """`<node>.node.<domain>`; None when that is too long for a name."""
    return under(node, b"\x04node" + domain)


def _ports(host: ProxyHost, wanted: Wanted) -> list[int]:
    http = [port for port in (host.http_port, host.https_port) if port] if wanted.http else []
    return [*http, *wanted.streams]
