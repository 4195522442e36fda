"""What counts when the containers of one service ask for different things at one place, and that it is said.

Pure. One rule: what protects is joined, so that nobody who starts a container beside others can open what they closed:
a name of users beats none, networks are intersected, the lower rate counts, https beats http, and there to refuse http
beats to redirect it, which beats to serve it. Containers that are not
published join in that, or a guard would be gone whenever its container fails. All else is as the newest published
container asks, because it is what its admin last said; of https, as the newest that asks for https. Newest: started
last, then the greater id.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from pilotfish.catalog.options import NOTHING, Rate
from pilotfish.catalog.route import InTheClear, Route

Net: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Field of a route or of its options -> the tag that an admin knows.
NEWEST = {
    "backend": "PROXY_BACKEND",
    "strip": "PROXY_STRIP",
    "dest": "PROXY_DEST",
    "sticky": "PROXY_STICKY",
    "timeout_s": "PROXY_TIMEOUT",
    "body": "PROXY_BODY",
    "redirect": "PROXY_REDIRECT",
    "compress": "PROXY_COMPRESS",
    "security": "PROXY_SECURITY",
    "maintenance": "PROXY_MAINTENANCE",
}
OF_HTTPS = {"cert": "PROXY_CERT", "hsts": "PROXY_HSTS"}
STRICTER: Sequence[InTheClear] = ("serve", "redirect", "refuse")
GUARDS = {"scheme": "PROXY", "http": "PROXY_HTTP", "auth": "PROXY_AUTH", "allow": "PROXY_ALLOW", "rate": "PROXY_RATE"}


class Asked(NamedTuple):
    """One endpoint's wish: when its container started, its id, its route. Sorted: the newest last."""

    started: float
    id: str
    route: Route


class Agreed(NamedTuple):
    """What counts.

    Attributes:
        route: of all together; its `allow` is that of the newest, see `allow`.
        allow: networks whose clients may; None: all; empty: none.
        notes: what they disagree about, as sentences.
    """

    route: Route
    allow: frozenset[str] | None
    notes: tuple[str, ...] = ()


def agree(asked: Sequence[Asked], beside: Sequence[Asked] = ()) -> Agreed:
    """Join the wishes of a place's endpoints.

    Args:
        asked: of those that are published, at least one.
        beside: of the others, which count only in what protects.

    Cost: a comparison each when all are equal.
    """
    first = asked[0].route
    everybody = (*asked, *beside)
    if all(one.route == first for one in everybody):
        allow = (first.options or NOTHING).allow
        return Agreed(first, frozenset(allow) if allow else None)
    newest = _newest(asked)
    over = secured(asked, beside)
    wishes = [one.route.options or NOTHING for one in everybody]
    options = msgspec.structs.replace(
        newest.route.options or NOTHING,
        auth=_auth(asked) or _auth(beside),
        rate=_rate(wish.rate for wish in wishes),
    )
    route = msgspec.structs.replace(newest.route, options=options)
    if over is not None:
        route = msgspec.structs.replace(route, scheme="https", cert=over.cert, hsts=over.hsts, http=over.http)
    lists = [wish.allow for wish in wishes if wish.allow]
    return Agreed(route, intersection(lists) if lists else None, tuple(_notes(asked, everybody)))


def secured(asked: Iterable[Asked], beside: Iterable[Asked] = ()) -> Route | None:
    """The route of the newest of those that ask for https, as strict about http as any of them or of the others.

    None: nobody of them asks for it.
    """
    found = _over_tls(asked)
    if not found:
        return None
    strictest = max((one.route.http for one in (*found, *_over_tls(beside))), key=STRICTER.index)
    newest = _newest(found).route
    return newest if newest.http == strictest else msgspec.structs.replace(newest, http=strictest)


def _over_tls(asked: Iterable[Asked]) -> list[Asked]:
    return [one for one in asked if one.route.scheme == "https"]


def _newest(asked: Sequence[Asked]) -> Asked:
    return max(asked, key=lambda one: (one.started, one.id))


def _notes(asked: Sequence[Asked], everybody: Sequence[Asked]) -> list[str]:
    notes = []
    for field, tag in (*NEWEST.items(), *OF_HTTPS.items(), *GUARDS.items()):
        among = everybody if field in GUARDS else asked
        among = _over_tls(among) if field in {"http", *OF_HTTPS} else among
        if len({_said(one.route, field) for one in among}) > 1:
            counts = "what protects most counts" if field in GUARDS else f"{_newest(among).id}, the newest, counts"
            notes.append(f"its containers disagree about {tag}: {counts}")
    return notes


def _said(route: Route, field: str) -> object:
    return getattr(route if hasattr(route, field) else route.options or NOTHING, field)


def _auth(asked: Sequence[Asked]) -> str:
    closed = [one for one in asked if one.route.options and one.route.options.auth]
    last = max(closed, key=lambda one: (one.started, one.id), default=None)
    return last.route.options.auth if last and last.route.options else ""


def _rate(rates: Iterable[Rate | None]) -> Rate | None:
    known = [one for one in rates if one is not None]
    if not known:
        return None
    slowest = min(known, key=lambda one: (one.a_minute, one.burst))
    connections = [one.connections for one in known if one.connections]
    return msgspec.structs.replace(slowest, connections=min(connections, default=0))


def intersection(lists: Sequence[Sequence[str]]) -> frozenset[str]:
    """Addresses that are in every list: networks nest or are apart, so this is a list of networks too.

    >>> sorted(intersection([("10.0.0.0/8", "fd00::/8"), ("10.1.0.0/16", "192.168.0.0/16")]))
    ['10.1.0.0/16']
    """
    found = [ipaddress.ip_network(one) for one in lists[0]]
    for others in {tuple(sorted(one)) for one in lists[1:]}:
        beside = [ipaddress.ip_network(one) for one in others]
        found = list({both for one in found for other in beside if (both := _both(one, other))})
    return frozenset(map(str, found))


def _both(one: Net, other: Net) -> Net | None:
    if one.version != other.version or not one.overlaps(other):
        return None
    return one if one.prefixlen >= other.prefixlen else other
