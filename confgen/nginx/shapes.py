"""The values that templates lay out: frozen, made of tokens, and how upstreams and files are named.

Pure. Names are made so that two services can never make the same one: an upstream's name can be taken apart into the
service and a number, and a file's name holds the service's or its hash.
"""

from __future__ import annotations

import re
from enum import Enum, unique
from hashlib import sha256

import msgspec

from confgen.nginx import quote, tls
from confgen.nginx.policy import PLAIN, Limits, Policy
from confgen.nginx.quote import Token
from pilotfish.catalog import values
from pilotfish.catalog.route import Place

KEEPALIVE_PER_SERVER = 32  # idle connections that a worker keeps for each server of an upstream, for a few seconds
MAX_KEEPALIVE = 256
SERVICES, PARTS = "services/", "parts/"  # folders of what we write of services; the main file includes all of the first
MAX_FILE_STEM = 150  # octets; with a second name and a suffix it stays under NAME_MAX (255)


@unique
class Level(Enum):
    """How far a service is taken out that nginx refused."""

    SILENT = "503 at its hosts and paths"
    ABSENT = "left out: even its 503 was refused"


class Note(msgspec.Struct, frozen=True, order=True):
    """Something that is not served as it was asked for, and why.

    Attributes:
        service: in lower case.
        subject: the host and path, or the id of the endpoint.
        reason: a sentence.
    """

    service: str
    subject: str
    reason: str


class Server(msgspec.Struct, frozen=True, order=True, gc=False):
    """One endpoint as nginx reaches it from this host.

    Attributes:
        address: address and port.
        weight: its share.
        here: it runs on this host, so that its end is heard at once; a host that dies elsewhere says nothing.
        key: names it in the cookie of a client that stays with it, the same at every proxy; None: nobody has to.
    """

    address: Token
    weight: Token
    here: bool
    key: Token | None = None


class Upstream(msgspec.Struct, frozen=True):
    """A group of servers; twice where connections are kept open, once more with a fresh one for every request.

    Attributes:
        name: of the group that most requests go through.
        once: of the group that never reuses a connection, for methods that must not be sent twice and for upgrades; the
            same one where none are kept: nginx looks for each group among all others.
        upgrade: how the named locations begin in which a request gets a fresh connection: upgrades, what must not be
            sent twice, large bodies.
        servers: sorted, at least one.
        policy: of the places that it serves.
        keepalive: idle connections kept by each worker; None: none are, because a server is on another host. A host
            that dies answers nothing, and each connection kept to it would cost one request its whole timeout.
    """

    name: Token
    once: Token
    upgrade: Token
    servers: tuple[Server, ...]
    policy: Policy
    keepalive: Token | None

    @property
    def groups(self) -> tuple[tuple[Token, Token | None], ...]:
        """The groups of nginx that it is: their names, and how many connections each worker keeps to each."""
        kept = (self.name, self.keepalive)
        return (kept, (self.once, None)) if self.keepalive else (kept,)


class Location(msgspec.Struct, frozen=True):
    """What one path of one host is answered with.

    Attributes:
        path: as claimed.
        matches: nginx's own way to say "this path and everything below it", less what the host's own directives have.
        upstream: who serves it; None: nobody at the moment, 503.
        strip: the prefix is taken off.
        prefix: which one, without a slash behind; None: none is.
        spelled: the same as a regular expression; None: it is too long for one.
        dest: what stands in its place, without a slash behind; None: nothing.
        policy: what stands in it besides.
        snippet: file with the admin's own directives for it.
        says: the names of these directives, since nginx wants most of them once.
        sent: headers that they send to the application, in lower case.
        secure: who comes over http is sent to https, or is not served.
        shut: of both, he is not served.
        hsts: the value of Strict-Transport-Security over https.
    """

    path: str
    matches: tuple[Token, ...]
    upstream: Upstream | None
    strip: bool
    prefix: Token | None = None
    spelled: Token | None = None
    dest: Token | None = None
    policy: Policy = PLAIN
    snippet: Token | None = None
    says: frozenset[str] = frozenset()
    sent: frozenset[str] = frozenset()
    secure: bool = False
    shut: bool = False
    hsts: Token | None = None

    def below(self, match: Token) -> bool:
        """Whether something follows the path in what a match is for."""
        return match.text != f"= {self.path}"

    @property
    def undivided(self) -> bool:
        """Nothing is told apart by method, upgrade or body: what stands in one location counts for all.

        A snippet does so whichever directives it has.
        """
        return self.strip or self.policy.elsewhere is not None or self.snippet is not None


class Own(msgspec.Struct, frozen=True):
    """Files that the admin's folders give a host: directives, and the page of its maintenance.

    Attributes:
        snippet: for its server block; a part has none.
        page: of its maintenance.
        headers: the snippet's directives of headers, for each location; None: it has none.
        sent: headers that it sends to the application, in lower case.
    """

    snippet: Token | None = None
    page: Token | None = None
    headers: Token | None = None
    sent: frozenset[str] = frozenset()


NOTHING_OWN = Own()


