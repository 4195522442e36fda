"""Who is meant: networks of clients, asked about by the octets of an address.

Pure. An answer for an address is remembered, so that asking costs one look-up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

# Loopback; RFC 1918; link-local, RFC 3927 and RFC 4291 §2.5.6; unique local, RFC 4193. Shared address space (RFC 6598)
# is not in it: behind it are a provider's customers, not one's own hosts.
LOOPBACK = ("127.0.0.0/8", "::1/128")
PRIVATE_NETWORKS = (
    *LOOPBACK,
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("fc00::/7", "fe80::/10"),
)
MAX_REMEMBERED = 10_000  # addresses
_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address in an IPv6 one; RFC 4291 §2.5.5.2

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Clients:
    """Some networks.

    Args:
        networks: as `192.0.2.0/24`.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ipaddress.ip_network(one) for one in networks)
        self._known: dict[bytes, bool] = {}

    def allows(self, client: bytes) -> bool:
        """True when an address, given as its 4 or 16 octets, is in one of the networks; nothing else ever is."""
        found = self._known.get(client)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            found = self._known[client] = self._look(client)
        return found

    def _look(self, client: bytes) -> bool:
        if len(client) == 16 and client.startswith(_MAPPED):
            client = client[12:]
        if len(client) not in {4, 16}:
            return False
        address = ipaddress.ip_address(client)
        return any(address.version == network.version and address in network for network in self._networks)


def recursive(given: Iterable[str], *, bridged: bool) -> Clients:
    """Those who may have others asked.

    Args:
        given: what was set: networks, `private`, `none`; nothing: the default.
        bridged: we are in a container with a network of its own, where clients from anywhere may look private: then
            only those inside it may.
    """
    words = tuple(given) or (LOOPBACK if bridged else ("private",))
    networks = [one for word in words for one in (PRIVATE_NETWORKS if word == "private" else (word,)) if one != "none"]
    return Clients(networks)


def is_here_only(ip: str) -> bool:
    """True for addresses that mean something else, or nothing, on another host: loopback and unspecified ones."""
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified
