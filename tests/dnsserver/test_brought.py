"""What a name brings with it: services by their names, HTTPS records, and the nearest endpoints first."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.answer import Authority, answer
from dnsserver.message import dname, svcb
from dnsserver.message.rr import Service, Type
from dnsserver.message.wire import Rcode, Reply
from dnsserver.own.names import MAX_PRIORITY, Offered, Own, in_front
from dnsserver.own.spoken import PORTS
from pilotfish.catalog.record import Container
from pilotfish.catalog.route import Route
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, http, lan, node, proxy

P1, P2 = "10.9.0.1", "10.9.0.2"
H1, H2, H3, H4 = "192.168.0.1", "192.168.0.2", "192.168.0.3", "192.168.0.4"
SECURE = Route(scheme="https")


def data(said, rtype: str) -> list[str]:
    return sorted(row.split(f" {rtype} ")[1].removesuffix(f".{DOMAIN}.") for row in said.answer)


def one(*endpoints) -> list[Container]:
    return [container(1, *endpoints)]


BY_NAME = {
    "plain, by its port": (one(endpoint("db", 5432, lan(H1, 32001))), "_postgresql._tcp.db", ["32001 h1-c-5432.db"]),
    "plain, http by its port": (one(endpoint("web", 80, lan(H1, 32001))), "_http._tcp.web", ["32001 h1-c-80.web"]),
    "in capitals": (one(endpoint("web", 80, lan(H1, 32001))), "_HTTP._TCP.WEB", ["32001 h1-c-80.web"]),
    "udp": (one(endpoint("ns", 53, lan(H1), protocol="udp")), "_domain._udp.ns", ["80 h1-c-53-udp.ns"]),
    "another protocol": (one(endpoint("ns", 53, lan(H1), protocol="udp")), "_domain._tcp.ns", None),
    "no such service": (one(endpoint("web", 80, lan(H1))), "_https._tcp.web", None),
    "no service of the table": (one(endpoint("web", 80, lan(H1))), "_nonsense._tcp.web", None),
    "another port": (one(endpoint("web", 8080, lan(H1))), "_http._tcp.web", None),
    "draining": (one(endpoint("web", 80, lan(H1), state="draining")), "_http._tcp.web", []),
    "tagged, http by its route": (
        one(endpoint("a", 8080, lan(H1, 32001), dns=("x",), route=http())),
        "_http._tcp.x",
        ["32001 h1-c-8080.x"],
    ),
    "tagged, https behind the proxy": (
        one(endpoint("a", 8443, lan(H1, 32001), dns=("x",), route=http(backend="https"))),
        "_https._tcp.x",
        ["32001 h1-c-8443.x"],
    ),
    "tagged, grpc": (
        one(endpoint("a", 9000, lan(H1, 32001), dns=("x",), route=Route(scheme="grpc", backend="grpc"))),
        "_grpc._tcp.x",
        ["32001 h1-c-9000.x"],
    ),
    "a stream says nothing of http": (
        one(endpoint("db", 9000, lan(H1), dns=("x",), route=Route(scheme="tcp", port=5432))),
        "_http._tcp.x",
        None,
    ),
    "proxied": (one(endpoint("app", 9000, lan(H1), route=http())), "_http._tcp.app", ["80 h1.node", "80 h2.node"]),
    "PROXYDNS": (one(endpoint("a", 9000, lan(H1), proxydns=("x",))), "_http._tcp.x", ["80 h1.node", "80 h2.node"]),
    "proxied, not over https": (one(endpoint("app", 9000, lan(H1), route=http())), "_https._tcp.app", None),
    "proxied over https": (
        one(endpoint("app", 9000, lan(H1), route=SECURE)),
        "_https._tcp.app",
        ["443 h1.node", "443 h2.node"],
    ),
    "proxied over https, http": (
        one(endpoint("app", 9000, lan(H1), route=SECURE)),
        "_http._tcp.app",
        ["80 h1.node", "80 h2.node"],
    ),
    "proxied, another service beside": (
        one(endpoint("app", 9000, lan(H1), route=http()), endpoint("app", 6379, lan(H1, 32002))),
        "_redis._tcp.app",
        ["32002 h1-c-6379.app"],
    ),
    "a stream": (
        one(endpoint("db", 5432, lan(H1, 32001), route=Route(scheme="tcp", port=5432))),
        "_postgresql._tcp.db",
        ["32001 h1-c-5432.db"],
    ),
    "all proxies": ([], "_http._tcp.proxy", ["80 h1.node", "80 h2.node"]),
    "between": (one(endpoint("app", 9000, lan(H1), route=http(), protocol="udp")), "_tcp.app", []),
    "no such name": ([], "_http._tcp.nope", None),
}


@pytest.mark.parametrize(("records", "name", "expected"), BY_NAME.values(), ids=BY_NAME.keys())
def test_service_names(records, name, expected):
    """`_<service>._<proto>.<name>`: the proxies if they serve it, else endpoints that speak it; None: NXDOMAIN."""
    world = World()
    world.put(node("h1", H1), node("h2", H2), proxy("h1", P1), proxy("h2", P2), *records)
    said = world.ask(f"{name}.{DOMAIN}", "SRV")
    assert said.rcode == ("NXDOMAIN" if expected is None else "NOERROR")
    assert data(said, "SRV") == [f"10 100 {row}" for row in expected or ()]
    assert world.ask(f"{name}.{DOMAIN}").answer == []


def test_a_host_that_is_claimed_has_service_names():
    """PROXY_HOST with a dot: `_http._tcp.<host>` leads to the proxies, and what is between exists."""
    world = World()
    world.put(proxy("h1", P1, http=8080), container(1, endpoint("app", 9000, lan(H1), route=http(f"a.b.{DOMAIN}"))))
    assert world.ask(f"_http._tcp.a.b.{DOMAIN}", "SRV").rcode == "NXDOMAIN"
    world.claim("app", f"a.b.{DOMAIN}")
    assert data(world.ask(f"_http._tcp.a.b.{DOMAIN}", "SRV"), "SRV") == ["10 100 8080 h1.node"]
    assert world.ask(f"_tcp.a.b.{DOMAIN}", "SRV").rcode == "NOERROR"
    world.remove(proxy("h1", P1))
    said = world.ask(f"_http._tcp.a.b.{DOMAIN}", "SRV")
    assert (said.rcode, said.answer) == ("NOERROR", [])


def test_tagged_proxies_speak_https_at_its_port_and_http_at_others():
    """The nginx of the seed registers its ports under the proxies' name."""
    world = World()
    ports = endpoint("nginx", 80, lan(H1, 80), dns=("proxy",)), endpoint("nginx", 443, lan(H1, 443), dns=("proxy",))
    world.put(container(1, *ports), container(2, endpoint("app", 9000, lan(H1), route=SECURE)))
    assert data(world.ask(f"_http._tcp.app.{DOMAIN}", "SRV"), "SRV") == ["10 100 80 h1-c-80.proxy"]
    assert data(world.ask(f"_https._tcp.app.{DOMAIN}", "SRV"), "SRV") == ["10 100 443 h1-c-443.proxy"]


