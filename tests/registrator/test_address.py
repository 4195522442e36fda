"""Addresses and their scopes: who is told what, and what is never told to anybody."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest

from registrator.rules.address import usable
from tests.registrator.builders import IP, decide, endpoint, given, places, reasons

NONE = MappingProxyType({})
HOST6 = ("h", (IP, "fd00::1"))
ANY = [("0.0.0.0", 8000), ("::", 8000)]
SHOP = {"shop_front": ("172.20.0.5", "fd20::5"), "back": "10.9.0.5"}


class Row(NamedTuple):
    """A container with port 80, its addresses, or the rule by which it is left out."""

    title: str
    container: Mapping
    expected: list | str
    flags: Mapping = NONE
    host: tuple = ("h", (IP,))


NEAR = "node 172.17.0.2:80"
ROWS = [
    Row("published on all addresses", {"ports": {"80/tcp": 8000}}, [f"lan {IP}:8000", NEAR]),
    Row("an engine that names no address", {"ports": {"80/tcp": ("", 8000)}}, [f"lan {IP}:8000", NEAR]),
    Row(
        "dual stack",
        {"ports": {"80/tcp": ANY}},
        [f"lan {IP}:8000", "lan fd00::1:8000", NEAR],
        host=HOST6,
    ),
    Row("IPv6 bound, host known by IPv4 only", {"ports": {"80/tcp": ANY}}, [f"lan {IP}:8000", NEAR]),
    Row("IPv6 only", {"ports": {"80/tcp": ("::", 8000)}}, ["lan fd00::1:8000", NEAR], host=HOST6),
    Row("IPv6 only, no such address known", {"ports": {"80/tcp": ("::", 8000)}}, "address"),
    Row("bound to one address", {"ports": {"80/tcp": ("10.0.0.9", 8000)}}, ["lan 10.0.0.9:8000", NEAR]),
    Row("bound to one IPv6 address", {"ports": {"80/tcp": ("FD00:0::9", 8000)}}, ["lan fd00::9:8000", NEAR]),
    Row(
        "--ip stands for another address of the host, as behind NAT",
        {"ports": {"80/tcp": ("10.0.0.9", 8000)}},
        ["lan 203.0.113.7:8000", NEAR],
        {"ip": ("203.0.113.7",)},
    ),
    Row(
        "--ip never stands for another family",
        {"ports": {"80/tcp": ("fd00::9", 8000)}},
        ["lan fd00::9:8000", NEAR],
        {"ip": ("203.0.113.7",)},
    ),
    Row(
        "a binding that is one of --ip",
        {"ports": {"80/tcp": ("10.0.0.9", 8000)}},
        ["lan 10.0.0.9:8000", NEAR],
        {"ip": ("203.0.113.7", "10.0.0.9")},
    ),
    Row(
        "--ip over what the host knows",
        {"ports": {"80/tcp": ANY}},
        ["lan 10.1.0.1:8000", "lan fd01::1:8000", NEAR],
        {"ip": ("fd01::1", "10.1.0.1")},
        HOST6,
    ),
    Row(
        "bound to loopback, even with --ip",
        {"ports": {"80/tcp": ("127.0.0.1", 8000)}},
        ["node 127.0.0.1:8000", NEAR],
        {"ip": ("10.1.0.1",)},
    ),
    Row("bound to loopback of IPv6", {"ports": {"80/tcp": ("::1", 8000)}}, [NEAR, "node ::1:8000"]),
    Row("bound to the bridge itself", {"ports": {"80/tcp": ("172.17.0.1", 8000)}}, ["node 172.17.0.1:8000", NEAR]),
    Row(
        "a bridge that holds the host's own address",
        {
            "ports": {"80/tcp": (IP, 8000)},
            "networks": {"br0": {"IPAddress": "192.168.0.77", "Gateway": IP}},
        },
        [f"lan {IP}:8000", "node 192.168.0.77:80"],
    ),
    Row(
        "several bindings of one port",
        {"ports": {"80/tcp": [("10.0.0.9", 8000), ("127.0.0.1", 8001), ("10.0.0.9", 8002), ("0.0.0.0", 8003)]}},
        ["lan 10.0.0.9:8000", f"lan {IP}:8003", "node 127.0.0.1:8001", NEAR],
    ),
    Row("the host's address is not known", {"ports": {"80/tcp": 8000}}, "address", host=("h", ())),
    Row("the host knows itself as loopback only", {"ports": {"80/tcp": 8000}}, "address", host=("h", ("127.0.1.1",))),
    Row("--ip with loopback", {"ports": {"80/tcp": 8000}}, "address", {"ip": ("127.0.0.1",)}),
    Row("not published", {"expose": ["80/tcp"]}, "unpublished"),
    Row("the host's network", {"expose": ["80/tcp"], "mode": "host"}, [f"lan {IP}:80"]),
    Row(
        "the host's network with --ip",
        {"expose": ["80/tcp"], "mode": "host"},
        ["lan 10.1.0.1:80", "lan fd01::1:80"],
        {"ip": ("10.1.0.1", "fd01::1")},
    ),
    Row("the host's network, address unknown", {"expose": ["80/tcp"], "mode": "host"}, "address", host=("h", ())),
    Row("no network", {"expose": ["80/tcp"], "mode": "none"}, "unpublished"),
    Row("--internal", {"expose": ["80/tcp"]}, ["lan 172.17.0.2:80"], {"internal": True}),
    Row("--internal beats a published port", {"ports": {"80/tcp": 8000}}, ["lan 172.17.0.2:80"], {"internal": True}),
    Row(
        "--internal without an address",
        {"expose": ["80/tcp"], "networks": {"bridge": ""}},
        "address",
        {"internal": True},
    ),
    Row("INTERNAL", {"ports": {"80/tcp": 8000}, "env": ["SERVICE_80_INTERNAL=yes"]}, ["lan 172.17.0.2:80"]),
    Row(
        "INTERNAL=no over --internal",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_INTERNAL=no"]},
        [f"lan {IP}:8000", NEAR],
        {"internal": True},
    ),
    Row("ROUTABLE", {"expose": ["80/tcp"], "env": ["SERVICE_ROUTABLE=1"]}, ["lan 172.17.0.2:80"]),
    Row(
        "ROUTABLE and published",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_ROUTABLE=1"]},
        [f"lan {IP}:8000", NEAR],
    ),
    Row(
        # The original registers the container's address with the host's port.
        "a user network",
        {"ports": {"80/tcp": 8000}, "mode": "shop_front", "networks": SHOP},
        [f"lan {IP}:8000", "node 172.20.0.5:80", "node fd20::5:80"],
    ),
    Row(
        # The original takes any.
        "several networks: the one of its mode",
        {"expose": ["80/tcp"], "mode": "shop_front", "networks": SHOP},
        ["lan 172.20.0.5:80", "lan fd20::5:80"],
        {"internal": True},
    ),
    Row(
        "several networks: the first by name",
        {"expose": ["80/tcp"], "networks": SHOP},
        ["lan 10.9.0.5:80"],
        {"internal": True},
    ),
    Row(
        "NETWORK by name",
        {"expose": ["80/tcp"], "networks": SHOP, "env": ["SERVICE_NETWORK=shop_front"]},
        ["lan 172.20.0.5:80", "lan fd20::5:80"],
        {"internal": True},
    ),
    Row(
        "NETWORK by the name in the compose file",
        {"expose": ["80/tcp"], "networks": SHOP, "env": ["SERVICE_NETWORK=front"]},
        ["lan 172.20.0.5:80", "lan fd20::5:80"],
        {"internal": True},
    ),
    Row(
        "NETWORK by addresses",
        {"expose": ["80/tcp"], "networks": SHOP, "env": ["SERVICE_NETWORK=fd20::/16"]},
        ["lan fd20::5:80"],
        {"internal": True},
    ),
    Row(
        "NETWORK that it is not on",
        {"ports": {"80/tcp": 8000}, "networks": SHOP, "env": ["SERVICE_NETWORK=overlay"]},
        "tag",
    ),
    Row(
        "--network by name",
        {"expose": ["80/tcp"], "networks": SHOP},
        ["lan 172.20.0.5:80", "lan fd20::5:80"],
        {"internal": True, "network": ("overlay", "front")},
    ),
    Row(
        "--network by addresses",
        {"ports": {"80/tcp": 8000}, "networks": SHOP},
        [f"lan {IP}:8000", "node 172.20.0.5:80"],
        {"network": ("172.20.0.0/16",)},
    ),
    Row(
        "NETWORK beats --network",
        {"expose": ["80/tcp"], "networks": SHOP, "env": ["SERVICE_NETWORK=back"]},
        ["lan 10.9.0.5:80"],
        {"internal": True, "network": ("front",)},
    ),
    Row(
        # Another network's address would be published where nobody asked for it.
        "--network that it is not on",
        {"expose": ["80/tcp"], "networks": SHOP},
        "address",
        {"internal": True, "network": ("overlay",)},
    ),
    Row(
        "--network that it is not on, published",
        {"ports": {"80/tcp": 8000}, "networks": SHOP},
        [f"lan {IP}:8000"],
        {"network": ("overlay",)},
    ),
    Row(
        "IP",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IP=10.3.0.1,fd03::1"]},
        ["lan 10.3.0.1:8000", "lan fd03::1:8000", NEAR],
    ),
    Row(
        "IP with INTERNAL",
        {"expose": ["80/tcp"], "env": ["SERVICE_IP=10.3.0.1", "SERVICE_INTERNAL=1"]},
        ["lan 10.3.0.1:80"],
    ),
    Row(
        "IP with sixteen addresses, the most",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IP=" + ",".join(f"10.3.0.{n}" for n in range(1, 17))]},
        [*(f"lan 10.3.0.{n}:8000" for n in range(1, 17)), NEAR],
    ),
    Row(
        "IP with more",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IP=" + ",".join(["10.3.0.1"] * 17)]},
        "tag",
    ),
    Row("IP with loopback", {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IP=127.0.0.1"]}, "address"),
    Row(
        "IP beats --use-ip-from-label",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IP=10.3.0.1"], "labels": {"a": "10.1.2.3/24"}},
        ["lan 10.3.0.1:8000", NEAR],
        {"use_ip_from_label": "a"},
    ),
    Row(
        "--use-ip-from-label without the label",
        {"ports": {"80/tcp": 8000}},
        [f"lan {IP}:8000", NEAR],
        {"use_ip_from_label": "a"},
    ),
    Row(
        "an unpublished port that is proxied",
        {"expose": ["80/tcp"], "env": ["SERVICE_80_PROXY=http"]},
        [NEAR],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_addresses(row):
    """Each way to be reached gets its scope; what nobody can reach is left out by rule."""
    decided = decide(row.flags, host=row.host, **row.container)

    if isinstance(row.expected, str):
        assert reasons(decided) == {"80/tcp": row.expected}
    else:
        assert sorted(places(decided, 80)) == sorted(row.expected)
        assert reasons(decided) == {}


def test_lan_comes_first_and_ipv4_before_ipv6():
    """What exports use is in front."""
    decided = decide(host=HOST6, ports={"80/tcp": [("::", 8000), ("0.0.0.0", 8000)]})

    assert places(decided, 80) == [f"lan {IP}:8000", "lan fd00::1:8000", NEAR]


NONE_KNOWN = "no address of this host is known that others can reach: name it with --ip"
OF_ANOTHER_FAMILY = (
    "it is published over IPv{0} only, and no IPv{0} address of this host is known that others can reach: "
    "name it with --ip"
)
USELESS = "{} is no address that other hosts can reach: name another one in {}"
TAG_OR_LABEL = "the IP tag or the label of --use-ip-from-label"
OF_NO_USE = {
    "an IP tag": ({"ports": {"80/tcp": 8000}, "env": ["SERVICE_IP=127.0.0.1,fe80::1"]}, {}, "127.0.0.1, fe80::1"),
    "with INTERNAL": ({"expose": ["80/tcp"], "env": ["SERVICE_IP=0.0.0.0", "SERVICE_INTERNAL=1"]}, {}, "0.0.0.0"),
    "on the host's network": ({"expose": ["80/tcp"], "mode": "host", "env": ["SERVICE_IP=::1"]}, {}, "::1"),
    "a label": ({"ports": {"80/tcp": 1}, "labels": {"ip": "127.0.0.1/8"}}, {"use_ip_from_label": "ip"}, "127.0.0.1"),
    "--ip": ({"ports": {"80/tcp": 8000}}, {"ip": ("127.0.0.1",)}, "127.0.0.1"),
    "--ip, on the host's network": ({"expose": ["80/tcp"], "mode": "host"}, {"ip": ("127.0.0.1",)}, "127.0.0.1"),
}


@pytest.mark.parametrize(("container", "flags", "given"), OF_NO_USE.values(), ids=OF_NO_USE)
def test_an_address_that_is_given_and_of_no_use_is_named(container, flags, given):
    """With where to give another one: the host's own is not asked for then."""
    [left] = decide(flags, **container).left_out

    assert (left.rule, left.reason) == ("address", USELESS.format(given, "--ip" if "ip" in flags else TAG_OR_LABEL))


