"""Whose questions are served: networks against packed addresses.

Pure. IPv4 in IPv6 (::ffff:192.0.2.1) is seen as IPv4, in addresses and in networks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from dnsserver.recent import Recent
from dnsserver.settings import NOBODY, PRIVATE

# Not 100.64.0.0/10: whoever stands behind a provider's NAT is a stranger (RFC 6598 §4).
LOOPBACK = ("127.0.0.0/8", "::1/128")
PRIVATE_NETWORKS = (
    *LOOPBACK,
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
    "fc00::/7",  # RFC 4193
    "169.254.0.0/16", "fe80::/10",  # link-local
)  # fmt: skip
MOST = 20_000  # addresses remembered
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2
_MAPPED_BITS = 96


class Clients:
    """Who is served.

    Args:
        listed: networks, and the words "private" and "none".
        default: what an empty list stands for.

    >>> Clients(["192.0.2.0/24"]).allows(bytes((192, 0, 2, 7)))
    True
    """

    def __init__(self, listed: Sequence[str], *, default: str = NOBODY) -> None:
        self.networks = tuple(_networks(listed or [default]))
        self._rules = [(len(first), int.from_bytes(first), shift) for first, shift in map(_rule, self.networks)]
        self._met: Recent[bytes, bool] = Recent(MOST)

    def allows(self, client: bytes) -> bool:
        """True for an address that is in one of the networks.

        Args:
            client: packed, 4 or 16 octets.
        """
        found = self._met.get(client)
        if found is None:
            found = self._look(client[12:] if client[:12] == _MAPPED else client)
            self._met.put(client, found)
        return found

    def _look(self, client: bytes) -> bool:
        number = int.from_bytes(client)
        return any(len(client) == size and number >> shift == first >> shift for size, first, shift in self._rules)


def _networks(listed: Sequence[str]) -> list[str]:
    texts = [one for text in listed for one in (PRIVATE_NETWORKS if text == PRIVATE else (text,)) if one != NOBODY]
    return list(dict.fromkeys(map(_plain, texts)))


def _plain(text: str) -> str:
    network = ipaddress.ip_network(text, strict=False)
    first = network.network_address.packed
    if first[:12] == _MAPPED and network.prefixlen >= _MAPPED_BITS:
        return str(ipaddress.ip_network((first[12:], network.prefixlen - _MAPPED_BITS)))
    return str(network)


def _rule(text: str) -> tuple[bytes, int]:
    network = ipaddress.ip_network(text)
    return network.network_address.packed, network.max_prefixlen - network.prefixlen


def is_here_only(ip: str) -> bool:
    """True for addresses that mean something else, or nothing, on another host: loopback and unspecified ones."""
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified
