r"""What CHECK_* tags ask for: which check, how often, and how many results change an endpoint's state.

Pure. The parsers here are the rows of `tags.KNOWN`; `chosen` makes one `Probe` of what applies to a port. The words
are registrator's, which had them from Consul; what cannot be kept here is refused by name, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar, cast

import msgspec

from pilotfish.catalog import values
from pilotfish.catalog.setting_values import time_between
from pilotfish.catalog.values import BadValue, quoted

DEFAULT_INTERVAL_S = 10.0  # registrator's
DEFAULT_TIMEOUT_S = 2.0
DEFAULT_RISE, DEFAULT_FALL = 1, 3  # one answer brings back; one lost packet takes nobody out
MAX_PATH = 1024  # characters


class How(Enum):
    """How an endpoint is asked; in the order in which one of several is chosen, which is registrator's."""

    HTTP = "check_http"
    HTTPS = "check_https"
    CMD = "check_cmd"
    TCP = "check_tcp"
    GRPC = "check_grpc"


class Probe(msgspec.Struct, frozen=True):
    """One check of one port.

    Attributes:
        how: it is asked.
        what: HTTP: path and query; gRPC: the service, "" for the whole server; CMD: name of the script; TCP: "".
        method: of HTTP.
        verify: the certificate must be good for the container's address.
        interval_s: from one check to the next.
        timeout_s: for one check from its first packet to its result.
        rise: good results in a row that bring it back.
        fall: bad results in a row that take it out.
        trusted: it counts as passing until it fails (CHECK_INITIAL_STATUS=passing); else it must pass first.
    """

    how: How
    what: str = ""
    method: str = "GET"
    verify: bool = False
    interval_s: float = DEFAULT_INTERVAL_S
    timeout_s: float = DEFAULT_TIMEOUT_S
    rise: int = DEFAULT_RISE
    fall: int = DEFAULT_FALL
    trusted: bool = False

    @property
    def title(self) -> str:
        """What is asked, for messages: "GET /health".

        >>> Probe(How.GRPC, "shop.Cart").title
        'gRPC shop.Cart'
        """
        match self.how:
            case How.HTTP | How.HTTPS:
                return f"{self.method} {self.what}"
            case How.GRPC:
                return f"gRPC {self.what}".rstrip()
            case How.CMD:
                return f"script {self.what}"
            case How.TCP:
                return "TCP"


# --- values of tags

# RFC 3986 §3.3 and §3.4: what may stand in a path or a query, and `%` escapes; without `$`, `'` and `;`, as in all of
# our values. No white space, so that a value cannot leave the request line.
_PATH = re.compile(r"^/(?:[A-Za-z0-9._~!&()*+,=:@/?-]|%[0-9A-Fa-f]{2})*\Z")
_SERVICE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")  # protobuf's full names
_SCRIPT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_METHODS = ("GET", "HEAD", "OPTIONS", "POST")


def parse_path(text: str) -> str:
    """Path and query of an HTTP check: `/health?full=1`."""
    if len(text) > MAX_PATH or not _PATH.match(text):
        raise BadValue(f"{quoted(text)} is no path to check: begin with '/', at most {MAX_PATH} characters of a URL")
    return text


def parse_method(text: str) -> str:
    """Method of an HTTP check."""
    if text.strip().upper() not in _METHODS:
        raise BadValue(f"{quoted(text)} is none of {', '.join(_METHODS)}")
    return text.strip().upper()


def parse_grpc(text: str) -> str | bool:
    """A gRPC check: the service's full name; yes: "", the whole server; no: False."""
    try:
        return "" if values.parse_boolean(text) else False
    except BadValue:
        pass
    if len(text) > 256 or not _SERVICE.match(text):
        raise BadValue(f"{quoted(text)} is neither yes nor no, nor a gRPC service such as shop.Cart")
    return text


def parse_script(text: str) -> str:
    """Name of a script in the admin's folder: no path, no arguments, nothing for a shell."""
    if not _SCRIPT.match(text):
        raise BadValue(f"{quoted(text)} is no script's name: letters, digits, '_', '.' and '-', without a folder")
    return text


def parse_status(text: str) -> bool:
    """True for `passing`, False for `critical`."""
    word = text.strip().lower()
    if word not in {"passing", "critical"}:
        raise BadValue(f"{quoted(text)} is neither passing nor critical")
    return word == "passing"


