"""Domain names in the form they have on the wire: length octet, label, ..., zero (RFC 1035 §3.1), as plain bytes.

Pure. A wire name can be hashed, cut at its front and compared by suffix without being taken apart, and `bytes.lower`
folds its case as RFC 4343 §3 asks: a length octet is at most 63 and so never a letter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

MAX_LABEL = 63  # octets; RFC 1035 §2.3.4
MAX_NAME = 255  # octets with all length octets and the final zero; RFC 1035 §2.3.4
ROOT = b"\x00"

_IN_ADDR = (b"in-addr", b"arpa")
_IP6 = (b"ip6", b"arpa")


class BadName(ValueError):
    """Labels that make no domain name; the message says which rule they break."""


def from_labels(labels: tuple[bytes, ...] | list[bytes]) -> bytes:
    r"""A name from its labels, leftmost first.

    >>> from_labels((b"web", b"test"))
    b'\x03web\x04test\x00'

    Raises:
        BadName: an empty label, one over 63 octets, or over 255 octets in all.
    """
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise BadName(f"a label of {len(label)} octets: 1 to {MAX_LABEL} are allowed")
    name = b"".join(bytes((len(label),)) + label for label in labels) + ROOT
    if len(name) > MAX_NAME:
        raise BadName(f"a name of {len(name)} octets: {MAX_NAME} are allowed")
    return name


def from_text(text: str) -> bytes:
    r"""A name from text: labels joined by dots, with or without a last dot; "" and "." are the root.

    Raises:
        BadName: as from_labels.
    """
    stripped = text.removesuffix(".")
    return from_labels([label.encode() for label in stripped.split(".")]) if stripped else ROOT


def mailbox(text: str) -> bytes:
    r"""A mail address as a name (RFC 1035 §8): what stands before the `@` is one label. Without `@`: as from_text.

    >>> mailbox("jane.doe@example.org")
    b'\x08jane.doe\x07example\x03org\x00'

    Raises:
        BadName: as from_labels, and for the root.
    """
    local, at, host = text.rpartition("@")
    domain = from_text(host)
    if domain == ROOT:
        raise BadName("no mail address without a domain")
    return from_labels((local.encode(), *labels_of(domain))) if at else domain


def labels_of(name: bytes) -> tuple[bytes, ...]:
    """The labels of a name, leftmost first; () for the root."""
    labels = []
    at = 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return tuple(labels)


def suffixes(name: bytes) -> Iterator[bytes]:
    """The name itself, then each of its ancestors but the root, nearest first."""
    while name[0]:
        yield name
        name = name[1 + name[0] :]


def parent(name: bytes) -> bytes:
    """The name without its first label; the root is its own parent."""
    return name[1 + name[0] :] if name[0] else name


def is_under(name: bytes, ancestor: bytes) -> bool:
    """True when `name` is `ancestor` or below it; both in lower case."""
    return name == ancestor or (name.endswith(ancestor) and ancestor in suffixes(name)) or ancestor == ROOT


def without(name: bytes, count: int) -> bytes:
    """The name without its first `count` labels; the whole name when it has no more than these."""
    rest = name
    for _ in range(count):
        rest = parent(rest)
    return name if rest == ROOT else rest


def to_text(name: bytes) -> str:
    r"""A name for people and logs: escaped as in RFC 1035 §5.1, with the last dot.

    >>> to_text(b"\x03a.b\x04test\x00")
    'a\\.b.test.'
    """
    return "".join(_label_text(label) + "." for label in labels_of(name)) or "."


def _label_text(label: bytes) -> str:
    shown = []
    for octet in label:
        char = chr(octet)
        if char in '.\\"();@$':
            shown.append("\\" + char)
        else:
            shown.append(char if 0x21 <= octet <= 0x7E else f"\\{octet:03d}")
    return "".join(shown)


def reverse(ip: str) -> bytes:
    """The name under in-addr.arpa or ip6.arpa that stands for an address (RFC 1035 §3.5, RFC 3596 §2.5)."""
    return from_text(ipaddress.ip_address(ip).reverse_pointer)


def is_reverse(name: bytes) -> bool:
    """True for names below in-addr.arpa and ip6.arpa; `name` in lower case."""
    return labels_of(name)[-2:] in {_IN_ADDR, _IP6}


def asked_as(text: str) -> tuple[bytes, ...]:
    """The name by which a host given as text is asked for, in lower case; none when it is too long for a name."""
    try:
        return (from_text(text.lower()),)
    except BadName:
        return ()


def reversed_as(ip: str) -> tuple[bytes, ...]:
    """The reverse name of an address; none for text that is no address, though it has the letters of one."""
    try:
        return (reverse(ip),)
    except ValueError:
        return ()
