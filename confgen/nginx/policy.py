"""What stands in a location besides its server: made of tokens, from what a route asks for and what this nginx can do.

Pure. A route that asks for a guard which cannot be given is closed, never open: `closed` says why. What is only
convenience is left out with a note.
"""

from __future__ import annotations

from collections.abc import Set
from hashlib import sha256

import msgspec

from confgen.nginx import quote
from confgen.nginx.directives import NETWORKS, OTHERS, REQUESTS, USERS
from confgen.nginx.extras import NONE, Extras
from confgen.nginx.features import LEAST, Features
from confgen.nginx.quote import Token
from pilotfish.catalog.options import NOTHING, Options, Rate, Redirect
from pilotfish.catalog.route import Place, Route

DEFAULT_PORTS = {"http": 80, "https": 443}  # nobody writes them: an address with and without is the same
CLIENT = "$binary_remote_addr"  # what zones count by; their names hold its hash, or a reload that changes it would fail


class Sticky(msgspec.Struct, frozen=True):
    """A client stays with its server: by nginx's own cookie, or by a hash of one of ours (None)."""

    cookie: Token | None


class Limits(msgspec.Struct, frozen=True):
    """How much one client may ask for.

    Attributes:
        zone: counts requests; None: they are not limited.
        rate: of it.
        burst: beyond it.
        busy: counts requests in progress; None: they are not limited.
        connections: as many of them.
    """

    zone: Token | None
    rate: Token | None
    burst: Token | None
    busy: Token | None
    connections: Token | None


class Elsewhere(msgspec.Struct, frozen=True):
    """Clients are sent away, unless they are there already.

    Attributes:
        code: of the answer.
        host: a host of the route; None: `base` counts.
        base: scheme, host and port; None: `host` counts.
        whole: the whole address; None: `base` and what was asked for.
        always: nobody who is sent there comes here again, so nobody has to be looked at.
    """

    code: Token
    host: Token | None = None
    base: Token | None = None
    whole: Token | None = None
    always: bool = False


class Policy(msgspec.Struct, frozen=True):
    """What one location prints besides its server.

    Attributes:
        scheme: what nginx speaks with the servers.
        grpc: they speak gRPC.
        sticky: None: every request goes where there is least to do.
        timeout: how long a server may be silent.
        body: largest body.
        auth: file with those who may.
        realm: path for which they are asked, RFC 7617 §2.2: a browser sends what it knows of one realm to all of it, so
            two places of a host with other users are two realms; None: the whole host.
        allow: networks; None: everybody; empty: nobody.
        limits: of one client.
        elsewhere: where clients are sent.
        compress: text is compressed.
        security: careful headers are added.
        maintenance: 503 for now.
        paged: with a page of the host.
    """

    scheme: Token
    grpc: bool = False
    sticky: Sticky | None = None
    timeout: Token | None = None
    body: Token | None = None
    auth: Token | None = None
    realm: Token | None = None
    allow: tuple[Token, ...] | None = None
    limits: Limits | None = None
    elsewhere: Elsewhere | None = None
    compress: bool = False
    security: bool = False
    maintenance: bool = False
    paged: bool = False

    @property
    def plain(self) -> bool:
        """Nothing is asked for, as in most routes: a template may skip what prints nothing, which takes its time."""
        return self == PLAIN


PLAIN = Policy(quote.scheme("http"))
CLOSED_FOR_WORK = Policy(quote.scheme("http"), maintenance=True, paged=True)


class Around(msgspec.Struct, frozen=True):
    """What decides about policies besides the routes.

    Attributes:
        can: what nginx can do.
        h2c: HTTP/2 in the clear is spoken on some port.
        htpasswd: folder of the files with those who may, absolute; empty: there is none.
        extras: what the admin's folders hold.
    """

    can: Features = LEAST
    h2c: bool = False
    htpasswd: str = ""
    extras: Extras = NONE


class Decided(msgspec.Struct, frozen=True):
    """A policy, and what it does not do.

    Attributes:
        policy: to print.
        closed: why nobody is let in; empty: the policy counts.
        notes: what was asked for and is not done, as sentences.
    """

    policy: Policy
    closed: str = ""
    notes: tuple[str, ...] = ()


