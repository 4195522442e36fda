"""EDNS options: those of a query as values, those of a reply as octets (RFC 6891 §6.1.2).

Pure. What we do not know is ignored and never comes back. Client subnet (RFC 7871) is among it: answers do not depend
on it, and nothing is told to others about a client.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dnsserver.message.wire import MAX_TCP, Ede, Malformed

NSID, COOKIE, KEEPALIVE, PADDING, EDE = 3, 10, 11, 12, 15  # IANA, DNS EDNS0 option codes
STUB_GUARD = 65011  # local use: SkyDNS marks what it forwards to a stub zone, and drops what comes back to it

CLIENT_COOKIE = 8  # octets; RFC 7873 §4
_COOKIE_SIZES = frozenset((CLIENT_COOKIE, *range(16, 41)))  # alone, or with a server cookie; RFC 7873 §4
PADDED_TO = 468  # octets; RFC 8467 §4.1
_KEEPALIVE_UNIT_MS = 100  # RFC 7828 §3.1
_MAX_U16 = 0xFFFF
_HEAD = struct.Struct("!HH")
_LONE_COOKIE = _HEAD.pack(COOKIE, CLIENT_COOKIE)


class Options(NamedTuple):
    """What a query's options ask for.

    Attributes:
        cookie: the client's cookie, 8 octets, and behind it the server cookie that it knows, if any; None: no cookies.
        keepalive: how long a TCP connection may be silent (RFC 7828).
        padding: the reply is to be padded (RFC 7830).
        nsid: which server this is (RFC 5001).
        stub_guard: the query was forwarded for a stub zone by us or another SkyDNS.
    """

    cookie: bytes | None = None
    keepalive: bool = False
    padding: bool = False
    nsid: bool = False
    stub_guard: bool = False


NONE = Options()
_FIELDS = {
    KEEPALIVE: "keepalive",
    PADDING: "padding",
    NSID: "nsid",  # what a query says in it is ignored; RFC 5001 §2.1
    STUB_GUARD: "stub_guard",
}


def read_options(octets: bytes, *, tcp: bool = False) -> Options:
    """Read the data of a query's OPT record.

    Args:
        octets: all options, one behind the other.
        tcp: the query came over TCP; elsewhere keepalive is ignored, whatever it says (RFC 7828 §3.2.2).

    Raises:
        Malformed: options that do not fill the record, a cookie of a length that none has (RFC 7873 §5.2.2), a timeout
            from a client (RFC 7828 §3.2.1).

    >>> read_options(bytes.fromhex("000a00082464c4abcf10c957")).cookie.hex()
    '2464c4abcf10c957'
    """
    if not octets:
        return NONE
    if octets[:4] == _LONE_COOKIE and len(octets) == 4 + CLIENT_COOKIE:  # what most clients with options send
        return Options(octets[4:])
    cookie, asked = None, {}
    at, end = 0, len(octets)
    while at < end:
        if at + _HEAD.size > end:
            raise Malformed("an EDNS option is cut short")
        code, size = _HEAD.unpack_from(octets, at)
        at += _HEAD.size + size
        if at > end:
            raise Malformed("an EDNS option is longer than its record")
        if code == COOKIE:
            if size not in _COOKIE_SIZES:
                raise Malformed(f"a cookie of {size} octets")
            cookie = octets[at - size : at] if cookie is None else cookie  # only the first counts; RFC 7873 §5
        elif code == KEEPALIVE and size and tcp:
            raise Malformed("a keepalive timeout from a client")
        elif code in _FIELDS:
            asked[_FIELDS[code]] = True
    return Options(cookie, **asked)


def write_options(
    options: Options,
    *,
    transport_tcp: bool,
    cookie: bytes = b"",
    nsid: bytes = b"",
    keepalive_ms: int = 0,
    ede: Ede | None = None,
    size: int = 0,
    pad_to: int = PADDED_TO,
) -> bytes:
    """The data of a reply's OPT record.

    Args:
        options: what the query asked for; nothing else is given, but for `ede`.
        transport_tcp: the reply goes over TCP: only there are keepalive and padding given.
        cookie: the client's cookie and the server's; b"": none is given.
        nsid: which server this is; b"": nobody is told.
        keepalive_ms: milliseconds of silence after which the connection is closed.
        ede: extended error.
        size: octets of the reply with its empty OPT record, to which these are added.
        pad_to: the whole is padded to a multiple of so many octets (RFC 8467 §4.1).
    """
    parts = []
    if cookie and options.cookie is not None:
        parts.append(_HEAD.pack(COOKIE, len(cookie)) + cookie)
    if nsid and options.nsid:
        parts.append(_HEAD.pack(NSID, len(nsid)) + nsid)
    if ede is not None:
        parts.append(_HEAD.pack(EDE, 2) + struct.pack("!H", ede))
    if transport_tcp and options.keepalive:
        parts.append(_HEAD.pack(KEEPALIVE, 2) + struct.pack("!H", min(_MAX_U16, keepalive_ms // _KEEPALIVE_UNIT_MS)))
    written = b"".join(parts)
    return written + _padding(size + len(written), pad_to) if transport_tcp and options.padding else written


def _padding(size: int, pad_to: int) -> bytes:
    size += _HEAD.size
    missing = min(-size % pad_to, MAX_TCP - size)
    return _HEAD.pack(PADDING, missing) + bytes(missing) if missing >= 0 else b""
