"""VIRTUAL_HOST and what goes with it: nginx-proxy's variables, read as the SERVICE_* tags that mean the same.

Pure. What our own tags say is never changed: a PROXY tag of a port stands in the place of all of them there, any other
key in the place of its own. NETWORK_ACCESS alone is read by itself, whatever becomes of the others, and laid beneath
every port that asks for a route, by whatever tag: who kept clients out there must not let them in by naming a port.
What nginx-proxy has and we do not is left out with a remark that names the variable, and costs no more than it must;
what would leave open what was closed there costs the route.
Source: nginx-proxy's docs/README.md and nginx.tmpl. Differs: docs/tags.md, and docs/decisions/0029.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pilotfish.catalog import values
from pilotfish.catalog.route import Reserved
from pilotfish.catalog.values import BadValue, quoted
from registrator.rules import candidates, yaml
from registrator.rules.container import HOSTS, MULTIPORTS, Facts
from registrator.rules.tags import COSTS, Tag, Tags
from registrator.rules.yaml_scalars import BadYaml, Value

LABEL = "com.github.nginx-proxy.nginx-proxy."  # in front of its labels
MAX_MULTIPORTS = 16 * 1024  # characters
MAX_WISHES = 4096  # paths of all its hosts: aliases make a million of so many characters
MAX_REMARKS = 16  # of one container: a variable may hold thousands of hosts
DEFAULT_PORT = 80
DEFAULT_HSTS = "365d"
INTERNAL = "127.0.0.0/8,10.0.0.0/8,192.168.0.0/16,172.16.0.0/12"  # its network_internal.conf


class Method(NamedTuple):
    """What a word of HTTPS_METHOD means: PROXY, PROXY_HTTP, and whether browsers are told to keep to https."""

    scheme: str
    http: str
    hsts: bool


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "redirect": Method("https", "redirect", True),
        "noredirect": Method("https", "serve", False),
        "nohttp": Method("https", "refuse", True),
        "nohttps": Method("http", "", False),
    }
)
ACCESS: Mapping[str, str] = MappingProxyType({"internal": INTERNAL, "external": ""})
BY_CLIENT = frozenset({"ip_hash", "hash $remote_addr", "hash $remote_addr consistent"})
NOT_SPOKEN = frozenset({"uwsgi", "fastcgi"})


class Virtual(NamedTuple):
    """The tags of a container with those of nginx-proxy beneath them, and what is to be said of the latter."""

    tags: Tags
    remarks: tuple[str, ...] = ()


class _Place(NamedTuple):
    """What one port is asked to serve.

    Attributes:
        port: of the container.
        path: prefix.
        dest: what stands in its place for the application; empty: it stays.
        hosts: good ones, in the order given.
    """

    port: int
    path: str
    dest: str
    hosts: tuple[str, ...]


class _Refused(Exception):
    """The container has no route by its variables; the message says why, and what is proxied then is said behind it."""


def beneath(facts: Facts, own: Tags, reserved: Reserved) -> Virtual:
    """Lay what nginx-proxy's variables say beneath the tags of a container.

    Args:
        facts: of it.
        own: its SERVICE_* tags.
        reserved: hosts that nobody may have.

    Never raises.
    """
    if not facts.virtual:
        return Virtual(own)
    work = _Work(facts, own, reserved)
    laid = work.guarded(Tags(own.generic, own.ports | work.routes()))
    return Virtual(laid, work.told())


class _Work:
    """One container's variables on their way into tags."""

    def __init__(self, facts: Facts, own: Tags, reserved: Reserved) -> None:
        self.facts = facts
        self.own = own
        self.reserved = reserved
        self.given = facts.virtual
        self.several = bool(self.given.get(MULTIPORTS))
        self.about = MULTIPORTS if self.several else HOSTS
        self.remarks: list[str] = []

    def told(self) -> tuple[str, ...]:
        """Each remark once, and no more than somebody reads."""
        said = list(dict.fromkeys(self.remarks))
        more = [f"{self.about}: and {len(said) - MAX_REMARKS} more such remarks"] if len(said) > MAX_REMARKS else []
        return (*said[:MAX_REMARKS], *more)

    def word(self, variable: str) -> str:
        return self.given.get(variable, "").strip()

    def tag(self, variable: str, value: str) -> Tag:
        return Tag(variable, value, "env", own=True, written=self.given.get(variable, ""))

    def routes(self) -> dict[str, dict[str, Tag]]:
        """By port, its own tags over those that the variables mean; none where a PROXY tag takes their place."""
        try:
            places, common = list(self.places()), self.common()
        except _Refused as refusal:
            ours = any(True for _ in self.asking(self.own))
            self.remarks.append(f"{refusal}; {'it is proxied only as PROXY tags say' if ours else COSTS['route']}")
            return {}
        found = {}
        for place in places:
            there = self.own.of(place.port)
            if "proxy" not in there:
                said = {key: tag for key, tag in (self.placed(place) | common).items() if key not in there}
                found[str(place.port)] = said | self.own.ports.get(str(place.port), {})
        return found

    def guarded(self, tags: Tags) -> Tags:
        """The same with what NETWORK_ACCESS says at every port that asks for a route and does not say who may."""
        if not (guard := self.guard()):
            return tags
        ports = dict(tags.ports)
        for port in self.asking(tags):
            said = tags.of(port).get("proxy_allow")
            if said and said.value:
                continue
            if said:
                # To open by an empty value what another variable closes would be too easily done by a slip.
                self.remarks.append(
                    f"{said.name} ({said.source}): empty, so that {guard.shown} says who may: take that away, or name"
                    " networks here"
                )
            ports[str(port)] = ports.get(str(port), {}) | {"proxy_allow": guard}
        return Tags(tags.generic, ports)

    def asking(self, tags: Tags) -> Iterator[int]:
        """Ports that ask for a route, each once."""
        numbers = dict.fromkeys(spec.port for spec in candidates.ports(self.facts, tags))
        return (port for port in numbers if (proxy := tags.of(port).get("proxy")) and proxy.value)

    def guard(self) -> Tag | None:
        """Who may, as NETWORK_ACCESS says; of a word that is unknown nothing can be made, which costs the route."""
        word = self.word("NETWORK_ACCESS") or "external"
        wrong = "" if word in ACCESS else _unknown(word, ACCESS)
        tag = self.tag("NETWORK_ACCESS", ACCESS.get(word, word))
        # The container's: it does not choose a port among too many.
        return tag._replace(own=False, wrong=wrong) if tag.value else None

    def places(self) -> Iterator[_Place]:
        """What each port is asked for; of several wishes at one port the widest, since a port has one route."""
        wishes: dict[tuple[int, str, str], list[str]] = {}
        for port, path, dest, host in self.listed() if self.several else self.plain():
            wishes.setdefault((port, path, "" if path == "/" == dest else dest), []).append(host)
        places = [_Place(*key, hosts) for key, texts in wishes.items() if (hosts := tuple(self.good(texts)))]
        if not places:
            raise _Refused(f"{self.about} (env): {quoted(self.given[self.about])} leaves no host")
        chosen: dict[int, _Place] = {}
        for place in sorted(places, key=lambda place: place.path != "/"):
            first = chosen.setdefault(place.port, place)
            if not _covers(first, place) and "proxy" not in self.own.of(place.port):
                self.remarks.append(_second(first, place))
        yield from chosen.values()

    def plain(self) -> Iterator[tuple[int, str, str, str]]:
        """Port, path, destination and host of each wish of VIRTUAL_HOST."""
        try:
            port = self.port(self.word("VIRTUAL_PORT"))
        except BadValue as error:
            raise _Refused(f"VIRTUAL_PORT (env): {error}") from error
        path, dest = self.word("VIRTUAL_PATH") or "/", self.word("VIRTUAL_DEST")
        yield from ((port, path, dest, host) for host in self.given[HOSTS].split(","))

    def listed(self) -> Iterator[tuple[int, str, str, str]]:
        """The same of VIRTUAL_HOST_MULTIPORTS: a map of hosts, each with a map of paths, each with a port and dest."""
        try:
            hosts = _map("", _parsed(self.given[MULTIPORTS]))
        except BadValue as error:
            raise _Refused(f"{MULTIPORTS} (env): {error}") from error
        if sum(len(paths) for paths in hosts.values() if isinstance(paths, dict)) > MAX_WISHES:
            raise _Refused(f"{MULTIPORTS} (env): more than {MAX_WISHES} paths of all its hosts")
        for host, paths in hosts.items():
            try:
                there = _map(host, paths) or {"/": None}
                yield from [(*self.at(path.strip() or "/", host, how), host) for path, how in there.items()]
            except BadValue as error:
                self.remarks.append(f"{MULTIPORTS} (env): {error}; this host is left out")

    def at(self, path: str, host: str, how: Value) -> tuple[int, str, str]:
        """Port, path and destination of one path of a host."""
        said = _map(host + path, how)
        port, dest = (_scalar(f"{key} of {quoted(host + path)}", said.get(key)) for key in ("port", "dest"))
        return self.port(port), path, dest

    def port(self, text: str) -> int:
        """The port that is named, else the only one that the container has, else 80."""
        if text:
            return values.parse_port(text)
        there = [*{*self.facts.exposed, *self.facts.bindings}]
        return there[0].port if len(there) == 1 else DEFAULT_PORT

    def good(self, texts: Iterable[str]) -> Iterator[str]:
        """Hosts that we can serve, each once; the others are told."""
        for text in dict.fromkeys(text.strip() for text in texts):
            try:
                host = values.parse_host(text) if text else ""
            except BadValue as error:
                self.remarks.append(f"{self.about} (env): {error}; this host is left out")
                continue
            if host and self.reserved.covers(host):
                self.remarks.append(f"{self.about} (env): {quoted(host)} is a reserved name; this host is left out")
            elif host:
                yield host

    def placed(self, place: _Place) -> dict[str, Tag]:
        """The tags that say where a port is served."""
        path, dest = (MULTIPORTS, MULTIPORTS) if self.several else ("VIRTUAL_PATH", "VIRTUAL_DEST")
        said = {"proxy_host": self.tag(self.about, ",".join(place.hosts))}
        if place.path != "/":
            said["proxy_path"] = self.tag(path, place.path)
        if place.dest:
            said["proxy_dest"] = self.tag(dest, place.dest)
        return said

    def common(self) -> dict[str, Tag]:
        """The tags that hold at every place."""
        word = self.word("HTTPS_METHOD") or "redirect"
        if word not in METHODS:  # it could have closed what we would leave open
            raise _Refused(f"HTTPS_METHOD (env): {_unknown(word, METHODS)}")
        method = METHODS[word]
        said = {"proxy": self.tag(self.about, method.scheme)}
        if method.scheme == "https":
            said["proxy_http"] = self.tag("HTTPS_METHOD" if self.word("HTTPS_METHOD") else self.about, method.http)
            if name := self.word("CERT_NAME"):
                said["proxy_cert"] = self.tag("CERT_NAME", name)
        if method.hsts:
            hsts = self.word("HSTS")
            said["proxy_hsts"] = self.tag("HSTS", hsts) if hsts else self.tag(self.about, DEFAULT_HSTS)
        if proto := self.word("VIRTUAL_PROTO"):
            if proto in NOT_SPOKEN:
                raise _Refused(f"VIRTUAL_PROTO (env): {proto} is not spoken here: put a web server before it")
            said["proxy_backend"] = self.tag("VIRTUAL_PROTO", proto)
        return said | self.labels()

    def labels(self) -> dict[str, Tag]:
        """Those of its labels that change what clients get."""
        verify = self.facts.labels.get(f"{LABEL}ssl_verify_client", "")
        if verify not in {"", "off"}:
            raise _Refused(
                f"{LABEL}ssl_verify_client (label): {quoted(verify)} cannot be had by a label: ask for certificates of"
                " clients in a snippet of the host, and take the label away"
            )
        balance = self.facts.labels.get(f"{LABEL}loadbalance", "").strip().rstrip("; ")
        if " ".join(balance.split()) in BY_CLIENT:
            return {"proxy_sticky": Tag(f"{LABEL}loadbalance", "yes", "label", own=True, written=balance)}
        if balance:
            self.remarks.append(
                f"{LABEL}loadbalance (label): {quoted(balance)} has no effect: SERVICE_WEIGHT and SERVICE_PROXY_STICKY"
                " say who gets what"
            )
        return {}


