r"""What a route asks of the proxies besides being served: times, sizes, guards, redirections. Typed, refused when made.

Pure. A tag's text goes through `parse_*`, which say in words what was wrong; a record's fields are declared with the
types below, so a hostile record is refused when it is decoded. Nothing that passes here holds white space, a quote,
`;`, `{`, `}`, `$`, `#`, a backslash or a control character. Every field that is not asked for is left out of records.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, TypeAlias

import msgspec

from pilotfish.catalog.values import (
    DESTINATION,
    HOST,
    IP_PATTERN,
    PATH,
    BadValue,
    Destination,
    parse_duration,
    parse_integer,
    quoted,
)

LONGEST_S = 86400.0  # a day; what waits longer is not waiting for an answer
MOST_OCTETS = 2**40  # 1 TiB
MOST_NETWORKS = 256  # of one route; each is looked at for every request
MOST_REQUESTS = 1_000_000
LONGEST_TARGET = 512  # octets of the path of a redirection
CODES = (301, 302, 307, 308)

FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"
_IP = IP_PATTERN.removeprefix("^").removesuffix(r"\Z")
NETWORK_PATTERN = rf"^{_IP}/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])\Z"
_TARGET_PATTERN = r"^(?!.*/\.\.?(?:/|\Z))(?:/[A-Za-z0-9._~!&()*+,=:@/-]*)?\Z"

FileName: TypeAlias = Annotated[str, msgspec.Meta(pattern=FILE_PATTERN, max_length=64)]
Network: TypeAlias = Annotated[str, msgspec.Meta(pattern=NETWORK_PATTERN, max_length=43)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0.001, le=LONGEST_S)]
Octets: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MOST_OCTETS)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MOST_REQUESTS)]
Target: TypeAlias = Annotated[str, msgspec.Meta(pattern=_TARGET_PATTERN, max_length=LONGEST_TARGET)]

_FILE = re.compile(FILE_PATTERN)
_RATE = re.compile(r"^([0-9]{1,7})/(s|m)\Z")
_SIZE = re.compile(r"^([0-9]{1,13})(k|m|g)?b?\Z")
_URL = re.compile(r"^(https?)://([^/:@?#]+)(?::([0-9]{1,5}))?(/.*)?\Z")


class Rate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How much one client may ask for, told apart by its address.

    Attributes:
        requests: in one `per`; 0: as many as it likes.
        per: a second or a minute.
        burst: requests beyond the rate that are let through at once.
        connections: requests in progress at one time; 0: as many as it likes.
    """

    requests: Count = 0
    per: Literal["s", "m"] = "s"
    burst: Count = 0
    connections: Count = 0

    @property
    def a_minute(self) -> float:
        """Requests in a minute; endless when they are not limited."""
        return float("inf") if not self.requests else self.requests * (60 if self.per == "s" else 1)


