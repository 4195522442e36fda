"""Whose name is it: what our own records make of names, judged over all hosts."""

from __future__ import annotations

import pytest

from pilotfish.catalog import keys
from pilotfish.catalog.record import Address, Claim, Drain, encode
from pilotfish.catalog.route import Place, Route
from tests.dnsserver.kit import DOMAIN, World, container, endpoint, http, lan, node, proxy

P1, P2 = "10.9.0.1", "10.9.0.2"
H1, H2 = "192.168.0.1", "192.168.0.2"


def proxied_world(*domains: str) -> World:
    world = World(domains or (DOMAIN,))
    world.put(node("h1", H1), node("h2", H2), proxy("h1", P1), proxy("h2", P2))
    return world


def ips(said) -> list[str]:
    return sorted(row.split()[-1] for row in said.answer)


def services(said, domain: str = DOMAIN) -> list[str]:
    return sorted(row.split(" SRV ")[1].removesuffix(f".{domain}.") for row in said.answer)


# The five cases that make it necessary to judge a name over all hosts.
CASES = {
    "proxied and plain port in one container": (
        [
            container(
                1,
                endpoint("estest", 9200, lan(H1, 49153), route=http(), proxydns=("estest",)),
                endpoint("estest", 9300, lan(H1, 49154)),
            )
        ],
        "estest",
        [P1, P2],
        ["10 100 443 h1.node", "10 100 443 h2.node", "10 100 80 h1.node", "10 100 80 h2.node"],
        {"_9300._tcp": ["10 100 49154 h1-c-9300.estest"], "_9200._tcp": ["10 100 49153 h1-c-9200.estest"]},
    ),
    "proxied on one host, plain on another": (
        [
            container(1, endpoint("app", 80, lan(H1, 32001), route=http())),
            container(2, endpoint("app", 80, lan(H2, 32002), host="h2"), host="h2"),
        ],
        "app",
        [P1, P2],
        ["10 100 443 h1.node", "10 100 443 h2.node", "10 100 80 h1.node", "10 100 80 h2.node"],
        {"_80._tcp": ["10 100 32001 h1-c-80.app", "10 100 32002 h2-c-80.app"]},
    ),
    "DNS and PROXYDNS for one name": (
        [
            container(1, endpoint("a", 80, lan(H1, 32001), dns=("x",))),
            container(2, endpoint("b", 80, lan(H2, 32002), host="h2", proxydns=("x",)), host="h2"),
        ],
        "x",
        [P1, P2],
        ["10 100 443 h1.node", "10 100 443 h2.node", "10 100 80 h1.node", "10 100 80 h2.node"],
        {"_80._tcp": ["10 100 32001 h1-c-80.x", "10 100 32002 h2-c-80.x"]},
    ),
    "several eligible ports under a generic PROXY: none is proxied": (
        [container(1, endpoint("multi", 80, lan(H1, 32001)), endpoint("multi", 81, lan(H1, 32002)))],
        "multi",
        [H1],
        ["10 100 32001 h1-c-80.multi", "10 100 32002 h1-c-81.multi"],
        {"_80._tcp": ["10 100 32001 h1-c-80.multi"], "_81._tcp": ["10 100 32002 h1-c-81.multi"]},
    ),
    "a compose service scaled to three": (
        [
            container(
                number, endpoint("web.shop", 80, lan(ip, 32000 + number), host=host, name=f"web-{number}"), host=host
            )
            for number, host, ip in ((1, "h1", H1), (2, "h1", H1), (3, "h2", H2))
        ],
        "web.shop",
        [H1, H2],
        [
            "10 100 32001 h1-web-1-80.web.shop",
            "10 100 32002 h1-web-2-80.web.shop",
            "10 100 32003 h2-web-3-80.web.shop",
        ],
        {"_80._tcp": [f"10 100 3200{n} {h}-web-{n}-80.web.shop" for n, h in ((1, "h1"), (2, "h1"), (3, "h2"))]},
    ),
    "PROXYDNS and DNS in one container": (
        [container(1, endpoint("a", 80, lan(H1, 32001), dns=("x",), proxydns=("x",)))],
        "x",
        [P1, P2],
        ["10 100 443 h1.node", "10 100 443 h2.node", "10 100 80 h1.node", "10 100 80 h2.node"],
        {"_80._tcp": ["10 100 32001 h1-c-80.x"]},
    ),
    "proxied by service, tagged with another name": (
        [container(1, endpoint("a", 80, lan(H1, 32001), dns=("x",), route=http()))],
        "x",
        [H1],
        ["10 100 32001 h1-c-80.x"],
        {"_80._tcp": ["10 100 32001 h1-c-80.x"]},
    ),
    "PROXY_HOST without a dot": (
        [container(1, endpoint("a", 80, lan(H1, 32001), route=http("x")))],
        "x",
        [P1, P2],
        ["10 100 443 h1.node", "10 100 443 h2.node", "10 100 80 h1.node", "10 100 80 h2.node"],
        {"_80._tcp": ["10 100 32001 h1-c-80.x"]},
    ),
    "tagged DNS, and the only one tagged drains": (
        [
            container(1, endpoint("a", 80, lan(H1, 32001), dns=("a",), state="draining")),
            container(2, endpoint("a", 80, lan(H2, 32002), host="h2"), host="h2"),
        ],
        "a",
        [],
        [],
        {"_80._tcp": ["10 100 32002 h2-c-80.a"]},
    ),
    "tagged DNS: only the ports tagged for the name": (
        [container(1, endpoint("a", 80, lan(H1, 32001), dns=("front", "edge")), endpoint("front", 81, lan(H2, 32002)))],
        "front",
        [H1],
        ["10 100 32001 h1-c-80.front"],
        {"_80._tcp": ["10 100 32001 h1-c-80.front"], "_81._tcp": ["10 100 32002 h1-c-81.front"]},
    ),
    "weight, priority and TTL": (
        [
            container(1, endpoint("w", 80, lan(H1, 32001), weight=200, priority=20, ttl=60)),
            container(2, endpoint("w", 80, lan(H2, 32002), host="h2", weight=50), host="h2"),
        ],
        "w",
        [H1, H2],
        ["10 50 32002 h2-c-80.w", "20 200 32001 h1-c-80.w"],
        {},
    ),
    "a stream: the proxies at its port": (
        [container(1, endpoint("db", 5432, lan(H1, 32001), route=Route(scheme="tcp", port=5432)))],
        "db",
        [P1, P2],
        ["10 100 5432 h1.node", "10 100 5432 h2.node"],
        {"_5432._tcp": ["10 100 32001 h1-c-5432.db"]},
    ),
}