def _unknown(word: str, known: Iterable[str]) -> str:
    return f"{quoted(word)} is none of {', '.join(known)}"


def _covers(first: _Place, other: _Place) -> bool:
    """True when a place serves all that another of its port asks for."""
    whole = first.path == "/" and not first.dest and not other.dest
    return first == other or (whole and set(other.hosts) <= set(first.hosts))


def _second(first: _Place, other: _Place) -> str:
    one, two = (f"{place.path} of {','.join(place.hosts)}" for place in (first, other))
    return (
        f"{MULTIPORTS} (env): {quoted(two)} is left out: port {first.port} serves {quoted(one)}, and a port has one"
        " path and destination: serve it from another port"
    )


def _parsed(text: str) -> Value:
    """YAML, of which JSON is a part."""
    if len(text) > MAX_MULTIPORTS:
        raise BadValue(f"{len(text)} characters, {MAX_MULTIPORTS} are the most")
    try:
        return yaml.parse(text)
    except BadYaml as error:
        raise BadValue(str(error)) from error


def _map(where: str, value: Value) -> Mapping[str, Value]:
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise BadValue(f"{quoted(where) if where else 'it'} is no map: it holds hosts, then paths, then port and dest")
    return value


def _scalar(what: str, value: Value) -> str:
    if value is not None and not isinstance(value, str):
        raise BadValue(f"{what} is no text")
    return (value or "").strip()
