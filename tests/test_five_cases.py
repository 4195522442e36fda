"""From tags to answers: the five cases for which a name must be judged over all hosts, each through every part.

A row gives the containers of two hosts as `docker inspect` shows them. They go through the registrator's decision, its
claims and its exports, then as records into the DNS server and into the proxy of each host; nothing is made by hand.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest

from pilotfish.catalog.keys import claim_key
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Claim, Container, decode
from pilotfish.catalog.route import Reserved
from pilotfish.catalog.store import Entry, Put
from pilotfish.catalog.verdict import judge
from registrator.rules.exports import judge_exports
from registrator.settings import RegistratorSettings
from registrator.writing.around import Around
from registrator.writing.claims import Held, plan_claims
from tests.confgen.kit import Catalog, put
from tests.dnsserver.kit import DOMAIN, World, node, proxy
from tests.registrator.builders import decide

HOSTS = {"h1": "192.168.0.1", "h2": "192.168.0.2"}
SETTINGS = RegistratorSettings()
PROXIES = sorted(HOSTS.values())
PROXY = f"proxy.{DOMAIN}:80"


class Case(NamedTuple):
    """What runs, and what follows.

    Attributes:
        containers: host -> documents, as `builders.document` takes them.
        addresses: name -> its A records.
        services: name -> its SRV records as "port target".
        routes: host of a URL -> servers by the proxy's host; empty: nothing is proxied.
        skydns: SkyDNS exports below /skydns/internal/svc/ -> "host:port".
        notice: that the admin is given, in part; empty: none.
    """

    containers: dict[str, list[dict]]
    addresses: dict[str, list[str]]
    services: dict[str, list[str]]
    routes: dict[str, dict[str, list[str]]]
    skydns: dict[str, str]
    notice: str = ""


def replica(number: int, host_port: int, **more) -> dict:
    """One container of the compose service `web` of project `shop`, all tagged alike."""
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", **more.pop("labels", {})}
    mark = f"{number:x}"
    networks = {"shop_default": f"172.18.0.{number + 1}"}
    return {"name": f"shop-web-{number}", "id_": mark * 64, "ports": {"80/tcp": host_port}, "labels": labels,
            "mode": "shop_default", "networks": networks, **more}  # fmt: skip


SCALED = {"h1": [replica(1, 32001), replica(2, 32002)], "h2": [replica(3, 32003)]}
CASES = {
    "proxied and plain port in one container": Case(
        {
            "h1": [
                {
                    "name": "es",
                    "ports": {"9200/tcp": 49153, "9300/tcp": 49154},
                    "env": ["SERVICE_NAME=estest", "SERVICE_9200_PROXY=http", "SERVICE_9200_PROXYDNS=estest"],
                }
            ]
        },
        addresses={"estest": PROXIES, "h1-es-9300.estest": ["192.168.0.1"]},
        services={
            "_9200._tcp.estest": ["49153 h1-es-9200.estest"],
            "_9300._tcp.estest": ["49154 h1-es-9300.estest"],
            "estest": ["80 h1.node", "80 h2.node"],
        },
        routes={"estest": {"h1": ["172.17.0.2:9200"], "h2": ["192.168.0.1:49153"]}},
        skydns={"estest/h1-es-9200": PROXY},
    ),
    "proxied on one host, plain on the other": Case(
        {
            "h1": [{"ports": {"80/tcp": 32001}, "env": ["SERVICE_NAME=app", "SERVICE_80_PROXY=http"], "id_": "1" * 64}],
            "h2": [{"ports": {"80/tcp": 32002}, "env": ["SERVICE_NAME=app"], "id_": "2" * 64}],
        },
        addresses={"app": PROXIES},
        services={"_80._tcp.app": ["32001 h1-c-80.app", "32002 h2-c-80.app"], "app": ["80 h1.node", "80 h2.node"]},
        routes={"app": {"h1": ["172.17.0.2:80"], "h2": ["192.168.0.1:32001"]}},
        skydns={"app/h1-c-80": PROXY},
    ),
    "DNS and PROXYDNS for one name": Case(
        {
            "h1": [
                {
                    "ports": {"80/tcp": 32001},
                    "env": ["SERVICE_NAME=app", "SERVICE_PROXY=http", "SERVICE_DNS=x", "SERVICE_PROXYDNS=x"],
                }
            ]
        },
        addresses={"x": PROXIES, "app": PROXIES},
        services={"_80._tcp.x": ["32001 h1-c-80.x"], "x": ["80 h1.node", "80 h2.node"]},
        routes={"x": {"h1": ["172.17.0.2:80"], "h2": ["192.168.0.1:32001"]}},
        skydns={"x/h1-c-80": PROXY, "app/h1-c-80": PROXY},
        notice="both DNS and PROXYDNS name x: the proxies win",
    ),
    "several eligible ports under a generic PROXY": Case(
        {
            "h1": [
                {"ports": {"80/tcp": 32001, "81/tcp": 32002}, "env": ["SERVICE_NAME=multi", "SERVICE_PROXY=http"]},
            ]
        },
        addresses={"multi": ["192.168.0.1"]},
        services={
            "_80._tcp.multi": ["32001 h1-c-80.multi"],
            "_81._tcp.multi": ["32002 h1-c-81.multi"],
            "multi": ["32001 h1-c-80.multi", "32002 h1-c-81.multi"],
        },
        routes={},
        skydns={"multi/h1-c-80": "192.168.0.1:32001", "multi/h1-c-81": "192.168.0.1:32002"},
        notice="SERVICE_PROXY='http': applies to none of 80/tcp, 81/tcp: name the port, as in SERVICE_80_PROXY=http",
    ),
    "a compose-scaled service": Case(
        {
            host: [{**one, "labels": {**one["labels"], "SERVICE_TAGS": "x"}} for one in of]
            for host, of in SCALED.items()
        },
        addresses={"web.shop": PROXIES, "h1-shop-web-2-80.web.shop": ["192.168.0.1"]},
        services={
            "web.shop": [f"3200{n} {host}-shop-web-{n}-80.web.shop" for n, host in ((1, "h1"), (2, "h1"), (3, "h2"))]
        },
        routes={},
        skydns={
            "shop/web/h1-shop-web-1-80": "192.168.0.1:32001",
            "shop/web/h1-shop-web-2-80": "192.168.0.1:32002",
            "shop/web/h2-shop-web-3-80": "192.168.0.2:32003",
        },
    ),
    "a compose-scaled service, proxied": Case(
        {
            host: [{**one, "labels": {**one["labels"], "SERVICE_PROXY": "http"}} for one in of]
            for host, of in SCALED.items()
        },
        addresses={"web.shop": PROXIES},
        services={
            "web.shop": ["80 h1.node", "80 h2.node"],
            "_80._tcp.web.shop": [
                f"3200{n} {host}-shop-web-{n}-80.web.shop" for n, host in ((1, "h1"), (2, "h1"), (3, "h2"))
            ],
        },
        routes={
            "web.shop": {
                "h1": ["172.18.0.2:80", "172.18.0.3:80", "192.168.0.2:32003"],
                "h2": ["172.18.0.4:80", "192.168.0.1:32001", "192.168.0.1:32002"],
            }
        },
        skydns={f"shop/web/{host}-shop-web-{n}-80": PROXY for n, host in ((1, "h1"), (2, "h1"), (3, "h2"))},
    ),
    "a compose-scaled service with nginx-proxy's variables": Case(
        {
            host: [{**one, "env": ["VIRTUAL_HOST=a.example.com", "HTTPS_METHOD=nohttps"]} for one in of]
            for host, of in SCALED.items()
        },
        addresses={"web.shop": PROXIES},
        services={"web.shop": ["80 h1.node", "80 h2.node"]},
        routes={
            "a.example.com/": {
                "h1": ["172.18.0.2:80", "172.18.0.3:80", "192.168.0.2:32003"],
                "h2": ["172.18.0.4:80", "192.168.0.1:32001", "192.168.0.1:32002"],
            }
        },
        skydns={f"shop/web/{host}-shop-web-{n}-80": PROXY for n, host in ((1, "h1"), (2, "h1"), (3, "h2"))},
    ),
}


class Estate:
    """What two registrators write for a case, and what they say about it; every container is ready."""

    def __init__(self, case: Case) -> None:
        self.records: list[Container] = []
        self.notices: list[str] = []
        for host, documents in case.containers.items():
            for document in documents:
                made = decide(host=(host, (HOSTS[host],)), **document)
                assert made.left_out == ()
                ready = tuple(msgspec.structs.replace(one, state="passing") for one in made.container.endpoints)
                self.records.append(msgspec.structs.replace(made.container, endpoints=ready))
                self.notices += made.notices
        self.claims = self._claims()

    def _claims(self) -> dict[str, bytes]:
        """Each container claims in turn, as its registrator does before it writes the record."""
        held, written = {}, {}
        for record in self.records:
            steps, conflicts = plan_claims(record.endpoints, held, Reserved(SETTINGS.domain, ()), 1.0)
            assert conflicts == ()
            for step in steps:
                assert isinstance(step.operation, Put)
                assert step.operation.key == claim_key(step.place)
                written[step.operation.key] = step.operation.value
                held[step.place] = Held(decode(Claim, step.operation.value), 1)
        return written

    def entries(self) -> list[Entry]:
        """All of it, as it stands in the store."""
        claims = [Entry(key, value, 1, 1) for key, value in self.claims.items()]
        return [*claims, *(put(record) for record in self.records)]

    def skydns(self) -> dict[str, str]:
        """The SkyDNS exports of both hosts: key below our domain -> "host:port"."""
        around = Around()
        entries = {entry.key: entry for entry in self.entries()}
        around.apply(Difference(1, tuple(entries.values())), entries)
        found = {}
        for record in self.records:
            made = judge_exports(
                record,
                lambda one, record=record: judge(record, one),
                around.is_proxied,
                SETTINGS,
                (),
                is_tagged=around.is_tagged,
                proxy_port=around.proxy_port,
            )
            assert made.problems == ()
            found.update(made.keys)
        below = "/skydns/internal/svc/"
        said = {key[len(below) :]: msgspec.json.decode(value) for key, value in found.items() if key.startswith(below)}
        return {key: f"{one['host']}:{one['port']}" for key, one in said.items()}

    def dns(self) -> World:
        """A DNS server of any host."""
        world = World()
        world.put(*(one for host, ip in HOSTS.items() for one in (node(host, ip), proxy(host, ip, https=0))))
        for entry in self.entries():
            world.raw(entry.key, entry.value)
        return world

    def routes(self, host: str) -> dict[str, list[str]]:
        """What the proxy of a host serves: host of the URL -> servers."""
        catalog = Catalog(node=host, domains=SETTINGS.domain)
        catalog.feed(*self.entries())
        return {where.removesuffix(f".{DOMAIN}/"): sorted(servers) for where, (_, servers) in catalog.places().items()}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request) -> Case:
    return request.param


def test_dns_answers(case):
    world = Estate(case).dns()
    for name, addresses in case.addresses.items():
        assert sorted(row.split()[-1] for row in world.ask(f"{name}.{DOMAIN}").answer) == addresses, name
    for name, services in case.services.items():
        rows = [row.split()[-2:] for row in world.ask(f"{name}.{DOMAIN}", "SRV", tcp=True).answer]
        assert sorted(f"{port} {target.removesuffix(f'.{DOMAIN}.')}" for port, target in rows) == services, name


def test_routes_of_each_proxy(case):
    estate = Estate(case)
    for host in HOSTS:
        assert estate.routes(host) == {name: servers[host] for name, servers in case.routes.items()}, host


def test_exports_say_the_same(case):
    assert Estate(case).skydns() == case.skydns


def test_what_the_admin_is_told(case):
    assert [case.notice in notice for notice in Estate(case).notices] == [True] * bool(case.notice)