parse_interval = time_between(0.1, 86400.0)
parse_timeout = time_between(0.05, 60.0)


def parse_count(text: str) -> int:
    """How many results in a row."""
    return values.parse_integer("number of checks", text.strip(), 1, 100)


def refuse(why: str) -> Callable[[str], object]:
    """The parser of a tag that other programs know and that is not kept here."""

    def parse(_: str) -> object:
        raise BadValue(f"is not supported: {why}")

    return parse


refuse_script = refuse("what stands in a tag is never run; CHECK_CMD names a script in the folder of --check-dir")
refuse_ttl = refuse("there is nobody whom the application could tell; give it a CHECK_HTTP that answers for it")
refuse_deregister = refuse("an endpoint that fails gets no traffic and comes back when it passes; it is never deleted")


# --- which of them

T = TypeVar("T")


class Choice(NamedTuple):
    """What applies to a port.

    Attributes:
        probe: the check; None: HEALTHCHECK or a first connection decide.
        unasked: CHECK=none: not even a first connection is waited for.
        ignores_health: HEALTH=ignore: what the image's HEALTHCHECK says means nothing for this port.
        notices: what the admin should know, each beginning with a tag's key in upper case.
    """

    probe: Probe | None = None
    unasked: bool = False
    ignores_health: bool = False
    notices: tuple[str, ...] = ()


def chosen(given: Mapping[str, object], own: Callable[[str], bool], protocol: str, *, scripts: bool) -> Choice:
    """Choose the check of a port.

    Args:
        given: key -> value of the tags that apply, read by the parsers above.
        own: True for a key that is set for this very port; such a check goes before one of the container.
        protocol: of the port; over UDP only a script can ask.
        scripts: there is a folder with the admin's scripts.

    >>> chosen({"check_http": "/", "check_interval": 5.0}, lambda key: False, "tcp", scripts=False).probe.interval_s
    5.0
    """
    asked = [how for how in How if given.get(how.value) not in {None, False}]
    first = [how for how in asked if own(how.value)]
    ignore = given.get("health") == "ignore"
    if given.get("check") == "none" and (own("check") or not first):
        # A port that says so for itself is taken out of a container's check on purpose.
        meant = [how for how in (first if own("check") else asked) if protocol == "tcp" or own(how.value)]
        dropped = ", ".join(how.value.upper() for how in meant)
        unread = (f"CHECK: none is said too, so it is not asked by {dropped}",) if dropped else ()
        return Choice(unasked=True, ignores_health=ignore, notices=unread)
    usable, notices = [], []
    for how in first or asked:
        problem = _problem(how, given, protocol, scripts=scripts)
        if not problem:
            usable.append(how)
        elif protocol == "tcp" or own(how.value):  # a container's check is not meant for its ports over UDP
            notices.append(f"{how.value.upper()}: {problem}; it is not checked so")
    if len(usable) > 1:
        rest = ", ".join(how.value.upper() for how in usable[1:])
        notices.append(f"{usable[0].value.upper()} is used, not {rest}: one check a port")
    return Choice(_probe(usable[0], given) if usable else None, ignores_health=ignore, notices=tuple(notices))


def _problem(how: How, given: Mapping[str, object], protocol: str, *, scripts: bool) -> str:
    """Why a check cannot be used, or nothing."""
    if how is How.CMD and not scripts:
        return "scripts are run only from the folder that --check-dir names, and none is named"
    if how is How.GRPC and given.get("check_grpc_use_tls"):
        return "gRPC over TLS (CHECK_GRPC_USE_TLS) cannot be asked here; CHECK_TCP can, or a script (CHECK_CMD)"
    if protocol != "tcp" and how is not How.CMD:
        return f"only a script (CHECK_CMD) can ask over {protocol}"
    return ""


def _probe(how: How, given: Mapping[str, object]) -> Probe:
    def value(key: str, otherwise: T) -> T:
        return cast("T", given.get(key, otherwise))

    return Probe(
        how,
        what="" if how is How.TCP else value(how.value, ""),
        method=value(f"{how.value}_method", "GET"),
        verify=not value("check_tls_skip_verify", otherwise=True),
        interval_s=value("check_interval", DEFAULT_INTERVAL_S),
        timeout_s=value("check_timeout", DEFAULT_TIMEOUT_S),
        rise=value("check_rise", DEFAULT_RISE),
        fall=value("check_fall", DEFAULT_FALL),
        trusted=value("check_initial_status", otherwise=False),
    )
