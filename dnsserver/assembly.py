"""The pure parts of the server, made from its settings and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dnsserver import zone
from dnsserver.access import LOOPBACK, Clients, is_here_only
from dnsserver.aging import Clock
from dnsserver.cookies import Cookies
from dnsserver.foreign import Foreign
from dnsserver.forward_cache import ForwardCache
from dnsserver.forward_loop import LoopProbes
from dnsserver.guests import Guests, Policy
from dnsserver.own import OwnNames
from dnsserver.rate import Limiter
from dnsserver.recursion import Recursion
from dnsserver.responder import Responder
from dnsserver.settings import DNS_PORT, PRIVATE, DnsSettings
from dnsserver.zone import Zone


class Here(NamedTuple):
    """What the process knows of itself and its host.

    Attributes:
        clock: the time.
        secret: 16 octets that cookies are made from.
        bridged: it is in a container with a network of its own.
        served_at: addresses at which other hosts find it on port 53.
        version: what it is.
        idle_ms: how long a TCP connection may be silent now.
    """

    clock: Clock
    secret: bytes
    bridged: bool = False
    served_at: tuple[str, ...] = ()
    version: str = ""
    idle_ms: Callable[[], int] = lambda: 10_000


def responder(settings: DnsSettings, here: Here, cache: ForwardCache, probes: LoopProbes) -> Responder:
    """What answers messages.

    Args:
        settings: what was set.
        here: see Here.
        cache: what other name servers said.
        probes: names by which it is found out that we ask ourselves.
    """
    domains = [zone.domain(text) for text in settings.domain]
    own = OwnNames(domains, settings.proxy_name, here.served_at, settings.node_name)
    names = Zone(domains, own, Foreign(settings.skydns_prefix, settings.ttl))
    recursion = Recursion(cache, probes, here.clock, ndots=settings.ndots, servers=bool(settings.forward))
    return Responder(names, settings.negative_ttl, _guests(settings, here, names), recursion)


def _guests(settings: DnsSettings, here: Here, names: Zone) -> Guests:
    policy = Policy(
        recursive=Clients(settings.recursion or (LOOPBACK if here.bridged else (PRIVATE,))),
        transfers=Clients(settings.transfer),
        identity=settings.node_name,
        version=here.version if settings.version_shown else "",
        turning=not settings.fixed_order,
        domains=frozenset(domain.name for domain in names.domains),
    )
    limiter = Limiter(settings.rate_limit) if settings.rate_limit else None
    return Guests(policy, Cookies(here.secret), limiter, clock=here.clock, idle_ms=here.idle_ms)


def served_at(named: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Addresses at which other hosts find us on the port that a name server is looked for: those that were named.

    All addresses of a host are no such list: its bridges have the same ones on every host.
    """
    return tuple(ip for ip, port in named if port == DNS_PORT and not is_here_only(ip))
