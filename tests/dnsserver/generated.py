"""Facts by chance, and the records of the store that say them; `zone_files` says the same in another way.

What is generated is plain: no question for it needs what only SkyDNS knows (data of a name from names below it, except
in groups of instances; wildcards in a question).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from pilotfish.catalog.record import Address, Claim, Endpoint, Record
from pilotfish.catalog.route import Place, Route
from tests.dnsserver.kit import container, lan, node, proxy

DOMAINS = ("svc.internal", "example.test")
REVERSE = "168.192.in-addr.arpa"
HOSTS = ("h1", "h2", "h3")
DEFAULT_TTL = 3600  # of foreign records, as World has it
NEGATIVE_TTL = 2
OWN = ("web", "api", "api.shop", "db.shop", "shop", "a.b.c", "apps", "x.web", "mail")
TAGS = ("tagged", "api", "www", "t.shop")
PROXIED = ("front", "www", "p.shop")
ROUTED = ("shop.svc.internal", "*.apps.svc.internal", "*.web.svc.internal", "*.svc.internal", "a.site.example.test",
          "svc.internal", "host")  # fmt: skip
FOREIGN = ("ext", "cache", "q.ext", "legacy", "old.legacy", "deep.er.ext", "x.apps", "y.x.apps", "note.web", "z.mail",
           "post", "*.dyn", "*.shop", "*.q.dyn")  # fmt: skip
INNER = frozenset({"A", "AAAA", "SRV", "TXT", "MX"})  # types that SkyDNS answers for names above a record


@dataclass
class Facts:
    """What is so, before anybody writes it down."""

    nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    proxies: dict[str, tuple[tuple[str, ...], int, int]] = field(default_factory=dict)
    endpoints: list[tuple[str, Endpoint]] = field(default_factory=list)  # with their host
    claims: dict[str, str] = field(default_factory=dict)  # host -> service that has it
    foreign: dict[str, list[dict[str, object]]] = field(default_factory=dict)  # name -> its record, or its instances
    remembered: set[str] = field(default_factory=set)  # names whose endpoints are gone


def facts(chance: random.Random, before: Facts | None = None) -> Facts:
    """Some facts. What came before them is gone, or much of it stays; its names are remembered."""
    made = _evolved(chance, before) if before is not None and chance.random() < 0.6 else _new(chance)
    if before is not None:
        made.remembered = (
            before.remembered
            | {name for name, _ in standing(before)}
            | {endpoint.service for _, endpoint in before.endpoints}
        )
    return made


def _new(chance: random.Random) -> Facts:
    made = Facts()
    for at, host in enumerate(HOSTS, start=1):
        if host == "h1" or chance.random() < 0.6:
            made.nodes[host] = tuple(chance.sample([f"192.168.0.{at}", f"192.168.{at}.9", f"fd00::{at}"], k=2))
    _proxies(made, chance)
    _endpoints(made, chance)
    _claims(made, chance)
    _foreign(made, chance)
    return made


def _evolved(chance: random.Random, before: Facts) -> Facts:
    made = Facts(nodes=dict(before.nodes), proxies=dict(before.proxies))
    if chance.random() < 0.3:
        made.proxies.clear()
        _proxies(made, chance)
    for host, endpoint in before.endpoints:
        if chance.random() < 0.3:
            changed = [
                {"state": chance.choice(["passing", "failing"])},
                {"route": None if endpoint.protocol == "udp" else _route(chance)},
                {"dns": chance.choice([None, (chance.choice(TAGS),)])},
            ]
            made.endpoints.append((host, msgspec.structs.replace(endpoint, **chance.choice(changed))))
        elif chance.random() < 0.9:
            made.endpoints.append((host, endpoint))
    made.claims = {host: service for host, service in before.claims.items() if chance.random() < 0.85}
    _claims(made, chance)
    made.foreign = {name: held for name, held in before.foreign.items() if chance.random() < 0.8}
    return made


def _proxies(made: Facts, chance: random.Random) -> None:
    for host in made.nodes:
        if chance.random() < 0.6:
            ports = chance.choice([(80, 443), (8080, 0), (80, 0), (80, 8443), (80, 443)])
            made.proxies[host] = (made.nodes[host][:1], *ports)


def _endpoints(made: Facts, chance: random.Random) -> None:
    for number in range(chance.randrange(1, 9)):
        host = chance.choice(list(made.nodes))
        reached = chance.sample(
            [lan(f"192.168.0.{host[1]}", 32000 + number), lan(f"fd00::{host[1]}", 32000 + number),
             Address(f"172.17.0.{number}", 80, "node")],
            k=chance.randrange(1, 4),
        )  # fmt: skip
        protocol = chance.choice(["tcp", "tcp", "udp"])
        port = chance.choice([80, 53, 9200])
        name = f"{host}:c{number}:{port}" + (":udp" if protocol == "udp" else "")
        dns = None if chance.random() < 0.7 else tuple(chance.sample(TAGS, k=chance.randrange(3)))
        made.endpoints.append((host, Endpoint(
            service=chance.choice(OWN), id=name, label=name.replace(":", "-"), port=port, protocol=protocol,
            addresses=tuple(reached), dns=dns, route=_route(chance) if protocol == "tcp" else None,
            proxydns=(chance.choice(PROXIED),) if chance.random() < 0.15 else (),
            state=chance.choice(["passing"] * 5 + ["starting", "failing", "draining"]),
            weight=chance.choice([100, 100, 1, 0, 65535]), priority=chance.choice([10, 10, 0, 20]),
            ttl=chance.choice([0, 0, 7, 60]),
        )))  # fmt: skip


def _route(chance: random.Random) -> Route | None:
    what = chance.random()
    if what < 0.65:
        return None
    if what < 0.75:
        return Route(scheme="tcp", port=chance.choice([5432, 6379]))
    scheme = chance.choice(["http", "http", "https"])
    if what < 0.85:
        return Route(scheme=scheme)
    return Route(scheme=scheme, hosts=tuple(chance.sample(ROUTED, k=chance.randrange(1, 3))))


# A claim is what a registrator takes for a route before it publishes it; some are left over.
def _claims(made: Facts, chance: random.Random) -> None:
    for _, endpoint in made.endpoints:
        for host in hosts_of(endpoint):
            if chance.random() < 0.8:
                made.claims.setdefault(host, endpoint.service)
    if chance.random() < 0.2:
        made.claims.setdefault("gone.svc.internal", "nobody")


def hosts_of(endpoint: Endpoint) -> list[str]:
    """The hosts that an endpoint's route asks for."""
    if endpoint.route is None:
        return []
    absolute = [host for host in endpoint.route.hosts if "." in host]
    relative = [host for host in endpoint.route.hosts if "." not in host] + list(endpoint.proxydns)
    if not absolute and not relative:
        relative = [endpoint.service]
    return absolute + [f"{name}.{domain}" for name in relative for domain in DOMAINS]


