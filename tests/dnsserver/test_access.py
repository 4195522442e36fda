"""Whose questions are served: words, networks, IPv4 in IPv6, and a bounded memory."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsserver.access import MOST, Clients


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


PRIVATE = {
    "loopback": ("127.0.0.1", True),
    "the end of loopback": ("127.255.255.255", True),
    "IPv6 loopback": ("::1", True),
    "behind IPv6 loopback": ("::2", False),
    "10/8": ("10.255.0.1", True),
    "172.16/12, first": ("172.16.0.0", True),
    "172.16/12, last": ("172.31.255.255", True),
    "before 172.16/12": ("172.15.255.255", False),
    "behind 172.16/12": ("172.32.0.0", False),
    "192.168/16": ("192.168.1.1", True),
    "link-local": ("169.254.1.1", True),
    "IPv6 link-local": ("fe80::1", True),
    "the end of IPv6 link-local": ("febf::1", True),
    "site-local of old": ("fec0::1", False),
    "unique local, first": ("fc00::1", True),
    "unique local": ("fdff::1", True),
    "a provider's NAT": ("100.64.0.1", False),
    "documentation": ("192.0.2.1", False),
    "this network": ("0.0.0.0", False),
    "the unspecified IPv6 address": ("::", False),
    "global": ("8.8.8.8", False),
    "global IPv6": ("2001:4860:4860::8888", False),
    "private IPv4 in IPv6": ("::ffff:10.0.0.1", True),
    "global IPv4 in IPv6": ("::ffff:8.8.8.8", False),
    "private IPv4 in the old IPv6 form": ("::10.0.0.1", False),
    "private IPv4 behind 6to4": ("2002:a00:1::", False),
    "private IPv4 behind NAT64": ("64:ff9b::10.0.0.1", False),
}


@pytest.mark.parametrize(("client", "expected"), PRIVATE.values(), ids=PRIVATE)
def test_private(client, expected):
    """Loopback, RFC 1918, RFC 4193 and link-local; asked twice, the answer is the same."""
    clients = Clients(["private"])

    assert [clients.allows(ip(client)) for _ in range(2)] == [expected] * 2


LISTED = {
    "nobody": (["none"], "127.0.0.1", False),
    "nobody and a network": (["none", "192.0.2.0/24"], "192.0.2.1", True),
    "a network": (["192.0.2.0/24"], "192.0.2.255", True),
    "outside it": (["192.0.2.0/24"], "192.0.3.0", False),
    "an address": (["192.0.2.1"], "192.0.2.1", True),
    "the address beside it": (["192.0.2.1"], "192.0.2.0", False),
    "a network does not make private ones permitted": (["192.0.2.0/24"], "10.0.0.1", False),
    "a word and a network": (["private", "192.0.2.0/24"], "192.0.2.1", True),
    "all of IPv4": (["0.0.0.0/0"], "8.8.8.8", True),
    "all of IPv4, in IPv6": (["0.0.0.0/0"], "::ffff:8.8.8.8", True),
    "all of IPv4 is not IPv6": (["0.0.0.0/0"], "2001:db8::1", False),
    "all of IPv6 is not IPv4": (["::/0"], "8.8.8.8", False),
    "IPv4 written as IPv6": (["::ffff:192.0.2.0/120"], "192.0.2.9", True),
    "an IPv6 network": (["2001:db8::/33"], "2001:db8:7fff::1", True),
    "outside the IPv6 network": (["2001:db8::/33"], "2001:db8:8000::1", False),
    "host bits": (["192.0.2.77/24"], "192.0.2.1", True),
}


@pytest.mark.parametrize(("listed", "client", "expected"), LISTED.values(), ids=LISTED)
def test_listed(listed, client, expected):
    """What is listed is served, and nothing else."""
    assert Clients(listed).allows(ip(client)) is expected


DEFAULTS = {"private": True, "none": False}


@pytest.mark.parametrize(("default", "expected"), DEFAULTS.items())
def test_the_default_counts_only_where_nothing_is_listed(default, expected):
    """An empty list is the default; one entry replaces it."""
    assert Clients([], default=default).allows(ip("10.0.0.1")) is expected
    assert Clients(["192.0.2.1"], default=default).allows(ip("10.0.0.1")) is False


def test_nobody_without_a_word():
    """Nothing listed and no default said: nobody."""
    assert Clients([]).allows(ip("127.0.0.1")) is False


def test_the_networks_can_be_shown():
    """What is in force is said, each network once."""
    assert Clients(["private", "10.0.0.0/8", "192.0.2.7/24"]).networks == (
        "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "169.254.0.0/16",
        "fe80::/10", "192.0.2.0/24",
    )  # fmt: skip


def networks_of(octets: int) -> st.SearchStrategy[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    first = st.binary(min_size=octets, max_size=octets)
    return st.builds(
        lambda address, length: ipaddress.ip_network((address, length), strict=False),
        first,
        st.integers(0, octets * 8),
    ).filter(lambda network: network.network_address.packed[:12] != bytes(10) + b"\xff\xff")


@given(st.lists(networks_of(4) | networks_of(16), max_size=4), st.ip_addresses(), st.data())
def test_as_the_standard_library_sees_it(networks, address, data):
    """For any networks and any address, the edges of these too: what `ipaddress` says."""
    edges = [edge for network in networks for edge in (network.network_address, network.broadcast_address)]
    asked = data.draw(st.sampled_from([address, *edges]))
    seen = getattr(asked, "ipv4_mapped", None) or asked

    assert Clients([str(one) for one in networks]).allows(asked.packed) is any(seen in one for one in networks)


def test_what_is_remembered_is_bounded():
    """However many clients ask, a bounded number is remembered."""
    clients = Clients(["private"])
    for number in range(2 * MOST):
        clients.allows(number.to_bytes(4))

    assert len(clients._met) <= MOST
