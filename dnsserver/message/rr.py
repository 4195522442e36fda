"""Resource records as values, and how the data of each type is laid out.

Pure. A record's data is what stands around its domain names: octets, names, octets. Names stay apart because they are
what compression may shorten (RFC 1035 §4.1.4, RFC 3597 §4), and that only the writer of a whole message can do.
"""

from __future__ import annotations

import functools
import ipaddress
import struct
from enum import IntEnum
from typing import NamedTuple

from dnslib import RD, TXT, DNSBuffer

MAX_TTL = 2**31 - 1  # seconds; RFC 2181 §8
MAX_STRING = 255  # octets of one character-string; RFC 1035 §3.3


class Type(IntEnum):
    """Record types that we answer or treat in their own way (IANA, DNS parameters)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    NAPTR = 35
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    SVCB = 64
    HTTPS = 65
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255
    CAA = 257


# Types whose names may be compressed: those of RFC 1035 (RFC 3597 §4); never SRV (RFC 2782).
COMPRESSIBLE = frozenset({Type.NS, Type.CNAME, Type.SOA, Type.PTR, Type.MX})
ADDRESSES = frozenset({Type.A, Type.AAAA})


class Data(NamedTuple):
    """The data of one record: octets before its names, the names (wire form, case kept), octets after them."""

    head: bytes
    names: tuple[bytes, ...] = ()
    tail: bytes = b""


class Record(NamedTuple):
    """One resource record of class IN.

    Attributes:
        owner: wire name, spelled as it is to be shown.
        type: a record type.
        ttl: seconds.
        data: what it says.
    """

    owner: bytes
    type: int
    ttl: int
    data: Data


class Service(NamedTuple):
    """What an SRV record says (RFC 2782): `target` as wire name."""

    priority: int
    weight: int
    port: int
    target: bytes


@functools.lru_cache(maxsize=16_384)
def address(ip: str) -> tuple[Type, Data]:
    """Type and data of an address: A (RFC 1035 §3.4.1) or AAAA (RFC 3596 §2.2)."""
    parsed = ipaddress.ip_address(ip)
    return (Type.A if parsed.version == 4 else Type.AAAA), Data(parsed.packed)


def pointing(name: bytes) -> Data:
    """Data of CNAME, NS and PTR: one name (RFC 1035 §3.3)."""
    return Data(b"", (name,))


def srv(service: Service) -> Data:
    """Data of SRV."""
    return Data(struct.pack("!HHH", service.priority, service.weight, service.port), (service.target,))


def mx(preference: int, exchange: bytes) -> Data:
    """Data of MX (RFC 1035 §3.3.9)."""
    return Data(struct.pack("!H", preference), (exchange,))


def caa(flags: int, tag: bytes, value: bytes) -> Data:
    """Data of CAA (RFC 8659 §4.1); the tag has 1 to 255 octets."""
    return Data(bytes((flags, len(tag))) + tag + value)


def naptr(order: int, preference: int, strings: tuple[bytes, bytes, bytes], replacement: bytes) -> Data:
    """Data of NAPTR (RFC 3403 §4.1): flags, service and regexp of at most 255 octets each, a name."""
    return Data(struct.pack("!HH", order, preference) + b"".join(map(_string, strings)), (replacement,))


def text(content: bytes) -> Data:
    """Data of TXT: at least one string, each of at most 255 octets (RFC 1035 §3.3.14)."""
    cuts = range(0, len(content), MAX_STRING) if content else [0]
    return _packed(TXT([content[at : at + MAX_STRING] for at in cuts]))


def hinfo(cpu: bytes, system: bytes) -> Data:
    """Data of HINFO (RFC 1035 §3.3.2)."""
    return Data(_string(cpu) + _string(system))


class Soa(NamedTuple):
    """What a zone's SOA says besides its names (RFC 1035 §3.3.13); all but the serial in seconds."""

    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


def soa(server: bytes, mailbox: bytes, says: Soa) -> Data:
    """Data of SOA."""
    return Data(b"", (server, mailbox), struct.pack("!5I", *says))


# dnslib lays out the types that are asked for rarely; the others cost less by hand (docs/decisions/0006).
def _packed(data: RD) -> Data:
    buffer = DNSBuffer()
    data.pack(buffer)
    return Data(bytes(buffer.data))


def _string(content: bytes) -> bytes:
    return bytes((len(content),)) + content
