r"""The SERVICE_* grammar: what the tags of a container say about each of its ports.

`SERVICE_<key>` is for the container, `SERVICE_<port>_<key>` for one of its ports; keys count in any case. Port beats
container, label beats environment, later beats earlier; an empty value beats too and means "not set". Every tag that
we know is one row of `KNOWN`: how its value is read, and what a value that cannot be read costs. Nothing is guessed:
a bad value is refused with the tag's name, the value, and what is allowed. What we do not know is kept for templates.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from pilotfish.catalog import options, values
from pilotfish.catalog.record import MAX_DRAIN_S, MAX_TEXT
from pilotfish.catalog.values import BadValue, quoted
from registrator.rules import probe, secured
from registrator.rules.container import PREFIX, Facts, PortSpec

Source: TypeAlias = Literal["env", "label"]
Cost: TypeAlias = Literal["port", "route", "names", "check", "nothing", "default"]

COSTS: Mapping[Cost, str] = MappingProxyType(
    {
        "port": "the port is left out",
        "route": "it is not proxied",
        "names": "it gets no names",
        "check": "it is not checked so",
        "nothing": "it has no effect",
        "default": "the default is used",
    }
)
LONGEST_SLIP = 64  # characters of a key that may be meant for one of ours
MAX_FIXED = 16  # addresses of an IP tag: each is written with every port
MAX_ATTRS = 64  # of one port
MAX_ATTRS_TEXT = 8192  # characters of all attributes of one port: 64 ports of them still fit into one record

_INTEGER = re.compile(r"^[+-]?[0-9]+\Z")


class Tag(NamedTuple):
    """One tag as it was written.

    Attributes:
        name: the whole of it: `SERVICE_9200_PROXY`.
        value: everything behind the first `=`.
        source: where it stood.
        own: it names this port; else it is the container's.
        written: what stood there, where `value` only means the same; None: the value itself.
        wrong: why nothing can be made of it, as whoever read it found; empty: ask the value.
    """

    name: str
    value: str
    source: Source
    own: bool
    written: str | None = None
    wrong: str = ""

    @property
    def shown(self) -> str:
        """As it stood there, fit for a message."""
        return f"{quoted(self.name)[1:-1]}={quoted(self.value if self.written is None else self.written)}"


class Tags(NamedTuple):
    """The tags of a container by key in lower case: for all ports, and by port as written (`080` is not `80`)."""

    generic: dict[str, Tag]
    ports: dict[str, dict[str, Tag]]

    def of(self, port: int) -> dict[str, Tag]:
        """What applies to a port: its own tags over the container's."""
        return self.generic | self.ports.get(str(port), {})


def read(facts: Facts) -> Tags:
    """Collect the tags of a container: environment in its order, then labels, so that the latter win."""
    found = Tags({}, {})
    listed: list[tuple[str, str, Source]] = [(name, value, "env") for name, value in facts.env]
    listed += [(name, value, "label") for name, value in facts.labels.items()]
    for name, value, source in listed:
        if not name.startswith(PREFIX):
            continue
        first, more, rest = name[len(PREFIX) :].partition("_")
        own = bool(more) and bool(_INTEGER.match(first))
        key = (rest if own else name[len(PREFIX) :]).lower()
        if key:
            (found.ports.setdefault(first, {}) if own else found.generic)[key] = Tag(name, value, source, own)
    return found


def split_escaped(text: str) -> tuple[str, ...]:
    r"""A comma list in which `\,` is a comma; empty items are dropped, the order is kept.

    >>> split_escaped(r"foo,bar\,baz,,")
    ('foo', 'bar,baz')
    """
    items = (part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text))
    return tuple(item for item in items if item)


def _service(text: str) -> str:
    """A service may have a reserved name, such as `dns`: it is not answered for, and that is said where it matters."""
    if "," in text:
        raise BadValue(f"{quoted(text)} is no name: a service has one; several names are DNS={quoted(text)[1:-1]}")
    if not values.NAME.pattern.match(text) or len(text) > values.NAME.longest:
        values.parse_name(text)
    return text


def _tags(text: str) -> tuple[str, ...]:
    if len(text) > MAX_TEXT or not text.isprintable():
        raise BadValue(f"{quoted(text)} is no list of tags: printable, at most {MAX_TEXT} characters")
    return split_escaped(text)


def _dns(text: str) -> tuple[str, ...]:
    return () if text.strip().lower() == "none" else values.parse_names(text)


