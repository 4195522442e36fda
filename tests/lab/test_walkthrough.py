"""The seed's walkthrough on three real hosts: a web application is found by name and by URL, and goes the same way."""

from __future__ import annotations

import json
import time

import pytest

from lab.waiting import wait_until
from tests.lab.suite import (
    AFTER_LEASE_S,
    DOMAIN,
    ESTEST,
    LEASE_S,
    additional,
    answers,
    ask,
    network_of,
    page,
    run,
    running,
    served_by,
)
from tests.parts.aside import Aside
from tests.parts.checker import Sent, Serving, judge, text

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NAME = f"estest.{DOMAIN}"


def arguments(proxies, *more):
    return [*(part for proxy in proxies for part in ("--proxy", f"{proxy}:80")), "--host", NAME, *more]


async def test_walkthrough(fresh3, tmp_path):
    """One container is served everywhere within a second; three share the load; one stops, then a host dies."""
    one, two, three = fresh3.hosts
    proxies = [host.address for host in fresh3.hosts]
    with running(fresh3) as suite:
        began = time.monotonic()
        run(one, *ESTEST, name="estest1")
        wait_until(
            lambda: all(served_by(three, proxy, NAME, 1) == {"estest1"} for proxy in proxies),
            within_s=10,
            what="the page through all proxies",
        )
        print(f"docker run -> page through three proxies: {time.monotonic() - began:.2f} s")

        for host in fresh3.hosts:
            assert answers(host, NAME) == sorted(proxies)
        service = ask(three, f"_9300._tcp.{NAME}", "SRV")
        (record,) = service.answer[0]
        assert additional(service)[str(record.target)] == [one.address]
        port = one.docker(["port", "estest1", "9300/tcp"]).stdout.split()[0].rpartition(":")[2]
        assert record.port == int(port)

        run(two, *ESTEST, name="estest2")
        run(three, *ESTEST, name="estest3")
        everybody = {"estest1", "estest2", "estest3"}
        for proxy in proxies:
            wait_until(
                lambda proxy=proxy: served_by(one, proxy, NAME, 12) == everybody,
                within_s=10,
                what=f"all three behind {proxy}",
            )
        assert len(answers(one, f"_9200._tcp.{NAME}", "SRV")) == 3

        log = tmp_path / "stop.log"
        load = Aside("tests.parts.checker", arguments(proxies, "--workers", "4", "--rate", "200"), log,
                     prefix=network_of(one))  # fmt: skip
        async with load:
            await load.until_answered(200)
            one.docker(["stop", "-t", "5", "estest1"])
            stopped = time.monotonic()
            await load.until_answered(400)
        verdict = judge(load.rows(Sent), [Serving("estest1", until=stopped), "estest2", "estest3"])
        assert verdict.bad == 0, text(verdict)
        wait_until(lambda: len(answers(two, f"_9200._tcp.{NAME}", "SRV")) == 2, within_s=5, what="estest1 to leave DNS")

        log = tmp_path / "crash.log"
        alive = [one.address, two.address]
        load = Aside("tests.parts.checker", arguments(alive, "--workers", "4", "--rate", "200"), log,
                     prefix=network_of(one))  # fmt: skip
        bound_s = 2 * LEASE_S + AFTER_LEASE_S  # its etcd member may have been the leader, which renews all leases
        async with load:
            await load.until_answered(200)
            crashed = time.monotonic()
            three.crash()
            cut_by = time.monotonic()
            wait_until(
                lambda: len(answers(two, f"_9200._tcp.{NAME}", "SRV")) == 1 and answers(one, NAME) == sorted(alive),
                within_s=bound_s,
                what="the dead host's endpoints and proxy to leave DNS",
            )
            gone = time.monotonic()
            wait_until(lambda: served_by(one, two.address, NAME, 6) == {"estest2"}, within_s=5, what="estest3 to leave")
            await load.until_answered(200)
        rows = load.rows(Sent)
        in_flight = [row for row in rows if row.at <= cut_by and row.at + row.took_s >= crashed]  # while it died
        rest = [row for row in rows if row not in in_flight]
        verdict = judge(rest, ["estest2", Serving("estest3", until=gone)], bound_s=2.0)
        print(
            f"host dead -> out of DNS: {gone - crashed:.2f} s; others than {len(in_flight)} in flight: {text(verdict)}"
        )
        assert verdict.bad == 0, text(verdict)
        lost = judge(in_flight, ["estest2", "estest3"])
        assert lost.bad <= 4, text(lost)  # one for each worker of the load, at most
        assert suite.ready(two, "confgen")