JUST_SERVED = Decided(PLAIN)


def decide(service: str, route: Route, allow: Set[str] | None, around: Around) -> Decided:
    """Make the policy of a place.

    Args:
        service: in lower case.
        route: as its containers agree on it.
        allow: networks that may; None: all.
        around: what else decides.
    """
    options = route.options or NOTHING
    if options == NOTHING and allow is None and route.backend == "http" and route.scheme != "grpc":
        return JUST_SERVED
    closed = _closed(route, options, around)
    if closed:
        return Decided(PLAIN, closed)
    can = around.can
    return Decided(
        Policy(
            scheme=quote.scheme(route.backend),
            grpc=route.backend in {"grpc", "grpcs"},
            sticky=_sticky(service, can) if options.sticky else None,
            timeout=None if options.timeout_s is None else quote.duration(options.timeout_s),
            body=None if options.body is None else quote.number(options.body),
            auth=quote.file(f"{around.htpasswd}/{options.auth}") if options.auth else None,
            allow=None if allow is None else tuple(quote.network(one) for one in sorted(allow)),
            limits=_limits(service, options.rate) if options.rate else None,
            elsewhere=_elsewhere(options.redirect) if options.redirect else None,
            compress=options.compress and can.has("gzip"),
            security=options.security,
            maintenance=options.maintenance,
        ),
        notes=tuple(_notes(route, options, around)),
    )


def key_of(endpoint_id: str) -> Token:
    """What stands in a client's cookie for an endpoint; a container that is made anew under its name keeps it."""
    return quote.digest(sha256(endpoint_id.encode()).hexdigest()[:16])


def guards(decided: Decided, snippet: Set[str]) -> tuple[object, ...]:
    """What is asked of a client at a place; where places of a host differ in it, a path must not be read in two ways.

    Args:
        decided: for the place.
        snippet: names of the directives of its own snippet.
    """
    policy = decided.policy
    return (bool(decided.closed), policy.allow, policy.auth, frozenset(snippet & (NETWORKS | USERS | OTHERS)))


NO_GUARDS = guards(JUST_SERVED, frozenset())


def at(policy: Policy, place: Place) -> Policy:
    """The policy at one place of a route: the realm of its passwords, and nobody is sent to where he is."""
    if policy.auth and place.path != "/":
        policy = msgspec.structs.replace(policy, realm=quote.below(place.path))
    elsewhere = policy.elsewhere
    if elsewhere is None:
        return policy
    if elsewhere.base is None:
        there = elsewhere.host is not None and elsewhere.host.text == place.host
        return msgspec.structs.replace(policy, elsewhere=None) if there else policy
    always = not _comes_again(elsewhere.base.text, elsewhere.whole.text if elsewhere.whole else "", place)
    return msgspec.structs.replace(policy, elsewhere=msgspec.structs.replace(elsewhere, always=always))


def _comes_again(base: str, whole: str, place: Place) -> bool:
    """Whether who is sent to an address may come to a place, by its host and path.

    >>> _comes_again("http://a.test", "http://a.test/new", Place("a.test", "/old"))
    False
    """
    host, stem = base.partition("://")[2].partition(":")[0], place.path.rstrip("/")
    covered = host.endswith(place.host[1:]) if place.host.startswith("*") else host == place.host
    return covered and (not whole or f"{whole.removeprefix(base)}/".startswith(f"{stem}/"))


def overridden(policy: Policy, says: Set[str]) -> str:
    """Why a policy cannot stand with the admin's directives, whose guards it would replace; empty when it can.

    Args:
        policy: of a place at this host.
        says: names of the directives of the host and of the place.
    """
    guards = [
        ("PROXY_ALLOW", policy.allow is not None, NETWORKS),
        ("PROXY_AUTH", policy.auth is not None, USERS),
        ("PROXY_RATE", policy.limits is not None, REQUESTS),
    ]
    for tag, asked, theirs in guards:
        if asked and (found := says & theirs):
            return f"{tag}: it would take the place of {min(found)} in the admin's snippet; nobody is let in"
    return ""


