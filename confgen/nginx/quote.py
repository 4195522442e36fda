r"""How each typed value prints itself into nginx syntax: the only way from a value into a configuration.

A template can print tokens and nothing else: `finalize` refuses a bare string, whatever it holds. A token is checked
against the pattern of its kind whenever one is made, also by its own constructor, and no kind lets a blank, a quote,
`;`, `{`, `}`, `$`, `#`, a backslash or a control character through, except as the fixed text that this file puts
around it. `nginx -t` takes much of that without complaint, and acts on it, so nothing may be left for it to find.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Set

import msgspec

from pilotfish.catalog import values

MAX_TEXT = 1100  # octets of one token; nginx reads a configuration through a buffer of 4096
MAX_MILLISECONDS = 10 * 365 * 86400 * 1000  # ten years; nginx counts milliseconds in 64 bits, people do not


class Unprintable(ValueError):
    """A value that may not stand in a configuration; the message quotes it shortened."""


def _whole(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _of(kind: values.Kind) -> Callable[[str], bool]:
    return lambda text: len(text) <= kind.longest and kind.pattern.match(text) is not None


_SEGMENT = r"[A-Za-z0-9._@+,:=~-]+"
_SPELLED = r"(?:[A-Za-z0-9_~!&,=:@/-]|\[[.+*()]\])+"
# Possessive: a request may have thousands of these segments, and what could be given back would not fit PCRE's stack.
_PARAMETERS = "(?:;[^/]*+)?+"  # RFC 3986 §3.3: what some applications take off each segment, and nginx does not
_NOTHING = "(?:/[.]?;[^/]*+)*+"  # segments of which nothing is left then
_ENDS = "(?:/|$)"
_URL = re.compile(r"https?://([a-z0-9._-]+)(:[1-9][0-9]{0,4})?(/.*)?")


def _is_url(text: str) -> bool:
    found = _URL.fullmatch(text)
    return bool(found and values.DESTINATION.pattern.match(found[1]) and values.PATH.pattern.match(found[3] or "/"))


# What the text of a token of each kind looks like in the configuration.
KINDS: dict[str, Callable[[str], bool]] = {
    "host": _of(values.HOST),
    "match": lambda text: values.PATH.pattern.match(text.removeprefix("= ")) is not None,
    "regex": _whole(_SPELLED),
    "near": _whole(
        rf"\^\(\?!\(\?:{_SPELLED}(?:\|{_SPELLED})*\){re.escape(_ENDS)}\)"
        rf"\(\?i:(?:{re.escape(_NOTHING)}/(?:{_SPELLED})?{re.escape(_PARAMETERS)})+\){re.escape(_ENDS)}"
    ),
    "number": _whole(r"0|[1-9][0-9]{0,9}"),
    "duration": _whole(r"(0|[1-9][0-9]{0,17})(ms|s)"),
    "address": _whole(r"[0-9]{1,3}(\.[0-9]{1,3}){3}:[0-9]{1,5}|\[[0-9a-f:.]{2,45}\]:[0-9]{1,5}"),
    "upstream": _whole(r"[a-z0-9][a-z0-9._-]{0,299}"),
    "label": _whole(r"@[a-z0-9][a-z0-9._-]{0,299}"),
    "digest": _whole(r"[0-9a-f]{8,64}"),
    "file": _whole(rf"/?{_SEGMENT}(?:/{_SEGMENT})*"),
    "hsts": _whole(r"max-age=[0-9]{1,10}(; includeSubDomains)?(; preload)?"),
    "tls": _whole(r"[A-Za-z0-9.:-]{1,1000}"),
    "suffix": _whole(r":[1-9][0-9]{0,4}"),
    "account": _whole(r"[a-z_][a-z0-9_-]{0,31}"),
    "scheme": _whole(r"https?|grpcs?"),
    "network": _whole(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}|[0-9a-f:.]{2,45}/[0-9]{1,3}"),
    "rate": _whole(r"[1-9][0-9]{0,6}r/[sm]"),
    "zone": _whole(r"[a-z0-9][a-z0-9._-]{0,299}"),
    "word": _whole(r"[a-z][a-z0-9_]{0,63}"),
    "url": _is_url,
}


class Token(msgspec.Struct, frozen=True, order=True, gc=False):
    """A checked piece of configuration text.

    Attributes:
        kind: a key of KINDS.
        text: exactly what is printed.

    Raises:
        Unprintable: the text is not of its kind.
    """

    kind: str
    text: str

    def __post_init__(self) -> None:
        if len(self.text) > MAX_TEXT or self.kind not in KINDS or not KINDS[self.kind](self.text):
            raise Unprintable(f"{values.quoted(self.text)} is no {self.kind} that nginx may read")


def finalize(value: object) -> str:
    """What a template prints for a value: the text of a token.

    Raises:
        Unprintable: it is no token; a template tried to print something that nobody checked.
    """
    if not isinstance(value, Token):
        raise Unprintable(f"a template prints {values.quoted(str(type(value).__name__))}, which is no token")
    return value.text


def host(text: str) -> Token:
    """A server name: `www.example.com` or `*.example.com`."""
    return Token("host", text)


def exactly(path: str) -> Token:
    """Matches this path alone: `= /api`."""
    return Token("match", f"= {path}")


def below(path: str) -> Token:
    """Matches every path that begins so: `/api/`."""
    return Token("match", path)


def spelled(path: str) -> Token | None:
    """A path as a regular expression that matches it alone; None: it is too long for one.

    >>> spelled("/a.b").text
    '/a[.]b'
    """
    text = _literally(path)
    return Token("regex", text) if len(text) <= MAX_TEXT else None


def _literally(path: str) -> str:
    return re.sub(r"[.+*()]", lambda found: f"[{found[0]}]", path)


def nearly(path: str, paths: Set[str] = frozenset()) -> Token | None:
    """Paths that some applications read as a path or as below it, and nginx does not, as a regular expression.

    Args:
        path: without a slash behind.
        paths: of the host. Those that are so spelled on purpose stay: as many of the shortest as fit in.

    Returns:
        The expression, for a decoded path; None: it is too long for one.

    >>> nearly("/a").text
    '^(?!(?:/a)(?:/|$))(?i:(?:/[.]?;[^/]*+)*+/a(?:;[^/]*+)?+)(?:/|$)'
    """
    parts = "".join(f"{_NOTHING}/{_literally(part)}{_PARAMETERS}" for part in path.split("/")[1:])
    text, rest = f"^(?!(?:{_literally(path)}", f"){_ENDS})(?i:{parts}){_ENDS}"
    for one in sorted(_spelled_otherwise(path, paths), key=len):
        longer = f"{text}|{_literally(one)}"
        if len(longer) + len(rest) > MAX_TEXT:
            break
        text = longer
    text += rest
    return Token("near", text) if len(text) <= MAX_TEXT else None


def _spelled_otherwise(path: str, paths: Set[str]) -> list[str]:
    """Those that differ from a path, or from what is below it, in the case of letters."""
    stem = f"{path}/"
    alike = (one for one in paths if f"{one}/".lower().startswith(stem.lower()))
    return sorted(one for one in alike if not f"{one}/".startswith(stem))


@functools.lru_cache(maxsize=1024)  # a hundred thousand servers have few weights
def number(value: int) -> Token:
    """A whole number, 0 to 9,999,999,999; also a port or a count of octets.

    >>> number(80).text
    '80'
    """
    return Token("number", str(value))


def duration(seconds: float) -> Token:
    """A time: whole seconds as such, since not every directive knows parts of one, else milliseconds.

    >>> duration(1.5).text, duration(60).text
    ('1500ms', '60s')
    """
    if not 0 <= seconds * 1000 <= MAX_MILLISECONDS:
        raise Unprintable(f"{seconds} s is no time that nginx may be told")
    return Token("duration", f"{seconds:.0f}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms")


def address(ip: str, port: int) -> Token:
    """An upstream server, IPv6 in brackets.

    Raises:
        Unprintable: not an address, or the unspecified one, or a port out of range.
    """
    try:
        known = _host_address(ip)
    except ValueError as error:
        raise Unprintable(f"{values.quoted(ip)} is no address") from error
    if not known or not 0 < port < 65536:
        raise Unprintable(f"{values.quoted(ip)} port {port} cannot be connected to")
    return Token("address", values.join_host_port(known, port))


@functools.lru_cache(maxsize=4096)  # a host's address is that of many endpoints
def _host_address(ip: str) -> str:
    parsed = ipaddress.ip_address(ip)
    return "" if parsed.is_unspecified or "%" in ip else str(parsed)


def upstream(text: str) -> Token:
    """The name of an upstream group."""
    return Token("upstream", text)


def label(text: str) -> Token:
    """The name of a named location: `@...`."""
    return Token("label", f"@{text}")


def digest(text: str) -> Token:
    """Hexadecimal digits of a hash."""
    return Token("digest", text)


def file(text: str) -> Token:
    """A file name, absolute or relative to the configuration.

    Raises:
        Unprintable: it has blanks or other characters that nginx would need quoted, or a `.` or `..` part.
    """
    if any(part in {".", ".."} for part in text.split("/")):
        raise Unprintable(f"{values.quoted(text)} has a '.' or '..' part")
    return Token("file", text)


def account(text: str) -> Token:
    """A user or group of this machine."""
    return Token("account", text)


def scheme(text: str) -> Token:
    """What nginx speaks with a server: `http`, `https`, `grpc` or `grpcs`."""
    return Token("scheme", text)


def network(text: str) -> Token:
    """Addresses: `10.0.0.0/8`.

    Raises:
        Unprintable: not a network, or one with digits behind its prefix.
    """
    try:
        return Token("network", str(ipaddress.ip_network(text)))
    except ValueError as error:
        raise Unprintable(f"{values.quoted(text)} is no network") from error


def rate(requests: int, per: str) -> Token:
    """Requests in a second or a minute.

    >>> rate(10, "s").text
    '10r/s'
    """
    return Token("rate", f"{requests}r/{per}")


def zone(text: str) -> Token:
    """The name of a shared zone."""
    return Token("zone", text)


def word(text: str) -> Token:
    """One word of ours, such as the name of a cookie."""
    return Token("word", text)


def url(text: str) -> Token:
    """An address to send clients to, without a query: `https://www.example.com/shop`."""
    return Token("url", text)