class Redirect(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where clients are sent instead.

    Attributes:
        host: to which they go.
        scheme: of the target; empty: a host of the route, with the client's own scheme and port, and only from others.
        port: of the target; 0: the scheme's own.
        target: path of the target; empty: the path and query that were asked for.
        code: status of the answer.
    """

    host: Destination
    scheme: Literal["", "http", "https"] = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    target: Target = ""
    code: Literal[301, 302, 307, 308] = 307

    def __post_init__(self) -> None:
        if self.host.startswith("*"):
            raise ValueError("nobody can be sent to a wildcard")


class Options(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a route asks for. The tag of each is PROXY_ and its name, `_s` aside.

    Attributes:
        sticky: a client stays with the endpoint that answered it first.
        timeout_s: how long an endpoint may be silent; None: the proxies' own.
        body: largest body of a request, octets; 0: any; None: the proxies' own.
        auth: name of the file with those who may, in a folder of the proxies; empty: everybody.
        allow: networks whose clients may; empty: all.
        rate: of one client; None: no limit.
        redirect: clients are sent elsewhere; None: they are served.
        compress: text is compressed for clients that can.
        security: headers that keep browsers careful, where the application sends none of its own.
        maintenance: answered 503 by the proxies for now.
    """

    sticky: bool = False
    timeout_s: Seconds | None = None
    body: Octets | None = None
    auth: FileName | Literal[""] = ""
    allow: Annotated[tuple[Network, ...], msgspec.Meta(max_length=MOST_NETWORKS)] = ()
    rate: Rate | None = None
    redirect: Redirect | None = None
    compress: bool = False
    security: bool = False
    maintenance: bool = False

    def __post_init__(self) -> None:
        for one in self.allow:
            ipaddress.ip_network(one)  # ValueError: /33 of IPv4, or digits behind the prefix; no pattern sees that


NOTHING = Options()


def parse_timeout(text: str) -> float:
    """How long to wait, a millisecond to a day.

    Raises:
        BadValue: no duration, or out of bounds.
    """
    seconds = parse_duration(text.strip())
    if not 0.001 <= seconds <= LONGEST_S:
        raise BadValue(f"{quoted(text)} is no time to wait: 1ms to 24h")
    return seconds


def parse_size(text: str) -> int:
    """A size in octets: `512k`, `10m`, `2g`, a bare number of octets; `0` and `unlimited` mean any size.

    >>> parse_size("10m"), parse_size("unlimited")
    (10485760, 0)
    """
    word = text.strip().lower()
    found = _SIZE.match(word)
    size = 0 if word == "unlimited" else int(found[1]) << _SHIFTS[found[2]] if found else -1
    if not 0 <= size <= MOST_OCTETS:
        raise BadValue(f"{quoted(text)} is no size: octets, or a number with k, m or g, up to 1024g; 0 for any")
    return size


_SHIFTS = {None: 0, "k": 10, "m": 20, "g": 30}


def parse_file(text: str) -> str:
    """The name of a file with those who may enter.

    Raises:
        BadValue: no plain file name. The message does not repeat the text: people write passwords here.
    """
    if len(text) > 64 or not _FILE.match(text):
        raise BadValue(
            "what it says is no file name: letters, digits and ._-, 64 at most; it names a file in the proxies' folder "
            "(--htpasswd), so that no password stands in a tag, which everybody can read who may look at a container"
        )
    return text


def parse_networks(text: str) -> tuple[str, ...]:
    """A comma-separated list of networks and addresses, each once, in the order given.

    >>> parse_networks("10.0.0.0/8, fd00::1")
    ('10.0.0.0/8', 'fd00::1/128')
    """
    found = tuple(dict.fromkeys(parse_network(part.strip()) for part in text.split(",") if part.strip()))
    if not found or len(found) > MOST_NETWORKS:
        raise BadValue(f"{quoted(text)} is no list of networks: 1 to {MOST_NETWORKS} of them")
    return found


def parse_network(text: str) -> str:
    """One network, or one address as a network of its own.

    Raises:
        BadValue: neither, or with digits behind the network's prefix.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise BadValue(f"{quoted(text)} is no network: an address, or addresses such as 10.0.0.0/8") from error
    if "%" in text or not re.match(r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?\Z", text):
        raise BadValue(f"{quoted(text)} is no network: an address, or addresses such as 10.0.0.0/8")
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise BadValue(f"{quoted(text)} has digits behind the network's own: {network} is all of it")
    return str(network)


def parse_rate(text: str) -> Rate:
    """`10/s`, `100/m`, with `burst=20` and `connections=5` behind commas; each may stand alone but burst.

    Without `burst`, as many as a whole second or minute has may come at once.

    >>> parse_rate("10/s,connections=5")
    Rate(requests=10, per='s', burst=10, connections=5)
    """
    found: dict[str, int] = {}
    per: Literal["s", "m"] = "s"
    for part in (one.strip().lower() for one in text.split(",")):
        name, equals, number = part.partition("=")
        rate = _RATE.match(part)
        key = name if equals and name in {"burst", "connections"} else "requests" if rate else ""
        if not key or key in found:
            raise BadValue(f"{quoted(text)} is no rate: such as 10/s, 100/m,burst=20 or 10/s,connections=5")
        if rate:
            per = "m" if rate[2] == "m" else "s"
        lowest = 0 if key == "burst" else 1
        found[key] = parse_integer(f"number of {key}", rate[1] if rate else number, lowest, MOST_REQUESTS)
    if set(found) == {"burst"} or ("burst" in found and "requests" not in found):
        raise BadValue(f"{quoted(text)} is no rate: burst goes with one, such as 10/s,burst=20")
    return Rate(**{"burst": found.get("requests", 0), **found}, per=per)


def parse_redirect(text: str) -> Redirect:
    """Where clients go: a host of the route (`www.example.com`) or an address (`https://example.com/new`).

    An address without a path keeps what was asked for. A code may stand in front: `308:https://example.com`.

    >>> parse_redirect("301:https://example.com").code
    301
    """
    code, colon, rest = text.partition(":")
    if not (colon and code.isascii() and code.isdigit()):
        code, rest = "307", text
    if code not in {str(one) for one in CODES}:
        raise BadValue(f"{quoted(text)} is no redirection: its code is one of {', '.join(map(str, CODES))}")
    url = _URL.match(rest)
    scheme, host, port, target = url.groups() if url else ("", rest, None, None)
    host = host.lower()
    kind = DESTINATION if url else HOST
    if len(host) > kind.longest or not kind.pattern.match(host) or host.startswith("*"):
        raise BadValue(f"{quoted(text)} is no redirection: a host, or an address such as https://www.example.com/shop")
    if target and (len(target) > LONGEST_TARGET or not PATH.pattern.match(target)):
        raise BadValue(f"{quoted(text)} is no redirection: it has no {PATH.allowed}")
    number = parse_integer("port", port, 1, 65535) if port else 0
    return msgspec.convert(
        {"host": host, "scheme": scheme, "port": number, "target": target or "", "code": int(code)}, Redirect
    )
