"""Keys for others' eyes: the seed's worked example, the cases of names, and what is never exported."""

import json

import pytest

from pilotfish.catalog.verdict import How, Verdict
from registrator.rules.exports import exports, highest, judge_exports
from registrator.settings import RegistratorSettings
from tests.registrator.builders import IP, decide

SEED = RegistratorSettings(domain=("localnet.local",), proxy_name="ngconfd")
ESTEST = {
    "name": "estest_1",
    "image": "elasticsearch",
    "ports": {"9200/tcp": 49153, "9300/tcp": 49154},
    "env": ["SERVICE_NAME=estest", "SERVICE_9200_PROXY=http", "SERVICE_9200_PROXYDNS=estest"],
}
LABEL = "docker01-estest-1-9200-69ebcdb4"


def made(decided, settings=SEED, *, proxied=(), tagged=(), published=lambda _: True):
    return exports(
        decided.container,
        lambda one: Verdict(one.weight if published(one) else 0, ""),
        lambda name: name in proxied,
        settings,
        (),
        is_tagged=lambda name: name in tagged,
    )


def test_worked_example():
    """The seed's example: its keys, with two differences.

    The label is one DNS label, as an id with `:` and `_` is no host name; and the record of the proxied name carries
    the proxies' port, not the application's beside the proxies' name.
    """
    decided = decide(host=("Docker01", (IP,)), **ESTEST)

    assert made(decided) == {
        "/reg/proxy/http/estest/Docker01:estest_1:9200": "192.168.0.1:49153",
        f"/skydns/local/localnet/estest/{LABEL}": '{"host":"ngconfd.localnet.local","port":80,"pilotfish":"Docker01"}',
        "/reg/all/estest/Docker01:estest_1:9200": "192.168.0.1:49153",
        "/reg/all/estest/Docker01:estest_1:9300": "192.168.0.1:49154",
    }


def sky(decided, **judged):
    """SkyDNS exports under svc.internal as label.name -> host:port."""
    found = made(decided, RegistratorSettings(), **judged)
    top = "/skydns/internal/svc/"
    pairs = ((key[len(top) :], json.loads(value)) for key, value in found.items() if key.startswith(top))
    return {key: f"{value['host']}:{value['port']}" for key, value in pairs}


PROXY = "proxy.svc.internal:80"
CASES = [
    (
        "proxied and plain port in one container",
        {"ports": {"9200/tcp": 1, "9300/tcp": 2}, "env": ["SERVICE_NAME=es", "SERVICE_9200_PROXY=http"]},
        {},
        {"es/h-c-9200": PROXY},
    ),
    (
        "plain here, proxied on another host",
        {"ports": {"9300/tcp": 2}, "env": ["SERVICE_NAME=es"]},
        {"proxied": {"es"}},
        {},
    ),
    (
        "plain here, nobody proxies it",
        {"ports": {"9300/tcp": 2}, "env": ["SERVICE_NAME=es"]},
        {},
        {"es/h-c-9300": f"{IP}:2"},
    ),
    (
        "both tags on one name: the proxies win",
        {"ports": {"80/tcp": 1}, "env": ["SERVICE_NAME=es", "SERVICE_80_DNS=x", "SERVICE_80_PROXYDNS=x"]},
        {},
        {"x/h-c-80": PROXY},
    ),
    (
        "several eligible ports under a generic PROXY: none is proxied",
        {"ports": {"80/tcp": 1, "81/tcp": 2}, "env": ["SERVICE_NAME=es", "SERVICE_PROXY=http"]},
        {},
        {"es/h-c-80": f"{IP}:1", "es/h-c-81": f"{IP}:2"},
    ),
    (
        "a compose-scaled service",
        {
            "name": "shop-web-2",
            "ports": {"80/tcp": 1},
            "env": ["SERVICE_REGION=x"],
            "labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
        },
        {},
        {"shop/web/h-shop-web-2-80": f"{IP}:1"},
    ),
    (
        "one port tagged for the name, the other not",
        {"ports": {"80/tcp": 1, "81/tcp": 2}, "env": ["SERVICE_NAME=es", "SERVICE_80_DNS=es"]},
        {},
        {"es/h-c-80": f"{IP}:1"},
    ),
    (
        "another host's port is tagged for the name",
        {"ports": {"81/tcp": 2}, "env": ["SERVICE_NAME=es"]},
        {"tagged": {"es"}},
        {},
    ),
    (
        "several DNS names",
        {"ports": {"80/tcp": 1}, "env": ["SERVICE_DNS=a,B.c"]},
        {},
        {"a/h-c-80": f"{IP}:1", "c/b/h-c-80": f"{IP}:1"},
    ),
    ("silenced", {"ports": {"80/tcp": 1}, "env": ["SERVICE_DNS=none"]}, {}, {}),
    ("untagged", {"ports": {"80/tcp": 1}}, {}, {}),
    (
        "a stream: the proxies' port",
        {"ports": {"80/tcp": 1}, "env": ["SERVICE_NAME=es", "SERVICE_PROXY=tcp", "SERVICE_PROXY_PORT=5432"]},
        {},
        {"es/h-c-80": "proxy.svc.internal:5432"},
    ),
    (
        "a stream by its name: the port of https",
        {"ports": {"80/tcp": 1}, "env": ["SERVICE_NAME=es", "SERVICE_PROXY=tcp", "SERVICE_PROXY_HOST=a.test"]},
        {},
        {"es/h-c-80": "proxy.svc.internal:443"},
    ),
    (
        "IPv6",
        {"ports": {"80/tcp": ("fd00::9", 1)}, "env": ["SERVICE_NAME=es"]},
        {},
        {"es/h-c-80": "fd00::9:1"},
    ),
]


