"""Service bindings: how the data of HTTPS and SVCB records is laid out (RFC 9460 §2.2).

Pure. Names in it are never compressed, and keys stand in rising order, each once.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dnsserver.message import dname
from dnsserver.message.rr import Data

ALPN, PORT = 1, 3  # keys of parameters; RFC 9460 §14.3.2
HTTPS_PORT = 443
OWNER = dname.ROOT  # as a target: the owner of the record; RFC 9460 §2.5.2


class Binding(NamedTuple):
    """What one record in ServiceMode says.

    Attributes:
        priority: at least 1, lowest first.
        target: wire name; OWNER for the name that has the record.
        alpn: protocols, preferred first.
        port: where; HTTPS_PORT goes without saying.
    """

    priority: int
    target: bytes
    alpn: tuple[str, ...]
    port: int


def data(binding: Binding) -> Data:
    """Data of HTTPS and SVCB."""
    alpn = b"".join(bytes((len(one),)) + one.encode() for one in binding.alpn)
    params = _param(ALPN, alpn) if alpn else b""
    if binding.port != HTTPS_PORT:
        params += _param(PORT, struct.pack("!H", binding.port))
    return Data(struct.pack("!H", binding.priority), (binding.target,), params)


def _param(key: int, value: bytes) -> bytes:
    return struct.pack("!HH", key, len(value)) + value