def test_keys_in_etcd(fresh3):
    """The keys of the seed's worked example are there, with our labels and the proxy's own port."""
    one = fresh3.hosts[0]
    with running(fresh3):
        run(one, *ESTEST, name="estest_1")
        ports = {}
        for inside in ("9200", "9300"):
            ports[inside] = one.docker(["port", "estest_1", f"{inside}/tcp"]).stdout.split()[0].rpartition(":")[2]
        wait_until(lambda: fresh3.etcd.get("/reg/proxy/"), within_s=10, what="the exports")
        found = fresh3.etcd.get("/reg/") | fresh3.etcd.get("/skydns/")

    reached = {inside: f"{one.address}:{port}" for inside, port in ports.items()}
    assert {key: value for key, value in found.items() if key.startswith("/reg/")} == {
        "/reg/proxy/http/estest/docker01:estest_1:9200": reached["9200"],
        "/reg/all/estest/docker01:estest_1:9200": reached["9200"],
        "/reg/all/estest/docker01:estest_1:9300": reached["9300"],
    }
    (key,) = [key for key in found if key.startswith("/skydns/")]
    assert key.startswith("/skydns/internal/svc/estest/docker01-estest-1-9200-")
    assert json.loads(found[key]) == {"host": f"proxy.{DOMAIN}", "port": 80, "pilotfish": "docker01"}


SEED_TEMPLATES = {
    "ETCD_TMPL_PROXY": "{{if .Attrs.proxy}}/reg/proxy/{{.Attrs.proxy}}/{{.Name}}/{{.ID}}"
    " {{.Published.HostIP}}:{{.Published.HostPort}}{{end}}",
    "ETCD_TMPL_SKYDNS": "{{if .Attrs.dns}}/skydns/local/localnet/{{.Attrs.dns}}/{{.ID}}"
    ' {"host":"{{.Published.HostIP}}","port":{{.Published.HostPort}}}{{end}}',
    "ETCD_TMPL_PROXYDNS": "{{if .Attrs.proxydns}}/skydns/local/localnet/{{.Attrs.proxydns}}/{{.ID}}"
    ' {"host":"ngconfd.localnet.local","port":{{.Published.HostPort}}}{{end}}',
    "ETCD_TMPL_ALL": "/reg/all/{{.Name}}/{{.ID}} {{.Published.HostIP}}:{{.Published.HostPort}}",
}


def test_seed_templates_write_exactly_the_seeds_keys(fresh3):
    """With the seed's own key templates, its keys and values are there and no other export."""
    one = fresh3.hosts[0]
    domain = ("--domain", "localnet.local")
    with running(fresh3, registrator=domain, dns=domain, confgen=domain) as suite:
        suite.process(one, "registrator").terminate()
        suite.start(one, "registrator", env=SEED_TEMPLATES)
        suite.wait_ready(one)
        run(one, *ESTEST, name="estest_1")
        ports = {}
        for inside in ("9200", "9300"):
            ports[inside] = one.docker(["port", "estest_1", f"{inside}/tcp"]).stdout.split()[0].rpartition(":")[2]
        reached = {inside: f"{one.address}:{port}" for inside, port in ports.items()}
        expected = {
            "/reg/proxy/http/estest/docker01:estest_1:9200": reached["9200"],
            "/skydns/local/localnet/estest/docker01:estest_1:9200": '{"host":"ngconfd.localnet.local","port":'
            + ports["9200"]
            + "}",
            "/reg/all/estest/docker01:estest_1:9200": reached["9200"],
            "/reg/all/estest/docker01:estest_1:9300": reached["9300"],
        }
        wait_until(
            lambda: fresh3.etcd.get("/reg/") | fresh3.etcd.get("/skydns/") == expected,
            within_s=10,
            what="the seed's keys",
        )
        name = "estest.localnet.local"
        wait_until(lambda: isinstance(page(one, one.address, name), dict), within_s=10, what=f"http://{name}/")
        assert answers(one, name) == sorted(host.address for host in fresh3.hosts)