@pytest.mark.parametrize(("container", "judged", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_skydns(container, judged, expected):
    """What stands under each name, judged over all hosts."""
    assert sky(decide(**container), **judged) == expected


def test_every_domain():
    decided = decide(ports={"80/tcp": 1}, env=["SERVICE_NAME=Web"])

    keys = made(decided, RegistratorSettings(domain=("a.test", "b.c.test"), skydns_prefix="/dns/x"))
    assert [key for key in keys if not key.startswith("/reg")] == [
        "/dns/x/test/a/web/h-c-80",
        "/dns/x/test/c/b/web/h-c-80",
    ]


def test_skydns_fields():
    """Priority, weight and TTL are written only where they differ from the defaults."""
    env = ["SERVICE_NAME=web", "SERVICE_PRIORITY=20", "SERVICE_WEIGHT=5", "SERVICE_TTL=7"]
    keys = made(decide(ports={"80/tcp": 1}, env=env), RegistratorSettings())

    assert keys["/skydns/internal/svc/web/h-c-80"] == (
        '{"host":"192.168.0.1","port":1,"priority":20,"weight":5,"ttl":7,"pilotfish":"h"}'
    )


def test_untagged_ports_are_listed():
    assert made(decide(ports={"80/tcp": 1})) == {"/reg/all/redis/h:c:80": "192.168.0.1:1"}


def test_ipv6_is_bracketed():
    assert made(decide(ports={"80/tcp": ("fd00::9", 1)})) == {"/reg/all/redis/h:c:80": "[fd00::9]:1"}


HIDDEN = [
    ("loopback", {"ports": {"80/tcp": ("127.0.0.1", 1)}, "env": ["SERVICE_NAME=a"]}),
    ("unpublished but proxied", {"expose": ["80/tcp"], "env": ["SERVICE_80_PROXY=http"]}),
]


@pytest.mark.parametrize("container", [row[1] for row in HIDDEN], ids=[row[0] for row in HIDDEN])
def test_addresses_of_this_host_only_are_not_exported(container):
    decided = decide(**container)

    assert len(decided.container.endpoints) == 1
    assert made(decided) == {}


def test_only_published_endpoints_are_exported():
    """The verdict decides, also for /reg/all."""
    decided = decide(ports={"80/tcp": 1, "81/tcp": 2}, env=["SERVICE_NAME=web"])

    keys = made(decided, published=lambda one: one.port == 81)
    assert list(keys) == ["/reg/all/web/h:c:81", "/skydns/local/localnet/web/h-c-81"]


def test_names_too_long_for_dns_are_not_exported():
    """A service may be named up to the limit of DNS; with label and domain it is then no name."""
    name = ".".join(["a" * 50] * 4)
    keys = made(decide(name="c" * 40, ports={"80/tcp": 1}, env=[f"SERVICE_NAME={name}"]))

    assert list(keys) == [f"/reg/all/{name}/h:{'c' * 40}:80"]


def test_highest():
    """The strongest endpoint behind a name decides how it is answered."""
    decided = decide(ports={"80/tcp": 1, "81/tcp": 2}, env=["SERVICE_NAME=web", "SERVICE_80_PROXY=http"])

    assert highest(decided.container.endpoints) == {"web": How.PROXIED}


def test_no_problems_without_templates():
    decided = decide(ports={"80/tcp": 1})

    assert judge_exports(decided.container, lambda _: Verdict(1, ""), lambda _: False, SEED, ()).problems == ()