def _foreign(made: Facts, chance: random.Random) -> None:
    names = [name for name in FOREIGN if "*" not in name]
    targets = [f"{name}.svc.internal" for name in (*OWN, *names, "nope", "x.dyn")] + ["www.example.com"]
    for name in FOREIGN:
        domain = chance.choice(DOMAINS)
        kind = chance.random()
        full, common = f"{name}.{domain}", {"ttl": chance.choice([0, 5, 90])}
        if kind < 0.2:
            mail = {"mail": True, "priority": 5} if chance.random() < 0.4 else {}
            made.foreign[full] = [{"host": chance.choice(["10.1.0.1", "fd00:1::1"]), "port": 80, **mail, **common}]
        elif kind < 0.4:
            made.foreign[full] = [{"host": chance.choice(targets), **common}]
        elif kind < 0.5:
            made.foreign[full] = [{"text": chance.choice(["hello", "x" * 300]), **common}]
        elif kind < 0.65 and "*" not in name:
            made.foreign[full] = [
                {"host": chance.choice(["10.1.1.", "fd00:1:1::"]) + str(at), "port": 8000 + at,
                 "priority": chance.choice([0, 20]), "weight": chance.choice([0, 1, 7, 300]),
                 "mail": at == 1, **common}
                for at in range(1, chance.randrange(3, 5))
            ]  # fmt: skip


# --- the facts as records of the store


def records(made: Facts) -> Iterator[tuple[Record, Place | None]]:
    """What registrators and proxies would write."""
    yield from ((node(host, *ips), None) for host, ips in made.nodes.items())
    yield from ((proxy(host, *ips, http=http, https=https), None) for host, (ips, http, https) in made.proxies.items())
    for number, (host, endpoint) in enumerate(made.endpoints, start=1):
        yield container(number, endpoint, host=host), None
    for host, service in made.claims.items():
        yield Claim(service=service, since=1.0), Place(host, "/")


def skydns(made: Facts) -> dict[str, str]:
    """What others would write: key below /skydns/ -> JSON."""
    found = {}
    for name, held in made.foreign.items():
        path = "/".join(reversed(name.split(".")))
        for at, record in enumerate(held, start=1):
            found[path if len(held) == 1 else f"{path}/i{at}"] = json.dumps(record)
    return found


# --- what follows from the facts


def standing(made: Facts) -> Iterator[tuple[str, tuple[int, Endpoint]]]:
    """Every name with an endpoint behind it: 3 proxied, 2 tagged, 1 by its service."""
    for _, endpoint in made.endpoints:
        proxied = {*endpoint.proxydns}
        if endpoint.route:
            proxied |= {endpoint.service, *(host for host in endpoint.route.hosts if "." not in host)}
        others = {endpoint.service: 1} if endpoint.dns is None else dict.fromkeys(endpoint.dns, 2)
        yield from ((name, (3, endpoint)) for name in sorted(proxied))
        yield from ((name, (how, endpoint)) for name, how in others.items() if name not in proxied)


def behind(made: Facts, name: str) -> list[tuple[int, Endpoint]]:
    return sorted((found for its, found in standing(made) if its == name), key=lambda one: one[1].id)


def is_inner(made: Facts, name: str) -> bool:
    """True for names above other people's records: a question for them finds these."""
    return any(one.endswith(f".{name}") for one in made.foreign)


def alias_of(made: Facts, name: str) -> str | None:
    """What a name stands for; None unless it is an alias."""
    held = made.foreign.get(name, [])
    host = str(held[0].get("host", "")) if len(held) == 1 else ""
    return host if host and ":" not in host and not host[0].isdigit() else None