TOO_LONG = "the path is too long for its other spellings to be kept out (120 characters and 10 parts fit)"


def beside(decided: Decided, host: Set[str], says: Set[str], *, loose: bool) -> tuple[Decided, list[str]]:
    """What was decided, or that nobody is let in where it would guard less than it says; and what is to be said of it.

    Args:
        decided: for a place.
        host: names of the directives of its host's snippet.
        says: of its own.
        loose: it is guarded, and its path is too long for other spellings to be refused.
    """
    said = [why] if (why := overridden(decided.policy, host | says)) else []
    if loose:
        tagged = guards(decided, frozenset()) != NO_GUARDS
        said.append(f"{TOO_LONG}; {'nobody is let in' if tagged else 'they go round what its snippet guards'}")
        why = why or (said[-1] if tagged else "")
    return Decided(PLAIN, why) if why else decided, said


def _closed(route: Route, options: Options, around: Around) -> str:
    """Why a route cannot be served as it asks to be."""
    can = around.can
    needs = [
        ("auth_basic", "PROXY_AUTH", bool(options.auth)),
        ("access", "PROXY_ALLOW", bool(options.allow)),
        ("limit_req", "PROXY_RATE", options.rate is not None and options.rate.requests > 0),
        ("limit_conn", "PROXY_RATE", options.rate is not None and options.rate.connections > 0),
        ("hash", "PROXY_STICKY", options.sticky and not can.has("sticky")),
        ("grpc", f"PROXY_BACKEND={route.backend}", route.backend in {"grpc", "grpcs"}),
        ("http_ssl", f"PROXY_BACKEND={route.backend}", route.backend in {"https", "grpcs"}),
    ]
    for feature, tag, asked in needs:
        if asked and (why := can.why_not(feature)):
            return f"{tag}: {why}; nobody is let in"
    if options.auth and not around.htpasswd:
        return "PROXY_AUTH: confgen has no folder of htpasswd files: give it with --htpasswd; nobody is let in"
    if options.auth and options.auth not in around.extras.users:
        return f"PROXY_AUTH: no file {options.auth} lies in {around.htpasswd}; nobody is let in"
    return ""


def _notes(route: Route, options: Options, around: Around) -> list[str]:
    notes = []
    if options.compress and (why := around.can.why_not("gzip")):
        notes.append(f"PROXY_COMPRESS: {why}; answers are sent as they are")
    if route.strip and route.backend in {"grpc", "grpcs"}:
        notes.append("PROXY_STRIP: gRPC methods have their own paths; nothing is taken off")
    if route.scheme == "grpc" and not around.h2c:
        why = (
            around.can.why_not("http_v2") or f"nginx {around.can.shown} needs a port of its own for it: give --h2c-port"
        )
        notes.append(f"PROXY=grpc: no HTTP/2 without TLS: {why}")
    return notes


def _sticky(service: str, can: Features) -> Sticky:
    return Sticky(quote.word(f"pilotfish_{_hash(service)}") if can.has("sticky") else None)


def _limits(service: str, rate: Rate) -> Limits:
    counted = f"{service}--{_hash(f'{CLIENT} {rate.requests} {rate.per}')}"
    return Limits(
        zone=quote.zone(f"{counted}--rate") if rate.requests else None,
        rate=quote.rate(rate.requests, rate.per) if rate.requests else None,
        burst=quote.number(rate.burst) if rate.requests and rate.burst else None,
        busy=quote.zone(f"{counted}--busy") if rate.connections else None,
        connections=quote.number(rate.connections) if rate.connections else None,
    )


def _elsewhere(redirect: Redirect) -> Elsewhere:
    code = quote.number(redirect.code)
    if not redirect.scheme:
        return Elsewhere(code, host=quote.host(redirect.host))
    port = f":{redirect.port}" if redirect.port not in {0, DEFAULT_PORTS[redirect.scheme]} else ""
    base = f"{redirect.scheme}://{redirect.host}{port}"
    return Elsewhere(code, base=quote.url(base), whole=quote.url(base + redirect.target) if redirect.target else None)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]