UNKNOWN = {
    "no address": ((), ("0.0.0.0", 8000), {}, NONE_KNOWN),
    "none that others can reach": (("127.0.1.1",), ("::", 8000), {}, NONE_KNOWN),
    "over both families": ((), ANY, {}, NONE_KNOWN),
    "IPv6 only, on a host known by IPv4": ((IP,), ("::", 8000), {}, OF_ANOTHER_FAMILY.format(6)),
    "IPv4 only, on a host known by IPv6": (("fd00::1",), ("0.0.0.0", 8000), {}, OF_ANOTHER_FAMILY.format(4)),
    "IPv6 only, and --ip of IPv4": ((), ("::", 8000), {"ip": (IP,)}, OF_ANOTHER_FAMILY.format(6)),
}


@pytest.mark.parametrize(("known", "bound", "flags", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_address_names_the_flag(known, bound, flags, reason):
    """Without an address of the host that stands for the binding, the reason says of which kind, and what to do."""
    [left] = decide(flags, host=("h", known), ports={"80/tcp": bound}).left_out

    assert (left.rule, left.reason) == ("address", reason)


def test_network_that_is_none_lists_those_there_are():
    [left] = decide(ports={"80/tcp": 8000}, networks=SHOP, env=["SERVICE_NETWORK=overlay"]).left_out

    assert left.reason == (
        "SERVICE_NETWORK: 'overlay' is none of the container's networks: "
        "back (10.9.0.5), shop_front (172.20.0.5 fd20::5); the port is left out"
    )


OTHER_ID = "f" * 64
SHARED = [
    ("published by the other", {"ports": {"80/tcp": 8000}}, [f"lan {IP}:8000", NEAR]),
    ("not published by the other", {}, "unpublished"),
    ("on the host's network", {"mode": "host"}, [f"lan {IP}:80"]),
    ("gone", None, "address"),
]


@pytest.mark.parametrize(("other", "expected"), [row[1:] for row in SHARED], ids=[row[0] for row in SHARED])
def test_network_of_another_container(other, expected):
    """A container in another's network is reached where the other is."""
    others = [] if other is None else [given(id_=OTHER_ID, name="pause", **other)]
    decided = decide(others=others, expose=["80/tcp"], mode=f"container:{OTHER_ID}", env=["SERVICE_NAME=web"])

    assert (reasons(decided)["80/tcp"] if decided.left_out else places(decided, 80)) == expected


def test_containers_that_share_in_a_circle():
    """No end of sharing is no network."""
    own = given(mode="container:c", name="c")

    assert reasons(decide(others=[own], expose=["80/tcp"], mode="container:c", name="c")) == {"80/tcp": "address"}


def test_loopback_is_told():
    """A port that only this host reaches stays in the record, and the admin is told."""
    decided = decide(ports={"80/tcp": ("127.0.0.1", 8000)}, env=["SERVICE_NAME=web"])

    assert endpoint(decided, 80).service == "web"
    assert decided.notices == ("80/tcp: bound to an address of this host only: no other host is told of it",)


NEVER = [
    "",
    "x",
    "0.0.0.0",
    "::",
    "127.0.0.1",
    "127.0.1.1",
    "::1",
    "169.254.1.1",
    "fe80::1",
    "fe80::1%eth0",
    "224.0.0.1",
]


@pytest.mark.parametrize("ip", NEVER, ids=[ip or "nothing" for ip in NEVER])
def test_never_told_to_others(ip):
    """No such address is ever written for others to use."""
    assert not usable(ip)


def test_a_network_that_it_is_not_on_is_named():
    """What --network asked for, and what there is."""
    [left] = decide({"internal": True, "network": ("overlay",)}, expose=["80/tcp"], networks=SHOP).left_out

    assert left.reason == (
        "the container is on none of --network 'overlay': it is on back (10.9.0.5), shop_front (172.20.0.5 fd20::5)"
    )