def test_the_table_of_services_agrees_with_this_systems():
    """What the system's own table of services knows by these names has these ports."""
    table = Path("/etc/services")
    if not table.exists():
        pytest.skip("this system has no table of services")
    rows = [line.split("#")[0].split() for line in table.read_text(encoding="utf-8").splitlines()]
    known = {(row[0], int(row[1].split("/")[0])) for row in rows if len(row) > 1}
    named = {name for name, _ in known}
    assert {(name, port) for name, port in PORTS.items() if name in named} <= known


# --- HTTPS

SECURE_APP = container(1, endpoint("app", 9000, lan(H1), route=SECURE))
HTTPS = {
    "one proxy": ([proxy("h1", P1)], "app", ['1 . alpn="http/1.1"']),
    "proxies that are alike": ([proxy("h1", P1), proxy("h2", P2)], "app", ['1 . alpn="http/1.1"']),
    "another port": ([proxy("h1", P1, https=8443)], "app", ['1 . alpn="http/1.1" port="8443"']),
    "what a proxy speaks besides": ([proxy("h1", P1, alpn=("h2",))], "app", ['1 . alpn="h2,http/1.1"']),
    "no proxy serves https": ([proxy("h1", P1, https=0)], "app", []),
    "no proxy": ([], "app", []),
    "only one of two": (
        [proxy("h1", P1), proxy("h2", P2, https=0)],
        "app",
        ['1 h1.node.svc.internal. alpn="http/1.1"'],
    ),
    "at two ports": (
        [proxy("h1", P1), proxy("h2", P2, https=8443)],
        "app",
        ['1 h1.node.svc.internal. alpn="http/1.1"', '1 h2.node.svc.internal. alpn="http/1.1" port="8443"'],
    ),
    "under another port": (
        [proxy("h1", P1, https=8443)],
        "_8443._https.app",
        ['1 app.svc.internal. alpn="http/1.1" port="8443"'],
    ),
    "under another port, one of two": (
        [proxy("h1", P1), proxy("h2", P2, https=8443)],
        "_8443._https.app",
        ['1 h2.node.svc.internal. alpn="http/1.1" port="8443"'],
    ),
    "under a port that none has": ([proxy("h1", P1)], "_8443._https.app", []),
    "443 goes without saying": ([proxy("h1", P1)], "_443._https.app", []),
    "between": ([proxy("h1", P1)], "_https.app", []),
    "no port": ([proxy("h1", P1)], "_x._https.app", None),
    "port with zeros in front": ([proxy("h1", P1, https=8443)], "_08443._https.app", None),
    "proxied over http only": ([proxy("h1", P1)], "plain", []),
    "grpc": ([proxy("h1", P1, alpn=("h2",))], "rpc", ['1 . alpn="h2,http/1.1"']),
    "grpc under another port": (
        [proxy("h1", P1, https=8443)],
        "_8443._https.rpc",
        ['1 rpc.svc.internal. alpn="http/1.1" port="8443"'],
    ),
    "grpc where no proxy serves https": ([proxy("h1", P1, https=0)], "rpc", []),
    "not below that": ([proxy("h1", P1, https=8443)], "_8443._https.plain", None),
    "not proxied": ([proxy("h1", P1)], "db", []),
    "the proxies' own name": ([proxy("h1", P1)], "proxy", []),
    "a host": ([proxy("h1", P1)], "h1.node", []),
    "below a wildcard": ([proxy("h1", P1)], "any.wild", ['1 . alpn="http/1.1"']),
    "a claimed host": ([proxy("h1", P1)], "a.b", ['1 . alpn="http/1.1"']),
    "no such name": ([proxy("h1", P1)], "nope", None),
}