@pytest.mark.parametrize("domain", [DOMAIN, "example.net", "in.example.net"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_name(case, domain):
    """A, SRV and the port names of one name, under each of several domains, in whatever case it is asked."""
    records, name, addresses, srv, ports = case
    world = proxied_world(DOMAIN, "example.net", "in.example.net")
    world.put(*records)
    assert ips(world.ask(f"{name}.{domain}")) == ips(world.ask(f"{name}.{domain}".upper())) == addresses
    assert services(world.ask(f"{name}.{domain}", "SRV", tcp=True), domain) == srv
    for port, expected in ports.items():
        assert services(world.ask(f"{port}.{name}.{domain}", "SRV", tcp=True), domain) == expected


@pytest.mark.parametrize(("records", "name", "_a", "_s", "ports"), CASES.values(), ids=CASES.keys())
def test_every_srv_target_resolves(records, name, _a, _s, ports):
    """A target is a name with an address, and that address is in the additional section."""
    world = proxied_world()
    world.put(*records)
    for asked in (name, *(f"{port}.{name}" for port in ports)):
        said = world.ask(f"{asked}.{DOMAIN}", "SRV", tcp=True)
        for target in {row.split()[-1] for row in said.answer}:
            found = world.ask(target).answer
            assert found
            assert {" ".join(row.split()[::3]) for row in found} <= {
                " ".join(row.split()[::3]) for row in said.additional
            }


EXISTS = {
    "an instance": ("h1-c-80.web", "A", "NOERROR", [f"h1-c-80.web.{DOMAIN}. 5 A {H1}"]),
    "an instance has no other family": ("h1-c-80.web", "AAAA", "NOERROR", []),
    "no such instance": ("h1-c-81.web", "A", "NXDOMAIN", []),
    "below an instance": ("x.h1-c-80.web", "A", "NXDOMAIN", []),
    "no such port": ("_81._tcp.web", "SRV", "NXDOMAIN", []),
    "no such protocol of a port": ("_80._udp.web", "SRV", "NXDOMAIN", []),
    "a port with zeros in front": ("_080._tcp.web", "SRV", "NXDOMAIN", []),
    "a port that is no number": ("_8a._tcp.web", "SRV", "NXDOMAIN", []),
    "a port name has no address": ("_80._tcp.web", "A", "NOERROR", []),
    "between a port and its name": ("_tcp.web", "A", "NOERROR", []),
    "no UDP port, nothing between": ("_udp.web", "A", "NXDOMAIN", []),
    "parent of a compose name": ("shop", "A", "NOERROR", []),
    "a host": ("h1.node", "A", "NOERROR", [f"h1.node.{DOMAIN}. 5 A {ip}" for ip in (H1, P1)]),
    "a host in capitals": ("H1.NODE", "A", "NOERROR", [f"H1.NODE.{DOMAIN}. 5 A {ip}" for ip in (H1, P1)]),
    "no such host": ("h9.node", "A", "NXDOMAIN", []),
    "below a host": ("x.h1.node", "A", "NXDOMAIN", []),
    "the hosts' parent": ("node", "A", "NOERROR", []),
    "all proxies": ("proxy", "A", "NOERROR", [f"proxy.{DOMAIN}. 10 A {P1}"]),
    "the apex has no address": ("", "A", "NOERROR", []),
    "a service's label under a host": ("h1-c-80.h1.node", "A", "NXDOMAIN", []),
    "a port of a silenced service": ("_80._tcp.mute", "SRV", "NOERROR", []),
    "between such a port and its name": ("_tcp.mute", "SRV", "NOERROR", []),
    "port 0": ("_0._tcp.web", "SRV", "NXDOMAIN", []),
    "a port beyond all": ("_65536._tcp.web", "SRV", "NXDOMAIN", []),
    "nothing below a port": ("x._80._tcp.web", "SRV", "NXDOMAIN", []),
    "no protocol below the apex": ("_tcp", "SRV", "NXDOMAIN", []),
    "no port of the apex": ("_80._tcp", "SRV", "NXDOMAIN", []),
    "no service alone": ("_http.web", "SRV", "NXDOMAIN", []),
    "an underscore alone": ("_._tcp.web", "SRV", "NXDOMAIN", []),
    "the name servers' parent": ("dns", "A", "NOERROR", []),
    "a dot inside a label is no dot": ("web\\.shop", "A", "NXDOMAIN", []),
    "silenced": ("mute", "A", "NOERROR", []),
    "no such name": ("nope", "A", "NXDOMAIN", []),
    "TXT of a service": ("web", "TXT", "NOERROR", []),
    "DS at an unsigned name": ("web", "DS", "NOERROR", []),
    "a service's alias": ("web", "CNAME", "NOERROR", []),
}


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    made.put(node("h1", H1), proxy("h1", P1))
    made.put(
        container(1, endpoint("web", 80, lan(H1, 32001), Address("172.17.0.2", 80, "node"))),
        container(2, endpoint("db.shop", 80, lan(H1, 32002))),
        container(3, endpoint("mute", 80, lan(H1, 32003), dns=())),
    )
    return made


@pytest.mark.parametrize(("name", "rtype", "rcode", "answer"), EXISTS.values(), ids=EXISTS.keys())
def test_existence(world, name, rtype, rcode, answer):
    """What is there, what is known to have no such data, and what does not exist; SOA and AA with every denial."""
    said = world.ask(f"{name}.{DOMAIN}." if name else f"{DOMAIN}.", rtype)
    assert (said.rcode, said.sorted) == (rcode, sorted(answer))
    assert "AA" in said.flags
    assert bool(said.authority) == (not answer)
    if said.authority:
        assert said.authority[0].startswith(f"{DOMAIN}. 2 SOA ns.dns.{DOMAIN}. hostmaster.{DOMAIN}. ")


def test_addresses_of_one_host_only_are_never_given(world):
    """An address of scope `node` means another container on every other host."""
    assert world.ask(f"web.{DOMAIN}").answer == [f"web.{DOMAIN}. 5 A {H1}"]


STATES = ["starting", "failing", "draining"]


@pytest.mark.parametrize("state", STATES)
def test_what_is_not_served_is_not_answered_and_not_denied(state):
    """An endpoint that is not passing leaves its name with no data; its neighbour stays."""
    world = World()
    world.put(container(1, endpoint("web", 80, lan(H1))))
    world.put(container(2, endpoint("web", 80, lan(H2), host="h2", state=state), host="h2"))
    assert ips(world.ask(f"web.{DOMAIN}")) == [H1]
    world.put(container(1, endpoint("web", 80, lan(H1), state=state)))
    for name in ("web", "h1-c-80.web", "_80._tcp.web"):
        for rtype in ("A", "SRV"):
            said = world.ask(f"{name}.{DOMAIN}", rtype)
            assert (said.rcode, said.answer) == ("NOERROR", [])


GONE = {
    "the name": ("web", "NOERROR"),
    "a port": ("_80._tcp.web", "NOERROR"),
    "another port": ("_81._udp.web", "NOERROR"),
    "a service": ("_http._tcp.web", "NOERROR"),
    "between": ("_tcp.web", "NOERROR"),
    "no port": ("_x._tcp.web", "NXDOMAIN"),
    "an instance": ("h1-c-80.web", "NXDOMAIN"),
    "anything else": ("x.web", "NXDOMAIN"),
}


@pytest.mark.parametrize(("name", "rcode"), GONE.values(), ids=GONE.keys())
def test_what_a_known_service_without_endpoints_brings(name, rcode):
    """Which ports it will have again nobody knows: none is denied. Its instances are gone."""
    world = World()
    gone = container(1, endpoint("web", 80, lan(H1)))
    world.put(gone)
    world.remove(gone)
    for rtype in ("A", "SRV"):
        said = world.ask(f"{name}.{DOMAIN}", rtype)
        assert (said.rcode, said.answer) == (rcode, [])


FAR_TOO_LONG = ".".join(["a" * 63] * 3 + ["b" * 50])
LONG = {
    "service": {"service": FAR_TOO_LONG},
    "name": {"service": "web", "dns": (FAR_TOO_LONG,)},
    "instance": {"service": ".".join(["a" * 63] * 3 + ["b" * 30]), "label": "c" * 63},
    "proxied name": {"service": "web", "proxydns": (FAR_TOO_LONG,)},
}


@pytest.mark.parametrize("fields", LONG.values(), ids=LONG.keys())
def test_names_that_are_too_long_are_not_answered_and_spoil_nothing(fields):
    """A name over 255 octets cannot be asked for; everything else goes on."""
    world = World()
    world.put(node("h1", H1), container(1, endpoint(port=80, **fields), endpoint("ok", 81, lan(H1))))
    world.put(container(2, endpoint("a" * 63 + "." + "b" * 63, 80, lan(H1), label="l" * 63)))
    assert ips(world.ask(f"ok.{DOMAIN}")) == [H1]
    assert world.ask(f"{'a' * 63}.{'b' * 63}.{DOMAIN}", "SRV").rcode == "NOERROR"
    world.remove(container(1))
    assert world.ask(f"ok.{DOMAIN}").answer == []


def test_a_name_too_long_for_its_instances_keeps_its_addresses():
    """Where `<label>.<name>` is no name, SRV leaves the endpoint out; the addresses stay."""
    world = World()
    name = ".".join(["a" * 63] * 3)
    world.put(container(1, endpoint(name, 80, lan(H1), label="l" * 63)))
    assert ips(world.ask(f"{name}.{DOMAIN}")) == [H1]
    assert world.ask(f"{name}.{DOMAIN}", "SRV").answer == []


@pytest.mark.parametrize("name", ["node", "dns", "any", "localhost", "h1.node", "nearest", "nearest.web"])
def test_a_service_of_a_reserved_name_is_not_answered_for(name):
    """Such names mean something else; who tags them is registered, and found under no name (decision 0011)."""
    world = World()
    world.put(node("h1", H1), container(1, endpoint("web", 80, lan(H1))))
    before = {rtype: world.ask(f"{name}.{DOMAIN}", rtype).sorted for rtype in ("A", "SRV")}
    world.put(container(2, endpoint(name, 80, lan(H2), host="h2"), host="h2"))
    assert {rtype: world.ask(f"{name}.{DOMAIN}", rtype).sorted for rtype in before} == before
    world.remove(container(2, host="h2"))
    assert ips(world.ask(f"h1.node.{DOMAIN}")) == [H1]


def test_weight_0_takes_no_traffic():
    """WEIGHT=0 is like not being served."""
    world = World()
    world.put(container(1, endpoint("web", 80, lan(H1), weight=0)))
    assert world.ask(f"web.{DOMAIN}").answer == []


def test_a_service_that_went_is_no_data_and_not_no_name():
    """A container that is made anew must not find its clients told that its name does not exist."""
    world = World()
    gone = container(1, endpoint("web", 80, lan(H1)))
    world.put(gone)
    world.remove(gone)
    said = world.ask(f"web.{DOMAIN}")
    assert (said.rcode, said.answer) == ("NOERROR", [])


HOSTS = {
    "exact host in our domain": (f"shop.{DOMAIN}", f"shop.{DOMAIN}", True),
    "wildcard": (f"*.shop.{DOMAIN}", f"any.thing.shop.{DOMAIN}", True),
    "wildcard's own name": (f"*.shop.{DOMAIN}", f"shop.{DOMAIN}", False),
    "the domain itself": (DOMAIN, DOMAIN, True),
    "wildcard of the whole domain": (f"*.{DOMAIN}", f"new.{DOMAIN}", True),
    "wildcard ends at a name that exists": (f"*.{DOMAIN}", f"x.h1.node.{DOMAIN}", None),
}


@pytest.mark.parametrize(("host", "asked", "served"), HOSTS.values(), ids=HOSTS.keys())
def test_hosts_of_routes_resolve_to_the_proxies(host, asked, served):
    """PROXY_HOST in a served domain: its claimed hosts are the proxies; without endpoints they are no data."""
    world = proxied_world()
    app = container(1, endpoint("app", 80, lan(H1), route=http(host)))
    world.claim("app", host)
    before = world.ask(asked)
    if served:
        assert (before.rcode, before.answer) == ("NOERROR", [])
    world.put(app)
    said = world.ask(asked)
    assert (said.rcode, ips(said)) == ("NXDOMAIN" if served is None else "NOERROR", [P1, P2] if served else [])
    if served:
        world.remove(app)
        assert (world.ask(asked).rcode, world.ask(asked).answer) == ("NOERROR", [])
        world.remove(Claim(service="app", since=1.0), place=Place(host, "/"))
        assert world.ask(asked).answer == []


def test_a_host_claimed_by_another_service_is_not_asked_for():
    """The owner of the claim decides; somebody who only asks for the host does not make it resolve."""
    world = proxied_world()
    world.claim("owner", f"shop.{DOMAIN}")
    world.put(container(1, endpoint("thief", 80, lan(H1), route=http(f"shop.{DOMAIN}"))))
    assert world.ask(f"shop.{DOMAIN}").answer == []


def test_an_exact_name_beats_a_wildcard():
    """A name of its own under a wildcard host keeps its own addresses."""
    world = proxied_world()
    world.claim("app", f"*.{DOMAIN}")
    world.put(container(1, endpoint("app", 80, lan(H1), route=http(f"*.{DOMAIN}"))))
    world.put(container(2, endpoint("web", 81, lan(H2))))
    assert ips(world.ask(f"web.{DOMAIN}")) == [H2]
    assert ips(world.ask(f"other.{DOMAIN}")) == [P1, P2]


def test_proxies_are_those_that_live():
    """A proxy that goes is gone from every proxied name, and its name has no data when it was the last."""
    world = proxied_world()
    world.put(container(1, endpoint("app", 80, lan(H1), route=http())))
    assert ips(world.ask(f"app.{DOMAIN}")) == [P1, P2]
    world.remove(proxy("h1", P1))
    assert ips(world.ask(f"app.{DOMAIN}")) == [P2]
    assert services(world.ask(f"app.{DOMAIN}", "SRV")) == ["10 100 443 h2.node", "10 100 80 h2.node"]
    world.remove(proxy("h2", P2))
    said = world.ask(f"app.{DOMAIN}")
    assert (said.rcode, said.answer) == ("NOERROR", [])


DRAINED_PROXIES = {
    "one of two": (["node:h1"], [P2]),
    "both: what works beats nothing": (["node:h1", "node:h2"], [P1, P2]),
    "a host without a proxy": (["node:h3"], [P1, P2]),
    "a container that is called so": (["container:h1"], [P1, P2]),
}


@pytest.mark.parametrize(("drains", "expected"), DRAINED_PROXIES.values(), ids=DRAINED_PROXIES)
def test_proxies_of_drained_hosts_get_no_new_clients(drains, expected):
    """While others live; when the drain is taken back they do again."""
    world = World()
    world.put(proxy("h1", P1), proxy("h2", P2), container(1, endpoint("app", 80, lan(H1), route=http()), host="h4"))
    for name in ("app", "proxy"):
        assert ips(world.ask(f"{name}.{DOMAIN}")) == [P1, P2]
    wishes = [keys.wish_key("drain", subject) for subject in drains]
    for wish in wishes:
        world.raw(wish, encode(Drain(since=1.0)))
    for name in ("app", "proxy"):
        assert ips(world.ask(f"{name}.{DOMAIN}")) == expected
    world.raw_gone(*wishes)
    assert ips(world.ask(f"app.{DOMAIN}")) == [P1, P2]


def test_proxies_of_drained_hosts_leave_it_to_what_is_tagged():
    """An endpoint with the proxies' name as a DNS tag is another proxy that lives; drained itself, it is none."""
    world = World()
    tagged = container(1, endpoint("ngconfd", 80, lan(H2, 80), host="h2", dns=("proxy",)), host="h2")
    world.put(proxy("h1", P1), tagged, container(2, endpoint("app", 80, lan(H1), route=http()), host="h3"))
    assert ips(world.ask(f"app.{DOMAIN}")) == [P1, H2]
    world.raw(keys.wish_key("drain", "node:h1"), encode(Drain(since=1.0)))
    assert ips(world.ask(f"app.{DOMAIN}")) == [H2]
    world.raw(keys.wish_key("drain", "node:h2"), encode(Drain(since=1.0)))
    assert ips(world.ask(f"app.{DOMAIN}")) == [P1]
    world.raw_gone(keys.wish_key("drain", "node:h1"))
    assert ips(world.ask(f"app.{DOMAIN}")) == [P1]


def test_endpoints_tagged_with_the_proxies_name_are_proxies_too():
    """As in the seed: nginx registered with DNS=<proxy-name> stands behind every proxied name."""
    world = World()
    world.put(container(1, endpoint("ngconfd", 80, lan(H2, 80), host="h2", dns=("proxy",)), host="h2"))
    world.put(container(2, endpoint("app", 80, lan(H1), route=http())))
    assert ips(world.ask(f"app.{DOMAIN}")) == ips(world.ask(f"proxy.{DOMAIN}")) == [H2]
    assert services(world.ask(f"app.{DOMAIN}", "SRV")) == ["10 100 80 h2-c-80.proxy"]


@pytest.mark.parametrize(
    ("http_port", "https_port", "expected"),
    [(8080, 0, ["10 100 8080 h1.node"]), (0, 8443, ["10 100 8443 h1.node"]), (0, 0, [])],
    ids=["http only", "https only", "neither"],
)
def test_proxies_are_offered_at_their_own_ports(http_port, https_port, expected):
    """SRV of a proxied name gives the ports that the proxies have, not the application's."""
    world = World()
    world.put(
        proxy("h1", P1, http=http_port, https=https_port), container(1, endpoint("app", 80, lan(H1), route=http()))
    )
    assert services(world.ask(f"app.{DOMAIN}", "SRV")) == expected


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route(scheme="tcp", port=5432), ["10 100 5432 h1.node"]),
        (Route(scheme="tcp", hosts=("app",)), ["10 100 8443 h1.node"]),
        (Route(scheme="tcp", hosts=("app",), port=8883), ["10 100 8883 h1.node"]),
        (Route(scheme="https"), ["10 100 80 h1.node", "10 100 8443 h1.node"]),
    ],
    ids=["a port", "a name on the port of https", "a name on another port", "https"],
)
def test_streams_are_offered_at_the_ports_of_the_proxies(route, expected):
    """SRV leads to where the proxies take the stream, also when only they know the port."""
    world = World()
    world.put(proxy("h1", P1, https=8443), container(1, endpoint("app", 80, lan(H1), route=route)))
    assert sorted(services(world.ask(f"app.{DOMAIN}", "SRV"))) == expected


