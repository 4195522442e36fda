"""EDNS options: what a client asks for in them, and what is put into the answer (RFC 6891 §6.1.2).

Pure. Unknown options are ignored and never sent back. Whether a reply may carry an option depends on how the question
came: keepalive and padding are for streams.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from dnsserver.wire import Malformed

_HEAD = struct.Struct("!HH")
CLIENT_COOKIE = 8  # octets; RFC 7873 §4
SERVER_COOKIE = range(8, 33)  # octets
LOOP = b"\x01"  # what SkyDNS puts into questions for stub zones


class Code(IntEnum):
    """Options that we know (IANA, DNS EDNS0 Option Codes)."""

    NSID = 3  # RFC 5001
    COOKIE = 10  # RFC 7873
    KEEPALIVE = 11  # RFC 7828
    PADDING = 12  # RFC 7830
    STUB = 65011  # SkyDNS's loop guard, in the range for local use


class Options(NamedTuple):
    """What a client's options ask for.

    Attributes:
        client_cookie: 8 octets, or empty.
        server_cookie: what it got from us or somebody else before, or empty.
        nsid: it wants to know who we are.
        keepalive: it wants to know how long a connection may be silent.
        padding: it wants the answer's size hidden.
        looped: the question was sent for a stub zone.
    """

    client_cookie: bytes = b""
    server_cookie: bytes = b""
    nsid: bool = False
    keepalive: bool = False
    padding: bool = False
    looped: bool = False


NONE = Options()


def read(octets: bytes) -> Options:
    """Read the options of a query.

    Args:
        octets: the data of its OPT record, which whole options fill.

    Raises:
        Malformed: a cookie, or a keepalive, of a length that has no meaning.

    Source: RFC 7873 §5.2.2 (cookies), RFC 7828 §3.2.1 (a client gives no time), RFC 5001 §2.1 (NSID is empty).
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(octets):
        code, length = _HEAD.unpack_from(octets, at)
        at += _HEAD.size
        found.setdefault(code, octets[at : at + length])  # the first cookie counts; RFC 7873 §5.2
        at += length
    cookie = found.get(Code.COOKIE, b"")
    if cookie and len(cookie) != CLIENT_COOKIE and len(cookie) - CLIENT_COOKIE not in SERVER_COOKIE:
        raise Malformed(f"a cookie of {len(cookie)} octets")
    if Code.COOKIE in found and not cookie:
        raise Malformed("a cookie of 0 octets")
    if found.get(Code.KEEPALIVE):
        raise Malformed("a client that says how long it keeps a connection")
    return Options(
        cookie[:CLIENT_COOKIE],
        cookie[CLIENT_COOKIE:],
        Code.NSID in found,
        Code.KEEPALIVE in found,
        Code.PADDING in found,
        found.get(Code.STUB) == LOOP,
    )


def option(code: Code, data: bytes) -> bytes:
    """One option as octets."""
    return _HEAD.pack(code, len(data)) + data


def keepalive(idle_ms: int) -> bytes:
    """How long a connection may be silent, in units of 100 ms (RFC 7828 §3.1)."""
    return option(Code.KEEPALIVE, min(idle_ms // 100, 0xFFFF).to_bytes(2))


def padding(octets: int) -> bytes:
    """So many octets of nothing, and 4 of the option itself."""
    return option(Code.PADDING, bytes(octets))
