r"""Typed values: text from tags and from the store becomes one of these, or is refused.

Each kind of value is one row: a pattern, the longest length, and the sentence that says what is allowed. Records
declare their fields with the Annotated types below, so a hostile record is refused when it is decoded; tags go
through `parse_*`, which say in words what was wrong. Both read the same row. Nothing that passes here holds white
space, control characters, quotes, `;`, `{`, `}`, `$`, `#` or a backslash, so that no value can leave its place in a
configuration or key.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

MAX_LABEL = 63  # octets; RFC 1035 §2.3.4
MAX_NAME = 253  # octets as text without the last dot; 255 on the wire, RFC 1035 §2.3.4

# A label may hold an underscore inside, as compose projects do; one in front is kept for `_port._proto`.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"

# As str(ipaddress.ip_address(...)) writes them: dotted quads without leading zeros, RFC 4291 §2.2 in lower case.
_IPV4 = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?=[0-9])|(?![0-9.]))){4}"
_GROUP = r"[0-9a-f]{1,4}"
_IPV6 = (
    rf"(?:(?:{_GROUP}:){{7}}{_GROUP}"
    rf"|(?=(?:[0-9a-f]*:){{2,7}}[0-9a-f]*(?![0-9a-f:.]))(?:{_GROUP}(?::{_GROUP})*)?::(?:{_GROUP}(?::{_GROUP})*)?"
    rf"|::ffff:{_IPV4})"
)

NAME_PATTERN = rf"^{_LABEL}(?:\.{_LABEL})*\Z"
DESTINATION_PATTERN = rf"^(?:\*\.)?{_HOST_LABEL}(?:\.{_HOST_LABEL})*\Z"
# Who asks for an address asks for no service, and `*.2.1` would be all addresses that end so.
HOST_PATTERN = rf"^(?!(?:[0-9]+(?:\.[0-9]+){{3}}|\*(?:\.[0-9]+){{1,3}})\Z){DESTINATION_PATTERN[1:]}"
PATH_PATTERN = r"^(?!.*/\.\.?(?:/|\Z))/[A-Za-z0-9._~!&()*+,=:@/-]*\Z"
NODE_PATTERN = rf"^{_LABEL}\Z"
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:-]*\Z"
LABEL_PATTERN = rf"^{_HOST_LABEL}\Z"
IP_PATTERN = rf"^(?:{_IPV4}|{_IPV6})\Z"

# Labels that mean something right under a domain (SkyDNS's dns.*, our node.*), or in a question (SkyDNS's `any`).
RESERVED_NAMES = frozenset({"dns", "node", "any", "localhost", "arpa"})
NEAREST = "nearest"  # in front of a name: the endpoints on the name server's own host first

Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=MAX_NAME)]
Host: TypeAlias = Annotated[str, msgspec.Meta(pattern=HOST_PATTERN, max_length=MAX_NAME)]
Destination: TypeAlias = Annotated[str, msgspec.Meta(pattern=DESTINATION_PATTERN, max_length=MAX_NAME)]
Path: TypeAlias = Annotated[str, msgspec.Meta(pattern=PATH_PATTERN, max_length=1024)]
NodeName: TypeAlias = Annotated[str, msgspec.Meta(pattern=NODE_PATTERN, max_length=MAX_LABEL)]
EndpointId: TypeAlias = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, max_length=512)]
Label: TypeAlias = Annotated[str, msgspec.Meta(pattern=LABEL_PATTERN, max_length=MAX_LABEL)]
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Weight: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]  # RFC 2782
Priority: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65535)]  # RFC 2782
Ttl: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]  # seconds; RFC 2181 §8


class BadValue(ValueError):
    """A value is not of its kind; the message quotes it shortened and says what is allowed."""


class Kind(NamedTuple):
    """One kind of textual value: its noun in messages, pattern, longest length, and what is allowed in words."""

    noun: str
    pattern: re.Pattern[str]
    longest: int
    allowed: str


NAME = Kind(
    "name",
    re.compile(NAME_PATTERN),
    MAX_NAME,
    "labels of letters, digits, '-' and '_' that begin and end with a letter or digit, joined by dots",
)
HOST = Kind(
    "host",
    re.compile(HOST_PATTERN),
    MAX_NAME,
    "a host name such as www.example.com, or *.example.com for everything below it",
)
DESTINATION = Kind(
    "host", re.compile(DESTINATION_PATTERN), MAX_NAME, "a host name such as www.example.com, or an IPv4 address"
)
PATH = Kind(
    "path",
    re.compile(PATH_PATTERN),
    1024,
    "a path that begins with '/', of letters, digits and -._~!&()*+,=:@/ without '..' or '%'",
)
NODE = Kind("node name", re.compile(NODE_PATTERN), MAX_LABEL, "one label of letters, digits, '-' and '_'")
ID = Kind("id", re.compile(ID_PATTERN), 512, "letters, digits, '_', '.', ':' and '-', a letter or digit first")


def quoted(text: str, longest: int = 60) -> str:
    r"""Untrusted text made fit for a message: printable ASCII in quotes, shortened.

    >>> print(quoted("a;" + chr(10)))
    'a;\n'
    """
    shown = ascii(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 4]}...'"


def is_reserved(name: str) -> bool:
    """True for a name, relative to our domains, that means something else there, so that no service is found by it.

    >>> is_reserved("h1.Node"), is_reserved("nearest.web"), is_reserved("web.nearest")
    (True, True, False)
    """
    labels = name.lower().split(".")
    return labels[-1] in RESERVED_NAMES or labels[0] == NEAREST


RESERVED_WORDS = f"{', '.join(sorted(RESERVED_NAMES))} at its end and {NEAREST} at its front are reserved"


def _parse(kind: Kind, text: str) -> str:
    if len(text) > kind.longest:
        message = f"{quoted(text)} is too long for a {kind.noun}: {len(text)} characters, {kind.longest} at most"
        raise BadValue(message)
    if not kind.pattern.match(text):
        raise BadValue(f"{quoted(text)} is no {kind.noun}: {kind.allowed}")
    return text


def parse_name(text: str) -> Name:
    """A name relative to our domains: `web`, `web.shop`.

    Raises:
        BadValue: not made of DNS labels (RFC 1035 §2.3.1, with `_` inside), or reserved.
    """
    name = _parse(NAME, text)
    if is_reserved(name):
        raise BadValue(f"{quoted(text)} is no free name: {RESERVED_WORDS}")
    return name


def parse_names(text: str) -> tuple[Name, ...]:
    """A comma-separated list of names, without repetition, in the order given."""
    return tuple(dict.fromkeys(parse_name(part.strip()) for part in text.split(",") if part.strip()))


def parse_host(text: str) -> Host:
    """A host name of a route, in lower case and without its last dot; `*.` in front matches everything below.

    Raises:
        BadValue: not a host name; bare `*`, regular expressions, ports and addresses are refused too.
    """
    host = text.lower().removesuffix(".")
    if "." in host and is_ip(host):
        raise BadValue(f"{quoted(text)} is an address, not a host name")
    if any(letter.isalpha() and not letter.isascii() for letter in host):
        raise BadValue(f"{quoted(text)} is no host: write it as DNS has it, such as xn--bcher-kva.example")
    return _parse(HOST, host)


def parse_hosts(text: str) -> tuple[Host, ...]:
    """A comma-separated list of hosts, without repetition, in the order given."""
    return tuple(dict.fromkeys(parse_host(part.strip()) for part in text.split(",") if part.strip()))


def parse_path(text: str) -> Path:
    """A path prefix of a route (RFC 3986 §3.3, without quotes, `;` and `$`)."""
    return _parse(PATH, text)


def parse_node(text: str) -> NodeName:
    """The name of a Docker host: one DNS label, case kept."""
    return _parse(NODE, text)


def parse_id(text: str) -> EndpointId:
    """The id of an endpoint: what stands behind the last slash of its keys."""
    return _parse(ID, text)


def parse_integer(noun: str, text: str, lowest: int, highest: int) -> int:
    """A decimal integer within bounds, both included.

    Raises:
        BadValue: not made of ASCII digits, or out of bounds.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or not lowest <= int(text) <= highest:
        raise BadValue(f"{quoted(text)} is no {noun}: a whole number from {lowest} to {highest}")
    return int(text)


