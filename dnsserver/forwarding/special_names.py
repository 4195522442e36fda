"""Names that are never asked of others, and what is said instead: a table.

Pure. Whoever asked a name server elsewhere for these would tell it what is none of its business, and load the root
servers with what they cannot know (RFC 6761, RFC 6303, RFC 7686). An admin who has them elsewhere says so with a stub
zone, which goes first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from dnsserver.message import rr
from dnsserver.message.dname import from_text, reverse, suffixes
from dnsserver.message.rr import Data, Record, Soa, Type
from dnsserver.message.wire import Rcode, Reply

TTL = 10800  # seconds, of the SOA and of localhost; RFC 6303 §3

_LOCALHOST = from_text("localhost")

# What is there -> who says that it stays. `ipv4only.arpa` is not in it: it is to be asked of others (RFC 8880 §7.1).
_ZONES = {
    "localhost": "RFC 6761 §6.3",
    "test": "RFC 6761 §6.2",
    "invalid": "RFC 6761 §6.4",
    "onion": "RFC 7686 §2",
    "alt": "RFC 9476 §3.1",
    "local": "RFC 6762 §22.1",
    "home.arpa": "RFC 8375 §4",
    "resolver.arpa": "RFC 9462 §8.2",
    "service.arpa": "RFC 9665",
}

# Networks whose reverse zones mean something else on every network (RFC 6303 §4, RFC 7793 §2).
_NETWORKS = (
    *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16"),
    *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "255.255.255.255/32"),
    *(f"172.{second}.0.0/16" for second in range(16, 32)),
    *(f"100.{second}.0.0/16" for second in range(64, 128)),
    *("::/128", "::1/128", "fd00::/8", "fe80::/12", "fe90::/12", "fea0::/12", "feb0::/12", "2001:db8::/32"),
)


def _reverse_zone(network: str) -> bytes:
    parsed = ipaddress.ip_network(network)
    octets, per_label = parsed.max_prefixlen - parsed.prefixlen, 8 if parsed.version == 4 else 4
    name = reverse(str(parsed.network_address))
    for _ in range(octets // per_label):
        name = name[1 + name[0] :]
    return name


_STAYS = frozenset([*map(from_text, _ZONES), *map(_reverse_zone, _NETWORKS)])
_ADDRESSES: dict[int, Data] = {Type.A: rr.address("127.0.0.1")[1], Type.AAAA: rr.address("::1")[1]}
_ARPA = from_text("arpa")


def stays_here(name: bytes, rtype: int) -> Reply | None:
    """What to say to a question that is not to leave this host; None: it may.

    Args:
        name: in lower case.
        rtype: the type asked for. DS of such a zone below arpa may leave: it belongs to the zone above, and
            proves to those who check signatures that there are none below (RFC 8375 §4).
    """
    zone = next((above for above in suffixes(name) if above in _STAYS), None)
    if zone is None or (name == zone and rtype == Type.DS and zone.endswith(_ARPA)):
        return None
    if zone == _LOCALHOST and rtype in _ADDRESSES:
        return _reply(Rcode.NOERROR, answer=(Record(name, rtype, TTL, _ADDRESSES[rtype]),))
    if name == zone and rtype in _APEX:
        return _reply(Rcode.NOERROR, answer=(Record(zone, rtype, TTL, _APEX[rtype](zone)),))
    exists = zone in {name, _LOCALHOST}
    soa = Record(zone, Type.SOA, TTL, _soa(zone))
    return _reply(Rcode.NOERROR if exists else Rcode.NXDOMAIN, authority=(soa,))


# RFC 6303 §3: the zone is its own server, since there is none to be found.
def _soa(zone: bytes) -> Data:
    return rr.soa(zone, _NOBODY, Soa(1, 3600, 1200, 604800, TTL))


_NOBODY = from_text("nobody.invalid")
_APEX: dict[int, Callable[[bytes], Data]] = {Type.SOA: _soa, Type.NS: rr.pointing}


def _reply(rcode: Rcode, answer: tuple[Record, ...] = (), authority: tuple[Record, ...] = ()) -> Reply:
    return Reply(rcode, answer=answer, authority=authority, recursion=True)