def test_a_host_of_a_stream_leads_to_the_proxies():
    """PROXY_HOST inside a served domain resolves by itself, whatever the route is."""
    world = World()
    route = Route(scheme="tcp", hosts=(f"tls.{DOMAIN}",))
    claim = encode(Claim(service="app", since=1.0))
    world.put(proxy("h1", P1, https=8443), container(1, endpoint("app", 80, lan(H1), route=route)))
    world.raw(keys.claim_key(Place(f"tls.{DOMAIN}:https", "/tcp")), claim)
    assert ips(world.ask(f"tls.{DOMAIN}")) == [P1]
    world.raw_gone(keys.claim_key(Place(f"tls.{DOMAIN}:https", "/tcp")))
    assert ips(world.ask(f"tls.{DOMAIN}")) == []


def test_what_a_proxy_serves_changes_no_answer():
    """A new generation, written by every proxy up to once a second, drops no finished answer."""
    world = proxied_world()
    world.put(container(1, endpoint("app", 80, lan(H1), route=http())))
    world.ask(f"app.{DOMAIN}")
    assert world.put(proxy("h1", P1, generation="abc", revision=7)) == 0
    assert world.put(proxy("h1", "10.9.0.3")) > 0
    assert ips(world.ask(f"app.{DOMAIN}")) == [P2, "10.9.0.3"]


def test_pointers():
    """PTR of a host's address is its name, IPv4 and IPv6; gone with the host."""
    world = World()
    world.put(node("h1", H1, "fd00::1"))
    assert world.ask("1.0.168.192.in-addr.arpa", "PTR").answer == [f"1.0.168.192.in-addr.arpa. 5 PTR h1.node.{DOMAIN}."]
    six = "1." + "0." * 28 + "0.d.f.ip6.arpa"
    assert world.ask(six, "PTR").answer == [f"{six}. 5 PTR h1.node.{DOMAIN}."]
    assert (world.ask(six, "A").rcode, world.ask(six, "A").answer) == ("NOERROR", [])
    world.remove(node("h1", H1, "fd00::1"))
    assert world.ask(six, "PTR").rcode == "REFUSED"


def test_an_endpoint_has_no_pointer():
    """Many endpoints share an address, and none owns it: only hosts are pointed at."""
    world = World((DOMAIN, "168.192.in-addr.arpa"))
    world.put(container(1, endpoint("web", 80, lan("192.168.7.7"))))
    assert world.ask("7.7.168.192.in-addr.arpa", "PTR").rcode == "NXDOMAIN"


REVERSE = {
    "of a host": ("1.0.168.192.in-addr.arpa", "PTR", "NOERROR", 1),
    "of a host, other type": ("1.0.168.192.in-addr.arpa", "A", "NOERROR", 0),
    "between": ("0.168.192.in-addr.arpa", "PTR", "NOERROR", 0),
    "of nobody": ("9.0.168.192.in-addr.arpa", "PTR", "NXDOMAIN", 0),
    "below a host": ("x.1.0.168.192.in-addr.arpa", "PTR", "NXDOMAIN", 0),
    "apex": ("168.192.in-addr.arpa", "SOA", "NOERROR", 1),
    "name servers": ("168.192.in-addr.arpa", "NS", "NOERROR", 1),
    "the name server": ("ns.dns.168.192.in-addr.arpa", "A", "NOERROR", 1),
    "apex, other type": ("168.192.in-addr.arpa", "PTR", "NOERROR", 0),
    "the other zone's apex": ("d.f.ip6.arpa", "NS", "NOERROR", 1),
    "IPv6": ("1." + "0." * 28 + "0.d.f.ip6.arpa", "PTR", "NOERROR", 1),
    "IPv6, between": ("0.0.d.f.ip6.arpa", "PTR", "NOERROR", 0),
    "IPv6, of nobody": ("2." + "0." * 28 + "0.d.f.ip6.arpa", "PTR", "NXDOMAIN", 0),
    "no service": ("web.168.192.in-addr.arpa", "A", "NXDOMAIN", 0),
    "no host": ("h1.node.168.192.in-addr.arpa", "A", "NXDOMAIN", 0),
    "no proxies": ("proxy.168.192.in-addr.arpa", "A", "NXDOMAIN", 0),
}


@pytest.mark.parametrize(("name", "rtype", "rcode", "count"), REVERSE.values(), ids=REVERSE.keys())
def test_several_reverse_domains(name, rtype, rcode, count):
    """Each reverse domain has its own apex, name server, pointers and denials, with AA and its own SOA."""
    world = World((DOMAIN, "168.192.in-addr.arpa", "d.f.ip6.arpa"))
    world.put(node("h1", H1, "fd00::1"), container(1, endpoint("web", 80, lan(H1))))
    said = world.ask(name, rtype)
    assert (said.rcode, len(said.answer), "AA" in said.flags) == (rcode, count, True)
    zone = "d.f.ip6.arpa." if "ip6" in name else "168.192.in-addr.arpa."
    assert [row.split()[0] for row in said.authority] == ([] if count else [zone])


def test_a_reverse_domain_within_another():
    """The longest reverse domain decides, and what lies between the two exists (RFC 8020)."""
    world = World(("10.in-addr.arpa", "0.88.10.in-addr.arpa", DOMAIN))
    world.put(node("h1", "10.88.0.1"))
    assert world.ask("1.0.88.10.in-addr.arpa", "PTR").answer
    assert world.ask("2.0.88.10.in-addr.arpa", "PTR").authority[0].startswith("0.88.10.in-addr.arpa. ")
    world.remove(node("h1", "10.88.0.1"))
    between = world.ask("88.10.in-addr.arpa", "PTR")
    assert (between.rcode, between.authority[0].split()[0]) == ("NOERROR", "10.in-addr.arpa.")