def parse_port(text: str) -> Port:
    """A TCP or UDP port, 1 to 65535."""
    return parse_integer("port", text, 1, 65535)


_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"^(?:[0-9]{1,9}(?:\.[0-9]{1,3})?(?:ms|s|m|h|d))+\Z")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """A duration in seconds: `500ms`, `2s`, `1m30s`, `24h`; a bare number means seconds.

    >>> parse_duration("1m30s")
    90.0
    """
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    if not _DURATION.match(text):
        raise BadValue(f"{quoted(text)} is no duration: a number with ms, s, m, h or d, such as 500ms or 1m30s")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))


_TRUE = frozenset({"1", "t", "true", "yes", "y", "on"})
_FALSE = frozenset({"0", "f", "false", "no", "n", "off", ""})


def parse_boolean(text: str) -> bool:
    """A yes or no: 1/true/yes/on or 0/false/no/off, any case; empty means no."""
    folded = text.strip().lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise BadValue(f"{quoted(text)} is neither yes nor no: use true or false")


def is_ip(text: str) -> bool:
    """True for an IPv4 or IPv6 address in its textual form, without a zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def parse_ip(text: str) -> str:
    """An IPv4 or IPv6 address in its canonical form (RFC 5952)."""
    if not is_ip(text):
        raise BadValue(f"{quoted(text)} is no IP address")
    return str(ipaddress.ip_address(text))


def join_host_port(host: str, port: int) -> str:
    """`host:port`, IPv6 in brackets (RFC 3986 §3.2.2).

    >>> join_host_port("fd00::1", 80)
    '[fd00::1]:80'
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