@pytest.mark.parametrize(("proxies", "name", "expected"), HTTPS.values(), ids=HTTPS.keys())
def test_https_records(proxies, name, expected):
    """What the proxies serve over https, and nothing where they do not, since browsers go by it; None: NXDOMAIN."""
    world = World()
    world.put(
        *proxies,
        SECURE_APP,
        container(2, endpoint("plain", 80, lan(H1), route=http())),
        container(3, endpoint("db", 443, lan(H1))),
        container(5, endpoint("rpc", 9000, lan(H1), route=Route("grpc", backend="grpc"))),
        container(4, endpoint("other", 80, lan(H1), route=Route("https", hosts=(f"*.wild.{DOMAIN}", f"a.b.{DOMAIN}")))),
    )
    for host in ("app", "*.wild", "a.b"):
        world.claim("app" if host == "app" else "other", f"{host}.{DOMAIN}")
    said = world.ask(f"{name}.{DOMAIN}", "HTTPS")
    assert said.rcode == ("NXDOMAIN" if expected is None else "NOERROR")
    assert sorted(row.split(" HTTPS ")[1] for row in said.answer) == (expected or [])
    assert all(row.split()[1] == "10" for row in said.answer)


@pytest.mark.parametrize(("proxies", "name", "expected"), HTTPS.values(), ids=HTTPS.keys())
def test_https_targets_resolve(proxies, name, expected):
    """Whatever a record leads to has addresses, those of proxies that serve https, and they come with it."""
    world = World()
    world.put(*proxies, SECURE_APP)
    said = world.ask(f"{name}.{DOMAIN}", "HTTPS")
    serving = {ip for one in proxies if one.https_port for ip in one.addresses}
    for row in said.answer:
        target = row.split()[4]
        found = world.ask(f"{name}.{DOMAIN}" if target == "." else target).answer
        assert found
        assert {row.split()[-1] for row in found} <= serving
        assert set(found) <= set(said.additional)


def test_https_comes_and_goes_with_the_proxies():
    """A proxy that begins to serve https, or stops, changes what was answered before."""
    world = World()
    world.put(proxy("h1", P1, https=0), SECURE_APP)
    names = (f"app.{DOMAIN}", f"_8443._https.app.{DOMAIN}")
    for _ in range(3):
        assert [world.ask(name, "HTTPS").answer for name in names] == [[], []]
    world.put(proxy("h1", P1, https=8443))
    assert [len(world.ask(name, "HTTPS").answer) for name in names] == [1, 1]
    world.put(proxy("h1", P1, https=0))
    assert [world.ask(name, "HTTPS").answer for name in names] == [[], []]


