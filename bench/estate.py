"""Made-up records of many hosts: what registrators would have written, for as many services as wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pilotfish.catalog import keys
from pilotfish.catalog.record import Address, Claim, Container, Endpoint, Node, encode
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.store import Entry, Reading

DOMAIN = "svc.internal"
HOSTS = 20
CONTAINER_PORT = 8080
PROXY_IP = "10.77.0.99"  # of the one proxy that serves them, where there is one
STARTED = 1_760_000_000.0  # any time will do; records carry one


class Estate(NamedTuple):
    """How much there is.

    Attributes:
        services: how many, named s00000, s00001 and so on.
        each: endpoints of each, on hosts in turn; one endpoint a container.
        proxied: whether the proxies serve them, under their names.
        first: number of the first service, so that two estates can stand side by side.
    """

    services: int
    each: int
    proxied: bool
    first: int = 0

    @property
    def numbers(self) -> range:
        """Numbers of its services."""
        return range(self.first, self.first + self.services)

    @property
    def endpoints(self) -> int:
        """All endpoints."""
        return self.services * self.each

    @property
    def text(self) -> str:
        """As an argument of a program, for `estate_of`."""
        return f"{self.services},{self.each},{'proxied' if self.proxied else 'plain'},{self.first}"

    def values(self) -> Iterator[tuple[str, bytes]]:
        """All keys with their values: hosts, containers, claims."""
        for host in range(HOSTS):
            yield keys.node_key(host_name(host)), encode(_node(host))
        yield from self.values_of_services()

    def values_of_services(self) -> Iterator[tuple[str, bytes]]:
        """The same without the hosts, which estates share."""
        for service in self.numbers:
            for one in range(self.each):
                made = container(self, service, one)
                yield keys.container_key(made.node, made.id), encode(made)
            if self.proxied:
                claim = Claim(service=service_name(service), since=STARTED + service)
                yield keys.claim_key(Place(f"{service_name(service)}.{DOMAIN}", "/")), encode(claim)

    def reading(self) -> Reading:
        """All of it as it would be read from a store, each key with a revision of its own."""
        numbered = enumerate(sorted(self.values()), 2)
        entries = tuple(Entry(key, value, revision, revision) for revision, (key, value) in numbered)
        return Reading("made-up", len(entries) + 1, entries)


def estate_of(text: str) -> Estate:
    """The estate that a text stands for.

    >>> estate_of(Estate(1000, 10, True, 5).text)
    Estate(services=1000, each=10, proxied=True, first=5)
    """
    services, each, how, first = text.split(",")
    return Estate(int(services), int(each), how == "proxied", int(first))


def service_name(service: int) -> str:
    """Name of the n-th service."""
    return f"s{service:05}"


def host_name(host: int) -> str:
    """Name of the n-th host; no lab has one of that name."""
    return f"far{host:02}"


def host_ip(host: int) -> str:
    """Address of the n-th host, which nobody has."""
    return f"10.77.{host}.1"


def container(estate: Estate, service: int, one: int, *, weight: int = 100) -> Container:
    """One container of a service with its one endpoint."""
    number = service * estate.each + one
    name, node = f"{service_name(service)}-{one}", number % HOSTS
    port = 20000 + number // HOSTS % 40000
    own = f"172.17.{number // 250 % 250}.{number % 250 + 2}"
    endpoint = Endpoint(
        service=service_name(service),
        id=f"{host_name(node)}:{name}:{CONTAINER_PORT}",
        label=label(service, one, node),
        port=CONTAINER_PORT,
        addresses=(Address(host_ip(node), port, "lan"), Address(own, CONTAINER_PORT, "node")),
        route=Route("http") if estate.proxied else None,
        state="passing",
        weight=weight,
    )
    return Container(
        node=host_name(node),
        id=f"{number:064x}",
        name=name,
        image="example/application:1.2.3",
        started=STARTED,
        observed=STARTED,
        endpoints=(endpoint,),
        exports=(keys.registry_all_key(endpoint.service, endpoint.id),),
    )


def container_here(node: str, service: str, number: int, port: int) -> Container:
    """The n-th container of a service that the proxies serve, with its one endpoint at a port of loopback."""
    name = f"{service}{number}"
    endpoint = Endpoint(
        service=service, id=f"{node}:{name}:80", label=f"{node}-{name}-80", port=80, state="passing",
        addresses=(Address("127.0.0.1", port, "node"),), route=Route("http"),
    )  # fmt: skip
    return Container(
        node=node, id=f"{number:064x}", name=name, image=service, started=1.0, observed=1.0, endpoints=(endpoint,)
    )


def label(service: int, one: int, node: int) -> str:
    """Instance label of an endpoint."""
    return f"{host_name(node)}-{service_name(service)}-{one}-{CONTAINER_PORT}"


def _node(host: int) -> Node:
    return Node(
        node=host_name(host), addresses=(host_ip(host),), boot="b", engine=f"e{host}", instance="i", version="1"
    )
