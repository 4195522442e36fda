"""The blast-radius guard on real parts: an etcd that is emptied by hand, the DNS server, the proxy and its nginx."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from dnsserver.service import DnsService
from dnsserver.settings import DnsSettings
from lab.tools import Tools
from pilotfish import io_operate
from pilotfish.catalog import keys
from pilotfish.catalog.record import Address, Node
from pilotfish.catalog.telemetry import Telemetry
from pilotfish.io_operate import Asked
from tests.confgen.kit import DOMAIN, Backend, claim, container, endpoint, get, key_of, kill_nginx, put, until
from tests.confgen.kit import Running as Proxy
from tests.dnsserver.conftest import Running as Dns
from tests.parts.etcd_server import EtcdCluster
from tests.parts.etcd_stores import connected

COUNT = 12
WEB = f"web.{DOMAIN}"
DIALLED_S = 6.0  # two dials that are refused; each waits for its turn
NOTICED_S = 5.0


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="pf-"))
    path.chmod(0o755)
    yield path / "nginx"
    kill_nginx(path / "nginx")
    shutil.rmtree(path)


class Suite:
    """An etcd, a DNS server and a proxy on it, and containers of one service on one host."""

    def __init__(self, etcd, store, dns, proxy, backends):
        self.etcd, self.store, self.dns, self.proxy, self.backends = etcd, store, dns, proxy, backends

    def records(self, **fields):
        return [
            container(
                one.name,
                endpoint(
                    "web", name=one.name, route=True, addresses=(Address("127.0.0.1", one.port, "lan"),), **fields
                ),
            )
            for one in self.backends
        ]

    async def register(self):
        node = Node(node="h1", addresses=(), boot="b", engine="e", instance="i", version="1")
        await self.proxy.settle(put(node), claim("web", WEB), *map(put, self.records()))
        await until(lambda: self.in_dns == self.in_nginx == COUNT, "all are served")

    @property
    def in_dns(self):
        return sum(one.verdict.published for one in self.dns.service.responder.zone.own.registry.service("web"))

    @property
    def in_nginx(self):
        """Of the configuration that nginx has proved to serve."""
        state = self.proxy.state
        return sum(len(route["servers"]) for route in state["routes"] if route["host"] == WEB)

    @property
    def guards(self):
        """What the two parts say of their guards in /ready."""
        return [one.telemetry.ready.missing.get("guard", "") for one in (self.dns, self.proxy)]


@contextlib.asynccontextmanager
async def suite(folder, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster(tmp_path))
        store, reader = [await stack.enter_async_context(connected(etcd.urls)) for _ in range(2)]
        backends = [await stack.enter_async_context(Backend(f"b{number}")) for number in range(COUNT)]
        telemetry = Telemetry("dns", time.time)
        settings = DnsSettings(listen=(("127.0.0.1", 0),), domain=(DOMAIN,))
        dns = Dns(DnsService(settings, reader, telemetry), reader, telemetry)
        await dns.start()
        stack.push_async_callback(dns.stop)
        nginx = Tools(["lab"]).find("nginx")
        proxy = await stack.enter_async_context(Proxy(folder, nginx, store=store))
        made = Suite(etcd, store, dns, proxy, backends)
        await made.register()
        yield made


async def test_records_removed_by_hand_are_served_until_an_operator_releases_them(folder, tmp_path):
    """Those whose container has ended leave at once, in DNS and nginx alike."""
    async with suite(folder, tmp_path) as parts:
        parts.etcd.members[0].ctl("del", keys.CONTAINERS, "--prefix")
        assert (await parts.store.read(keys.CONTAINERS)).entries == ()
        await until(lambda: all("pilotfish release --guard" in one for one in parts.guards), "said", NOTICED_S)
        assert (parts.in_dns, parts.in_nginx) == (COUNT, COUNT)
        assert "NOERROR" in (await parts.dns.ask(WEB)).rcode
        assert (await get(parts.proxy.port, WEB)).status == 200
        for one in (parts.dns, parts.proxy):
            held = one.telemetry.registry.get_sample_value("pilotfish_guard_held", {"part": one.telemetry.part})
            assert (held, one.service.state()["guard_held"]) == (COUNT, COUNT)

        await parts.backends[0].__aexit__()
        await until(lambda: parts.in_dns == parts.in_nginx == COUNT - 1, "the one that ended is gone", DIALLED_S)

        said = []
        await io_operate.release_guard(parts.store, Asked(said.append))
        await until(lambda: parts.in_dns == parts.in_nginx == 0, "all are let go", NOTICED_S)
        assert parts.guards == ["", ""]
        assert len(said) == 1


async def test_records_that_come_back_are_held_no_longer(folder, tmp_path):
    async with suite(folder, tmp_path) as parts:
        parts.etcd.members[0].ctl("del", keys.CONTAINERS, "--prefix")
        await until(lambda: all(parts.guards), "held", NOTICED_S)
        await parts.proxy.write(*map(put, parts.records()))
        await until(lambda: parts.guards == ["", ""], "nothing is held", NOTICED_S)
        assert (parts.in_dns, parts.in_nginx) == (COUNT, COUNT)


async def test_a_project_that_is_taken_down_is_not_in_its_way(folder, tmp_path):
    """`docker compose down`: every container drains before its record goes."""
    async with suite(folder, tmp_path) as parts:
        records = parts.records()
        draining = [
            msgspec.structs.replace(
                one, endpoints=tuple(msgspec.structs.replace(each, state="draining") for each in one.endpoints)
            )
            for one in records
        ]
        await parts.proxy.write(*map(put, draining))
        await parts.proxy.write(deletes=list(map(key_of, records)))
        await until(lambda: parts.in_dns == parts.in_nginx == 0, "all are gone", NOTICED_S)
        assert parts.guards == ["", ""]
        assert parts.proxy.state["guard_held"] == 0