def test_a_tagged_proxy_of_which_nobody_knows_takes_the_name_from_the_record():
    """No record leads to an address that may serve no https; one that a proxy has anyway changes nothing."""
    world = World()
    world.put(proxy("h1", P1), SECURE_APP)
    world.put(container(8, endpoint("nginx", 80, lan(P1, 80), dns=("proxy",))))
    assert data(world.ask(f"app.{DOMAIN}", "HTTPS"), "HTTPS") == ['1 . alpn="http/1.1"']
    world.put(container(9, endpoint("nginx", 80, lan(H2, 80), host="h2", dns=("proxy",)), host="h2"))
    assert data(world.ask(f"app.{DOMAIN}", "HTTPS"), "HTTPS") == ['1 h1.node.svc.internal. alpn="http/1.1"']


def test_keys_of_a_binding_rise():
    """Parameters in rising order of their keys, each once (RFC 9460 §2.2)."""
    made = svcb.data(svcb.Binding(1, svcb.OWNER, ("h2", "http/1.1"), 8443))
    assert made.tail == b"\x00\x01\x00\x0c\x02h2\x08http/1.1" + b"\x00\x03\x00\x02\x20\xfb"


# --- nearest


WEB = [("h1", H1, 5), ("h2", H2, 10), ("h2", H3, 20), ("h3", H4, 7)]  # host, address, priority


def spread_world(at: str = "h2") -> World:
    """Endpoints on several hosts, seen from a server on one of them."""
    world = World(node=at)
    world.put(node("h1", H1), node("h2", H2), proxy("h1", P1), proxy("h2", P2))
    for n, (host, ip, priority) in enumerate(WEB):
        made = endpoint("web", 80, lan(ip, 32000 + n), host=host, name=f"c{n}", priority=priority)
        world.put(container(n, made, host=host))
    world.put(
        container(6, endpoint("app", 80, lan(H1), route=http())),
        container(7, endpoint("far", 80, lan(H1), name="c7")),
        container(8, endpoint("here", 80, lan(H2), lan(H3), host="h2"), host="h2"),
        container(9, endpoint("both", 80, lan(H1), lan("fd00::1"))),
        container(10, endpoint("both", 80, lan(H2), lan("fd00::2"), host="h2"), host="h2"),
        container(11, endpoint("db.shop", 80, lan(H2))),
        container(12, endpoint("gone", 80, lan(H2))),
    )
    world.remove(container(12))
    return world


def reply(world: World, name: str, rtype: str) -> Reply:
    """What is answered before it is written: the order of a finished answer turns."""
    return answer(world.responder.zone, dname.from_text(f"{name}.{DOMAIN}"), Type[rtype], Authority(1, 2)).reply


def addresses(found: Reply) -> list[str]:
    return [str(ipaddress.ip_address(record.data.head)) for record in found.answer]


NEAREST = {
    "a service": ("web", "A", {H2, H3}, {H1, H4}),
    "a service in capitals": ("WEB", "A", {H2, H3}, {H1, H4}),
    "a proxied name": ("app", "A", {P2}, {P1}),
    "all proxies": ("proxy", "A", {P2}, {P1}),
    "an instance": ("h2-c1-80.web", "A", set(), {H2}),
    "an instance elsewhere": ("h1-c0-80.web", "A", set(), {H1}),
    "nothing is near": ("far", "A", set(), {H1}),
    "everything is near": ("here", "A", set(), {H2, H3}),
    "another family": ("web", "AAAA", set(), set()),
    "six of one and half a dozen": ("both", "AAAA", {"fd00::2"}, {"fd00::1"}),
    "the one family": ("both", "A", {H2}, {H1}),
}


@pytest.mark.parametrize(("name", "rtype", "near", "far"), NEAREST.values(), ids=NEAREST.keys())
def test_nearest_addresses(name, rtype, near, far):
    """The addresses of the name; those on this server's host in front, behind a fence that turning does not cross."""
    found = reply(spread_world(), f"nearest.{name}", rtype)
    assert found.fence == len(near)
    assert set(addresses(found)[: found.fence]) == near
    assert set(addresses(found)[found.fence :]) == far
    assert found.rcode == Rcode.NOERROR


@pytest.mark.parametrize("name", ["web", "app", "proxy", "both"])
def test_without_asking_nothing_is_near(name):
    """Only who asks for it has its answers sorted."""
    assert reply(spread_world(), name, "A").fence == 0


