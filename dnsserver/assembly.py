"""The pure parts of the server, made from its settings and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from dnsserver import zone
from dnsserver.access import LOOPBACK, Clients, is_here_only
from dnsserver.aging import Clock
from dnsserver.answer import ALONE, FOLLOWED, Authority
from dnsserver.cookies import Cookies
from dnsserver.forwarding.cache import ForwardCache
from dnsserver.forwarding.loop import LoopProbes
from dnsserver.forwarding.recursion import Recursion
from dnsserver.guests import Guests, Policy
from dnsserver.message import dname
from dnsserver.own.index import OwnNames
from dnsserver.rate import Limiter
from dnsserver.responder import Responder
from dnsserver.settings import DNS_PORT, PRIVATE, DnsSettings
from dnsserver.skydns.foreign import Foreign
from dnsserver.skydns.record import DEFAULT_PRIORITY
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
    limiter = Limiter(settings.rate_limit) if settings.rate_limit else None
    guests = Guests(policy(settings, here), Cookies(here.secret), limiter, clock=here.clock, idle_ms=here.idle_ms)
    recursion = Recursion(cache, probes, here.clock, ndots=settings.ndots, servers=bool(settings.forward))
    made = Responder(names(settings, here), settings.negative_ttl, guests, recursion)
    made.set_authority(authority(settings))
    return made


def names(settings: DnsSettings, here: Here, priority: int = DEFAULT_PRIORITY) -> Zone:
    """What is answered from, still empty."""
    domains = [zone.domain(text) for text in settings.domain]
    own = OwnNames(domains, settings.proxy_name, here.served_at, settings.node_name)
    foreign = Foreign(settings.skydns_prefix, settings.ttl, priority, exact=settings.exact)
    return Zone(domains, own, foreign, local(settings))


def local(settings: DnsSettings) -> bytes:
    """The name that local.dns stands for; empty: none."""
    return dname.from_text(settings.local) if settings.local else b""


def authority(settings: DnsSettings) -> Authority:
    """What SOA records say besides the serial."""
    mailbox = dname.mailbox(settings.hostmaster) if settings.hostmaster else b""
    return Authority(0, settings.negative_ttl, mailbox, FOLLOWED if settings.transfer else ALONE)


def policy(settings: DnsSettings, here: Here) -> Policy:
    """What is done for whom."""
    return Policy(
        recursive=Clients(settings.recursion or (LOOPBACK if here.bridged else (PRIVATE,))),
        transfers=Clients(settings.transfer),
        identity=settings.node_name,
        version=here.version if settings.version_shown else "",
        turning=not settings.fixed_order,
        domains=frozenset(zone.domain(text).name for text in settings.domain),
    )


def retune(made: Responder, settings: DnsSettings, here: Here, priority: int) -> None:
    """Let settings that came while running count; the zone must be one of their domains, see `names`."""
    made.zone.foreign.ttl, made.zone.foreign.priority = settings.ttl, priority
    made.zone.set_local(local(settings))
    made.set_policy(policy(settings, here), ndots=settings.ndots, servers=bool(settings.forward))
    made.set_authority(authority(settings))


def served_at(named: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """Addresses at which other hosts find us on the port that a name server is looked for: those that were named.

    All addresses of a host are no such list: its bridges have the same ones on every host.
    """
    return tuple(ip for ip, port in named if port == DNS_PORT and not is_here_only(ip))
