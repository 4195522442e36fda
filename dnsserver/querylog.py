"""One line of the query log: what was asked, by whom, and what it got.

Pure, and total: any octets make one line of valid JSON. Names are written as RFC 1035 §5.1 escapes them, so that no
client can write a line of its own, or colour a terminal.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import msgspec

from dnsserver.message import wire
from dnsserver.message.dname import to_text
from dnsserver.message.rr import Type
from dnsserver.message.wire import Malformed, Rcode

_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 §2.5.5.2
_FLAGS = {wire.RD: "rd", wire.CD: "cd", wire.AD: "ad"}
_ANSWER_FLAGS = {wire.AA: "aa", wire.TC: "tc", wire.RA: "ra", wire.AD: "ad"}


class Noted(NamedTuple):
    """One message and what came of it.

    Attributes:
        time: UNIX time in seconds.
        client: packed address, 4 or 16 octets.
        transport: "udp" or "tcp".
        message: what came.
        reply: what was sent; None: nothing.
    """

    time: float
    client: bytes
    transport: str
    message: bytes
    reply: bytes | None


def line(noted: Noted) -> bytes:
    """One line of JSON, with its newline; ASCII only. Never raises."""
    asked = _question(noted.message)
    said: dict[str, object] = {
        "time": round(noted.time, 6),
        "client": _client_text(noted.client),
        "transport": noted.transport,
        **asked,
        **_reply(noted.reply, asked),
    }
    return msgspec.json.encode(said) + b"\n"


def left_out(time: float, count: int) -> bytes:
    """The line that stands for messages above the rate."""
    return msgspec.json.encode({"time": round(time, 6), "left_out": count}) + b"\n"


def _question(message: bytes) -> dict[str, object]:
    found: dict[str, object] = {"octets": len(message)}
    if len(message) < wire.HEADER:
        return found
    head = wire.head(message)
    found |= {"id": head.id, "flags": _names(head.flags, _FLAGS)}
    if head.opcode:
        found["opcode"] = head.opcode
    try:
        query = wire.read(message)
    except Malformed as error:
        return found | {"malformed": str(error)}
    if query.question:  # there is none in a message that asks for a cookie only (RFC 7873 §5.4)
        found |= {"name": to_text(query.name), "type": _type(query.type)}
        if query.klass != wire.CLASS_IN:
            found["class"] = query.klass
    if query.edns is not None:
        found |= {"edns": query.edns.version, "size": query.edns.size, "do": query.edns.do}
    return found


def _reply(reply: bytes | None, asked: dict[str, object]) -> dict[str, object]:
    if reply is None or len(reply) < wire.HEADER:
        return {"rcode": None}
    head = wire.head(reply)
    code = head.flags & 0xF
    # The upper bits of the code stand in the OPT record; BADVERS is the only code of ours that has any.
    badvers = code == Rcode.NOERROR and asked.get("edns")
    return {
        "rcode": "BADVERS" if badvers else _rcode(code),
        "answer_flags": _names(head.flags, _ANSWER_FLAGS),
        "answers": head.answers,
        "answer_octets": len(reply),
    }


def _names(flags: int, names: dict[int, str]) -> str:
    return " ".join(name for bit, name in names.items() if flags & bit)


def _type(number: int) -> str:
    try:
        return Type(number).name
    except ValueError:
        return f"TYPE{number}"  # RFC 3597 §5


def _rcode(number: int) -> str:
    try:
        return Rcode(number).name
    except ValueError:
        return f"RCODE{number}"


def _client_text(client: bytes) -> str:
    packed = client.removeprefix(_MAPPED) if len(client) == 16 else client
    return str(ipaddress.ip_address(packed)) if len(packed) in {4, 16} else ""