SORTED = {
    "near ones keep their priority": ("nearest.web", {"h2-c1": 10, "h2-c2": 20, "h1-c0": 21, "h3-c3": 23}),
    "the port of a name": ("nearest._80._tcp.web", {"h2-c1": 10, "h2-c2": 20, "h1-c0": 21, "h3-c3": 23}),
    "nothing is near": ("nearest.far", {"h1-c7": 10}),
    "without asking": ("web", {"h1-c0": 5, "h2-c1": 10, "h2-c2": 20, "h3-c3": 7}),
}


@pytest.mark.parametrize(("name", "expected"), SORTED.values(), ids=SORTED.keys())
def test_nearest_services(name, expected):
    """Clients of SRV take the lowest priority: what is near has it, and the others keep their order behind."""
    said = spread_world().ask(f"{name}.{DOMAIN}", "SRV", tcp=True)
    assert {row.split()[-1].split("-80.")[0]: int(row.split()[3]) for row in said.answer} == expected


def test_nearest_proxies_as_services():
    """SRV of a proxied name: the proxy on this host first, whether by name or by service."""
    for name in ("nearest.app", "nearest._http._tcp.app"):
        said = spread_world().ask(f"{name}.{DOMAIN}", "SRV")
        assert {(row.split()[-1].split(".")[0], row.split()[3]) for row in said.answer} == {("h1", "11"), ("h2", "10")}


EXISTENCE = {
    "as the name: no such name": ("nope", "NXDOMAIN"),
    "as the name: between": ("shop", "NOERROR"),
    "as the name: known without endpoints": ("gone", "NOERROR"),
    "as the name: claimed": ("a.b", "NOERROR"),
    "as the name: the apex": ("", "NOERROR"),
    "twice": ("nearest.web", "NXDOMAIN"),
    "a host": ("h1.node", "NXDOMAIN"),
    "the hosts": ("node", "NXDOMAIN"),
    "the name servers": ("ns.dns", "NXDOMAIN"),
    "below an instance": ("x.h1-c0-80.web", "NXDOMAIN"),
}


@pytest.mark.parametrize(("name", "rcode"), EXISTENCE.values(), ids=EXISTENCE.keys())
def test_existence_of_nearest(name, rcode):
    """`nearest.<name>` exists where the name does; hosts and name servers are not sorted."""
    world = spread_world()
    world.claim("app", f"a.b.{DOMAIN}")
    said = world.ask(".".join(part for part in ("nearest", name, DOMAIN) if part), "TXT")
    assert (said.rcode, said.answer) == (rcode, [])


def test_nearest_follows_changes():
    """An endpoint or a proxy that comes or goes changes what was answered for the sorted name too."""
    world = spread_world()
    assert len(world.ask(f"nearest.far.{DOMAIN}").answer) == 1
    world.put(container(20, endpoint("far", 80, lan(H2), host="h2"), host="h2"))
    assert len(world.ask(f"nearest.far.{DOMAIN}").answer) == 2
    assert len(world.ask(f"nearest.app.{DOMAIN}").answer) == 2
    world.remove(proxy("h2", P2))
    assert len(world.ask(f"nearest.app.{DOMAIN}").answer) == 1
    assert world.ask(f"nearest.later.{DOMAIN}").rcode == "NXDOMAIN"
    world.put(container(21, endpoint("later", 80, lan(H2))))
    assert world.ask(f"nearest.later.{DOMAIN}").rcode == "NOERROR"


def test_an_instance_called_nearest_is_found():
    """A label is a name like any other; SRV records lead to it."""
    world = World(node="h1")
    world.put(container(1, endpoint("web", 80, lan(H1), label="nearest"), endpoint("web", 81, lan(H2))))
    assert [row.split()[-1] for row in world.ask(f"nearest.web.{DOMAIN}").answer] == [H1]


def test_a_server_that_knows_no_host_sorts_nothing():
    """Without `--node-name` nothing is near; the name is answered all the same."""
    found = reply(spread_world(""), "nearest.web", "A")
    assert (found.fence, len(found.answer)) == (0, 4)


priorities = st.lists(st.integers(0, MAX_PRIORITY // 2), max_size=5)


@given(priorities, priorities)
def test_every_near_service_is_preferred(near, far):
    """Whatever the priorities were: each near one beats each far one, and neither side changes its order."""

    def own(numbers: list[int]) -> Own:
        return Own(services=tuple(Offered(5, Service(n, 1, at, b"\x00")) for at, n in enumerate(numbers)))

    found = [one.service.priority for one in in_front(own(near), own(far)).services]
    assert found[: len(near)] == near
    assert max(near, default=-1) < min(found[len(near) :], default=MAX_PRIORITY + 1)
    assert len({now - before for now, before in zip(found[len(near) :], far, strict=True)}) <= 1