class Site(msgspec.Struct, frozen=True):
    """Locations of one service at hosts where they are the same.

    Attributes:
        hosts: sorted. For a part: one host, led by another service.
        locations: sorted by path.
        parts: files with the locations of other services at this host.
        strict: guards differ among the paths of these hosts, so that no path may be read in two ways.
        near: then, what some applications would take for a guarded path, and nginx for another.
        rest: True when no location covers the whole host, the admin's own included, so that the rest has to be answered
            404.
        own: what the admin's folders give the hosts.
        certificate: with which these hosts are served over https too; None: over http alone.
        covered: of wildcards, how many labels the names below them have that the certificate covers; None: it covers
            all of these hosts.
    """

    hosts: tuple[Token, ...]
    locations: tuple[Location, ...]
    parts: tuple[Token, ...]
    rest: bool
    own: Own = NOTHING_OWN
    certificate: tls.Certificate | None = None
    covered: Token | None = None
    strict: bool = False
    near: tuple[Token, ...] = ()

    @property
    def sides(self) -> tuple[bool, ...]:
        """Server blocks of these hosts: True for http, False for https. Two, because what http is answered differs."""
        return (True,) if self.certificate is None else (True, False)

    @property
    def clear_parts(self) -> tuple[Token, ...]:
        """The files of `parts` for http."""
        return self.parts if self.certificate is None else tuple(clear_file(part) for part in self.parts)

    @property
    def upgrades(self) -> tuple[tuple[Upstream, Token | None], ...]:
        """Those that have named locations at these hosts, each once; with the value of Strict-Transport-Security."""
        found: dict[Upstream, Token | None] = {}
        for one in self.locations:
            if one.upstream and not one.undivided and not one.policy.grpc:
                found[one.upstream] = found.get(one.upstream) or one.hsts
        return tuple(found.items())


class ServiceView(msgspec.Struct, frozen=True):
    """All that one service gets in the configuration.

    Attributes:
        name: in lower case.
        file: its own file; nginx's error line names it.
        upstreams: its groups, sorted by name.
        sites: hosts that it leads.
        parts: its locations at hosts that others lead, by file.
        notes: what it asked for and does not get.
        copies: files of the admin's that its hosts and paths use, as they are.
    """

    name: str
    file: Token
    upstreams: tuple[Upstream, ...] = ()
    sites: tuple[Site, ...] = ()
    parts: tuple[tuple[Token, Site], ...] = ()
    notes: tuple[Note, ...] = ()
    copies: tuple[tuple[Token, bytes], ...] = ()

    @property
    def rates(self) -> tuple[tuple[Token, Token], ...]:
        """Zones that count requests, with their rate, each once."""
        found = [(one.zone, one.rate) for one in self._limits() if one.zone and one.rate]
        return tuple(dict.fromkeys(found))

    @property
    def busy(self) -> tuple[Token, ...]:
        """Zones that count requests in progress, each once."""
        return tuple(dict.fromkeys(one.busy for one in self._limits() if one.busy))

    def _limits(self) -> list[Limits]:
        sites = (*self.sites, *(site for _, site in self.parts))
        return [one.policy.limits for site in sites for one in site.locations if one.policy.limits]


def shown(place: Place) -> str:
    """A place as people read it."""
    text = f"{place.host}{place.path}"
    return text if text.isascii() and text.isprintable() and len(text) < 300 else values.quoted(text)


def stem(*names: str) -> str:
    """A file name's first part for these names: readable, unique, short enough for every file system.

    >>> stem("web", "a.example")
    'web@a.example'
    """
    plain = "@".join(name.replace("*", "+") for name in names)
    if len(plain) <= MAX_FILE_STEM:
        return plain
    return f"{plain[: MAX_FILE_STEM - 18]}~{sha256(plain.encode()).hexdigest()[:16]}"


def service_file(service: str) -> Token:
    """The file of a service."""
    return quote.file(f"{SERVICES}{stem(service)}.conf")


def part_file(service: str, host: str) -> Token:
    """The file of a service's locations at a host that another one leads."""
    return quote.file(f"{PARTS}{stem(service, host)}.conf")


def snippet_file(place: Place) -> Token:
    """Where the admin's directives for a host (empty path) or a place stand in the configuration."""
    path = place.path.replace("/", "@")
    plain = re.sub(r"[^a-z0-9._@+-]", "~", f"{place.host.replace('*', '+')}{path.lower()}")
    digits = sha256(f"{place.host} {place.path}".encode()).hexdigest()[:8]  # what was cut or replaced stays apart
    return quote.file(f"snippets/{plain[:MAX_FILE_STEM]}~{digits}.conf")


def headers_file(service: str, host: str) -> Token:
    """Where the directives of headers of a host's snippet stand in the configuration, for one service there."""
    return quote.file(f"headers/{stem(service, host)}.conf")


def page_file(host: str) -> Token:
    """Where the page of a host stands in the configuration."""
    return quote.file(f"pages/{stem(host)}.html")


def clear_file(part: Token) -> Token:
    """The file of a part for http, where the host is served over https too."""
    return quote.file(f"{part.text.removesuffix('.conf')}+http.conf")


def once_of(name: str) -> str:
    """The name of the group that never reuses a connection, beside one that keeps some."""
    return f"{name}--once"


def upstream(service: str, turn: int, servers: tuple[Server, ...], policy: Policy = PLAIN) -> Upstream:
    """The upstream of some servers; its name can be taken apart again, so two services never make the same one."""
    name = f"{service}--{turn}"
    near = all(server.here for server in servers)
    return Upstream(
        name=quote.upstream(name),
        once=quote.upstream(once_of(name) if near else name),
        upgrade=quote.label(name),
        servers=servers,
        policy=policy,
        keepalive=quote.number(min(MAX_KEEPALIVE, KEEPALIVE_PER_SERVER * len(servers))) if near else None,
    )
