"""Name servers as they are measured: which process, which port, what it says, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import dns.edns
import dns.message
import dns.query

from bench.parts import LOCAL

CLIENT_COOKIE = bytes.fromhex("0123456789abcdef")
_TIMEOUT_S = 5


class Server(NamedTuple):
    """One that is measured.

    Attributes:
        title: how it is named in tables.
        pid: of the process that it is, or whose children do the work.
        port: UDP and TCP, on loopback.
    """

    title: str
    pid: int
    port: int


def compare(ours: Server, other: Server, asked: Iterable[tuple[str, str]]) -> None:
    """Refuse to compare servers that do not say the same.

    Raises:
        RuntimeError: what each said.
    """
    for name, kind in asked:
        one, two = (_sections(server, name, kind) for server in (ours, other))
        if one != two:
            raise RuntimeError(f"{name} {kind}: {ours.title} says {one}, {other.title} says {two}")


def _sections(server: Server, name: str, kind: str) -> tuple[int, frozenset[str], frozenset[str]]:
    question = dns.message.make_query(name, kind, use_edns=0, payload=4096)
    answer = dns.query.udp(question, LOCAL, port=server.port, timeout=_TIMEOUT_S)
    sections = (answer.answer, answer.additional)
    answers, additional = (
        frozenset(f"{one.name} {one.ttl} {record}".lower() for one in section for record in one) for section in sections
    )
    return int(answer.rcode()), answers, additional


def cookie(server: Server, name: str) -> str:
    """The whole cookie that a client has after its first question, in hex; without a server's part if it gives none."""
    option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, CLIENT_COOKIE)
    question = dns.message.make_query(name, "A", use_edns=0, options=[option])
    answer = dns.query.udp(question, LOCAL, port=server.port, timeout=_TIMEOUT_S)
    given = next((one.to_wire() for one in answer.options if one.otype == dns.edns.OptionType.COOKIE), None)
    return (given or CLIENT_COOKIE).hex()


def serial(server: Server, domain: str) -> int:
    """The serial of a domain's SOA."""
    answer = dns.query.udp(dns.message.make_query(domain, "SOA"), LOCAL, port=server.port, timeout=_TIMEOUT_S)
    return int(answer.answer[0][0].to_text().split()[2])  # RFC 1035 §3.3.13
