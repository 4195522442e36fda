"""Names of class CHAOS, by which servers are asked about themselves (RFC 4892).

Pure: a table.
"""

from __future__ import annotations

from collections.abc import Collection

from dnsserver.message import dname, rr
from dnsserver.message.rr import Record, Type
from dnsserver.message.wire import Rcode, Reply

AUTHORS = "the Pilotfish authors"
REFUSED = Reply(Rcode.REFUSED)

_VERSION = frozenset({dname.from_text("version.bind"), dname.from_text("version.server")})
_IDENTITY = frozenset({dname.from_text("hostname.bind"), dname.from_text("id.server")})
_AUTHORS = dname.from_text("authors.bind")


def answer(name: bytes, qtype: int, domains: Collection[bytes], *, identity: str, version: str) -> Reply:
    """What is said of ourselves.

    Args:
        name: wire name as asked.
        qtype: the type asked for.
        domains: ours, in lower case; SkyDNS told its authors there too.
        identity: what we call ourselves; empty: nothing is said.
        version: empty: nothing is said.
    """
    lower = name.lower()
    if lower in _VERSION:
        said = version
    elif lower in _IDENTITY:
        said = identity
    else:
        said = AUTHORS if lower == _AUTHORS or lower in domains else ""
    if not said or qtype not in {Type.TXT, Type.ANY}:
        return REFUSED
    return Reply(Rcode.NOERROR, answer=(Record(name, Type.TXT, 0, rr.text(said.encode())),))