def test_a_reverse_domain_is_served_with_authority():
    """A domain below in-addr.arpa has SOA, pointers and denials of its own, and no services."""
    world = World((DOMAIN, "168.192.in-addr.arpa"))
    world.put(node("h1", H1), container(1, endpoint("web", 80, lan(H1))))
    found = world.ask("1.0.168.192.in-addr.arpa", "PTR")
    assert (found.answer, "AA" in found.flags) == ([f"1.0.168.192.in-addr.arpa. 5 PTR h1.node.{DOMAIN}."], True)
    denied = world.ask("2.0.168.192.in-addr.arpa", "PTR")
    assert (denied.rcode, len(denied.authority)) == ("NXDOMAIN", 1)
    assert world.ask("web.168.192.in-addr.arpa").rcode == "NXDOMAIN"
    assert world.ask("0.168.192.in-addr.arpa", "PTR").rcode == "NOERROR"


def test_several_domains():
    """Every name stands under every domain; the longest domain decides when one lies in another."""
    world = World((DOMAIN, "example.net", "in.example.net"))
    world.put(container(1, endpoint("web", 80, lan(H1))))
    for name in (DOMAIN, "example.net", "in.example.net"):
        assert ips(world.ask(f"web.{name}")) == [H1]
    assert world.ask("nope.in.example.net").authority[0].startswith("in.example.net. ")
    assert world.ask("web.example.org").rcode == "REFUSED"