def _word(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in allowed:
            wrong = "none of" if len(allowed) > 1 else "not what may stand here:"
            raise BadValue(f"{quoted(text)} is {wrong} {', '.join(allowed)}")
        return word

    return parse


def _whole(noun: str, highest: int) -> Callable[[str], int]:
    return lambda text: values.parse_integer(noun, text.strip(), 0, highest)


def _addresses(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MAX_FIXED:
        raise BadValue(f"{quoted(text)} holds {len(parts)} addresses, {MAX_FIXED} are the most")
    return tuple(dict.fromkeys(map(values.parse_ip, parts)))


def _drain(text: str) -> float:
    seconds = values.parse_duration(text.strip())
    if seconds > MAX_DRAIN_S:
        raise BadValue(f"{quoted(text)} is too long: at most 24h")
    return seconds


def parse_network(text: str) -> str:
    """A network of a container: its name or a CIDR."""
    if len(text) > 128 or not re.match(r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*\Z", text):
        raise BadValue(f"{quoted(text)} is no network: its name, or addresses such as 10.0.0.0/8")
    return text


class Rule(NamedTuple):
    """How the value of a tag is read, and what a bad one costs."""

    parse: Callable[[str], object]
    cost: Cost


KNOWN: Mapping[str, Rule] = MappingProxyType(
    {
        "name": Rule(_service, "port"),  # under a default name it would be found where nobody looks
        "id": Rule(values.parse_id, "default"),
        "tags": Rule(_tags, "default"),
        "ignore": Rule(values.parse_boolean, "port"),  # who writes IGNORE wants it hidden
        "dns": Rule(_dns, "names"),
        "proxydns": Rule(values.parse_names, "route"),  # a route without them would stand elsewhere
        "proxy": Rule(_word("http", "https", "grpc", "tcp", "udp"), "route"),
        "proxy_backend": Rule(_word("http", "https", "grpc", "grpcs"), "route"),
        "proxy_host": Rule(values.parse_hosts, "route"),
        "proxy_path": Rule(values.parse_path, "route"),
        "proxy_strip": Rule(values.parse_boolean, "route"),
        "proxy_dest": Rule(values.parse_path, "route"),
        "proxy_port": Rule(values.parse_port, "route"),
        "proxy_sticky": Rule(values.parse_boolean, "route"),
        "proxy_timeout": Rule(options.parse_timeout, "route"),
        "proxy_body": Rule(options.parse_size, "route"),
        "proxy_auth": Rule(options.parse_file, "route"),
        "proxy_allow": Rule(options.parse_networks, "route"),
        "proxy_rate": Rule(options.parse_rate, "route"),
        "proxy_redirect": Rule(options.parse_redirect, "route"),
        "proxy_compress": Rule(values.parse_boolean, "route"),
        "proxy_security": Rule(values.parse_boolean, "route"),
        "proxy_maintenance": Rule(values.parse_boolean, "route"),
        "proxy_cert": Rule(secured.parse_cert, "route"),  # with another certificate clients would not trust it
        "proxy_hsts": Rule(secured.parse_hsts, "default"),
        "proxy_http": Rule(_word("redirect", "serve", "refuse"), "route"),  # who writes refuse wants it closed
        "weight": Rule(_whole("weight", 65535), "default"),
        "priority": Rule(_whole("priority", 65535), "default"),
        "ttl": Rule(_whole("number of seconds", 2**31 - 1), "default"),
        "version": Rule(values.parse_id, "default"),
        "drain": Rule(_drain, "default"),
        "network": Rule(parse_network, "port"),  # an address that was not asked for must not be published
        "ip": Rule(_addresses, "port"),
        "internal": Rule(values.parse_boolean, "port"),
        "routable": Rule(values.parse_boolean, "port"),
        "health": Rule(_word("ignore"), "default"),
        "check": Rule(_word("none"), "check"),
        "check_http": Rule(probe.parse_path, "check"),
        "check_https": Rule(probe.parse_path, "check"),
        "check_tcp": Rule(values.parse_boolean, "check"),
        "check_grpc": Rule(probe.parse_grpc, "check"),
        "check_cmd": Rule(probe.parse_script, "check"),
        "check_script": Rule(probe.refuse_script, "check"),
        "check_ttl": Rule(probe.refuse_ttl, "check"),
        "check_interval": Rule(probe.parse_interval, "default"),
        "check_timeout": Rule(probe.parse_timeout, "default"),
        "check_rise": Rule(probe.parse_count, "default"),
        "check_fall": Rule(probe.parse_count, "default"),
        "check_initial_status": Rule(probe.parse_status, "default"),
        "check_http_method": Rule(probe.parse_method, "default"),
        "check_https_method": Rule(probe.parse_method, "default"),
        "check_grpc_use_tls": Rule(values.parse_boolean, "check"),
        "check_tls_skip_verify": Rule(values.parse_boolean, "default"),
        "check_deregister_after": Rule(probe.refuse_deregister, "nothing"),
        "swarm": Rule(_word("vip", "tasks"), "default"),  # read by `swarm.see`, from the service
    }
)

# Checks stay in attrs too: other readers of the exports know them.
CHECKS = frozenset(key for key in KNOWN if key.split("_")[0] in {"check", "health"})
# A stream that asks for these and would not get them is open to everybody: it is not served at all.
GUARDS = frozenset({"proxy_auth", "proxy_allow", "proxy_rate"})
SECRETS = frozenset({"proxy_auth"})  # never kept, never quoted

ALL_KEYS = frozenset(KNOWN)


class PortTags(NamedTuple):
    """What the tags say about one port.

    Attributes:
        port: whose they are.
        raw: every tag that applies, by key; an empty value counts as not set.
        values: those we know, read; only good ones.
        refused: key -> what was wrong with the value, as a sentence.
        attrs: the others, for templates.
        notices: what the admin should know about them.
    """

    port: PortSpec
    raw: dict[str, Tag]
    values: dict[str, object]
    refused: dict[str, str]
    attrs: dict[str, str]
    notices: tuple[str, ...]

    def own(self, key: str) -> bool:
        """True when the tag is set for this very port."""
        return key in self.raw and self.raw[key].own

    def costs(self, cost: Cost) -> str:
        """The first refusal that costs this, or nothing."""
        return next((why for key, why in self.refused.items() if KNOWN[key].cost == cost), "")

    def wrong(self) -> tuple[str, ...]:
        """Everything to say of the tags of a port that is left out, so that all of it can be mended at once."""
        return tuple(dict.fromkeys((*self.refused.values(), *self.notices)))


def of_port(tags: Tags, port: PortSpec, *, keep_all: bool = False) -> PortTags:
    """Read what applies to one port.

    Args:
        tags: of the container.
        port: of it.
        keep_all: attrs hold the tags that we know too, as the seed's did; for key templates.

    Never raises: what cannot be read is in `refused`.
    """
    raw = tags.of(port.port)
    read_, refused = {}, {}
    for key, rule in KNOWN.items():
        if not (tag := raw.get(key)) or not tag.value:
            continue
        wrong = tag.wrong
        if not wrong:
            try:
                read_[key] = rule.parse(tag.value)
            except BadValue as error:
                wrong = str(error)
        if wrong:
            refused[key] = f"{tag.name} ({tag.source}): {wrong}; {COSTS[rule.cost]}"
    attrs, too_much = _attributes(raw, keep_all=keep_all)
    notices = [why for key, why in refused.items() if KNOWN[key].cost != "port"]
    return PortTags(port, raw, read_, refused, attrs, (*notices, *too_much, *_unknown(raw)))


_NEVER_ATTRS = frozenset({"name", "id", "tags"}) | SECRETS


def _attributes(raw: Mapping[str, Tag], *, keep_all: bool) -> tuple[dict[str, str], list[str]]:
    """What templates get of the tags; too long or too many ones are left out by name."""
    kept: dict[str, str] = {}
    left_out, room = [], MAX_ATTRS_TEXT
    for key, tag in sorted(raw.items()):
        if (
            key in _NEVER_ATTRS
            or (key in KNOWN and key not in CHECKS and not keep_all)
            or (key == "ignore" and tag.value)
        ):
            continue
        size = len(key) + len(tag.value)
        if size > MAX_TEXT or size > room or len(kept) >= MAX_ATTRS:
            left_out.append(
                f"{quoted(tag.name)[1:-1]}: not kept: {MAX_ATTRS} attributes with {MAX_ATTRS_TEXT} characters in all, "
                f"{MAX_TEXT} in one, are the most"
            )
            continue
        kept[key] = tag.value
        room -= size
    return kept, left_out


@functools.lru_cache(4096)  # a tag is looked at for each port, and to look for its nearest takes a millisecond
def _nearest(key: str) -> str:
    return next(iter(difflib.get_close_matches(key, sorted(ALL_KEYS), 1, 0.75)), "")


def _unknown(raw: Mapping[str, Tag]) -> list[str]:
    found = []
    for key, tag in sorted(raw.items()):
        if key not in ALL_KEYS:
            near = _nearest(key) if len(key) <= LONGEST_SLIP else ""
            hint = f"; did you mean {near.upper()}?" if near else ""
            found.append(f"{quoted(tag.name)[1:-1]}: no tag of ours, kept for templates as {quoted(key)}{hint}")
    return found


def strays(tags: Tags, ports: frozenset[int]) -> tuple[str, ...]:
    """Tags that name a port which the container does not have, each as a sentence."""
    there = {str(port) for port in ports}
    listed = ", ".join(str(port) for port in sorted(ports)) or "none"
    return tuple(
        f"{quoted(tag.name)[1:-1]}: the container has no port {number}; it has {listed}"
        for number, own in sorted(tags.ports.items())
        if number not in there
        for tag in own.values()
    )