def test_apex():
    """SOA with the revision as serial, and name servers with their addresses."""
    world = World()
    world.put(node("h1", H1))
    world.put(container(1, endpoint("web", 80, lan(H1))))
    soa = f"{DOMAIN}. 2 SOA ns.dns.{DOMAIN}. hostmaster.{DOMAIN}. 2 28800 7200 604800 2"
    assert world.ask(DOMAIN, "SOA").answer == [soa]
    servers = world.ask(DOMAIN, "NS")
    assert servers.answer == [f"{DOMAIN}. 10 NS ns.dns.{DOMAIN}."]
    assert servers.additional == [f"ns.dns.{DOMAIN}. 10 A {H1}"]


def test_serial_goes_modulo_2_32():
    """The serial is the revision modulo 2^32 (RFC 1982), in a kept denial too."""
    world = World()
    world.revision = 2**32 + 5
    world.ask(f"nope.{DOMAIN}")
    world.put(node("h1", H1))
    assert world.ask(f"nope.{DOMAIN}").authority[0].split()[5] == "6"
    world.put(node("h2", H2))
    assert world.ask(f"nope.{DOMAIN}").authority[0].split()[5] == "7"


def test_any_is_one_small_record(world):
    """ANY gets HINFO RFC8482 where the name exists, and no more (RFC 8482 §4.2)."""
    assert world.ask(f"web.{DOMAIN}", "ANY").answer == [f'web.{DOMAIN}. 2 HINFO "RFC8482" ""']
    assert world.ask(f"nope.{DOMAIN}", "ANY").rcode == "NXDOMAIN"


def test_a_claimed_host_keeps_the_ports_of_its_streams():
    """SRV of a name that is served over HTTP and as a stream has both, before and after its host is claimed."""
    world = World()
    stream = Route(scheme="tcp", port=5432)
    ports = endpoint("db", 80, lan(H1), route=http()), endpoint("db", 5432, lan(H1), route=stream)
    world.put(proxy("h1", H1, https=0), container(1, *ports))
    before = world.ask(f"db.{DOMAIN}", "SRV").sorted
    world.claim("db", f"db.{DOMAIN}")
    assert world.ask(f"db.{DOMAIN}", "SRV").sorted == before
    assert [row.split()[-2] for row in before] == ["5432", "80"]
