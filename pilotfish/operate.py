"""What operators ask for: whom a word means, what may be taken out, when it is safe, who waits for a route.

Pure: the catalog in, decisions out. The commands (`operate_cli`) reach the store through `io_operate`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from dnsserver.own.names import ENDPOINT_TTL, PROXY_TTL
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.record import Container, Drain, Endpoint, Proxy
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.values import quoted
from pilotfish.catalog.verdict import How, Placed, called, judge, names_of, situation
from pilotfish.catalog.wishes import Kind, Subject, Wishes, subject_of, subjects

HEARD_S = 2.0  # within which a DNS server hears of a wish; its watch brings it in milliseconds
PROXY_OUT_S = 60.0  # what a client may keep the address of a proxy, whatever the TTL said: resolvers and runtimes do
SHOWN = 8  # candidates that an error lists


class NotMeant(CannotStart):
    """A word means nothing, or several things; the message lists what it could mean."""


class Refused(CannotStart):
    """What was asked for would hurt; the message says whom, and how to insist."""


# --- whom a word means


def find(registry: Registry, text: str, *, force: bool = False) -> Subject:
    """The node, service or container that an operator means.

    Args:
        registry: the catalog.
        text: a node, a service, the name of a container or the beginning of its id; `node:`, `service:` or
            `container:` in front says which.
        force: what is said in full may be of a host that is away, and known to nobody here.

    Raises:
        NotMeant: nothing is called so, or several things are.
    """
    asked = subject_of(text)
    word = asked.name if asked else text
    found = _called(registry, word)
    if asked:
        found = {one: said for one, said in found.items() if one.kind is asked.kind}
    hosts = registry.away
    if not found and asked and asked.kind is Kind.SERVICE and force and hosts:
        return asked
    return _only(text, found, _words(registry), aside=_of_hosts_away(hosts))


def _of_hosts_away(hosts: Sequence[str]) -> str:
    if not hosts:
        return ""
    return f" (the registrator of {listed(hosts)} is away: what runs there is taken as service:NAME with --force)"


def find_drained(registry: Registry, text: str) -> Subject:
    """The drain that an operator means: as `find`, but among what is drained, be it there or gone.

    Raises:
        NotMeant: nothing drained is called so, or several things are.
    """
    drains, asked = registry.wishes.drains, subject_of(text)
    word = asked.name if asked else text
    named = _called(registry, word)
    found = {
        one: _choice(registry, one)
        for one in drains
        if (asked is None or asked.kind is one.kind) and (one in named or _is_named(one, word))
    }
    if not found and not drains:
        raise NotMeant(f"{quoted(text)} is not drained: nothing is")
    return _only(text, found, sorted(_choice(registry, one) for one in drains), "is not drained")


def _is_named(subject: Subject, word: str) -> bool:
    if subject.kind is Kind.CONTAINER:
        return bool(word) and subject.name.startswith(word.lower())
    return subject.name.lower() == word.lower()


def _called(registry: Registry, word: str) -> dict[Subject, str]:
    """Everything that a word may mean, each with words for an operator."""
    found: dict[Subject, str] = {}
    for node in _nodes(registry):
        if node == word:
            found[Subject(Kind.NODE, node)] = f"node:{node}"
    if registry.service(word):
        found[Subject(Kind.SERVICE, word.lower())] = f"service:{word.lower()}"
    for container in registry.containers.values():
        if container.name == word or (word and container.id.startswith(word.lower())):
            subject = Subject(Kind.CONTAINER, container.id)
            found[subject] = _choice(registry, subject)
    return found


def _container(registry: Registry, subject: Subject) -> Container | None:
    if subject.kind is not Kind.CONTAINER:
        return None
    return next((one for one in registry.containers.values() if one.id == subject.name), None)


def _choice(registry: Registry, subject: Subject) -> str:
    """A subject as it can be typed; of a container, with its name."""
    if subject.kind is not Kind.CONTAINER:
        return str(subject)
    container = _container(registry, subject)
    known = f" ({container.name} on {container.node})" if container else ""
    return f"container:{subject.name[:12]}{known}"


def shown(registry: Registry, subject: Subject) -> str:
    """A subject in messages: `node:h1`, `service:web`; a container as people know it, by its id when it is gone."""
    container = _container(registry, subject)
    return called(container) if container else _choice(registry, subject)


def _nodes(registry: Registry) -> set[str]:
    return {*registry.nodes, *registry.proxies, *registry.away, *(key.node for key in registry.containers)}


def _words(registry: Registry) -> list[str]:
    names = {container.name for container in registry.containers.values()}
    return sorted({*_nodes(registry), *registry.services(), *names})


def _only(
    text: str, found: Mapping[Subject, str], words: Sequence[str], why: str = "is nothing registered", aside: str = ""
) -> Subject:
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise NotMeant(f"{quoted(text)} is several things; say which: {listed(sorted(found.values()))}")
    near = difflib.get_close_matches(text.rpartition(":")[2], words, SHOWN, 0.6) or words
    raise NotMeant(f"{quoted(text)} {why}; there is {listed(near)}{aside}")


def listed(words: Sequence[str]) -> str:
    """The first of some words, and how many more there are."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more if words else "nothing"


# --- what may be taken out


def refuse_emptying(registry: Registry, subject: Subject, proxy_name: str) -> None:
    """A node is not drained while a service lives on it alone, or its proxy is the last one in DNS.

    The answer is the same whether the wish stands already or not: two operators who drain two nodes at once both find
    out afterwards.

    Raises:
        Refused: naming the services.
    """
    if subject.kind is not Kind.NODE:
        return
    if subject.name in registry.away:
        raise Refused(
            f"node {subject.name} is not drained: its registrator is away, so it is not known which services live there"
            " alone; start it again, or insist with --force"
        )
    emptied = empties(registry, subject)
    if emptied:
        raise Refused(
            f"node {subject.name} is not drained: nothing would be left of {listed(emptied)}; start more elsewhere,"
            " or insist with --force"
        )
    if subject.name in _proxy_nodes(registry, proxy_name) and not _proxies_left(registry, subject, proxy_name):
        raise Refused(
            f"node {subject.name} is not drained: it has the only proxy, and names would go on leading to it; start one"
            " elsewhere, or insist with --force"
        )


def _is_proxy(endpoint: Endpoint, proxy_name: str) -> bool:
    return names_of(endpoint).get(proxy_name.lower()) is How.TAGGED


def _proxy_nodes(registry: Registry, proxy_name: str) -> set[str]:
    """Hosts whose address stands for the proxies in DNS, or would, were it not drained."""
    standing = registry.standing(proxy_name)
    return {*registry.proxies, *(placed.node for how, placed in standing if how is How.TAGGED)}


def _proxies_left(registry: Registry, subject: Subject, proxy_name: str) -> bool:
    drained = {one.name for one in registry.wishes.drains if one.kind is Kind.NODE} | {subject.name}
    return not drained.issuperset(_proxy_nodes(registry, proxy_name))


def empties(registry: Registry, subject: Subject) -> tuple[str, ...]:
    """Services, sorted, that are served without the drain of a subject and are not with it."""
    without, taken = Wishes(), Wishes()
    without.shifts = taken.shifts = registry.wishes.shifts
    without.drains = {one: drain for one, drain in registry.wishes.drains.items() if one != subject}
    taken.drains = {**without.drains, subject: Drain(since=0.0)}
    services = {endpoint.service.lower() for _, endpoint in members(registry, subject)}
    return tuple(
        one for one in sorted(services) if _is_served(registry, one, without) and not _is_served(registry, one, taken)
    )


def _is_served(registry: Registry, service: str, wishes: Wishes) -> bool:
    held = [(placed.container, placed.endpoint) for placed in registry.service(service)]
    around = situation(held, service, wishes)
    return any(judge(container, endpoint, around).published for container, endpoint in held)


def members(registry: Registry, subject: Subject) -> list[tuple[Container, Endpoint]]:
    """The endpoints that a drain of a subject takes out."""
    return [
        (container, endpoint)
        for container in registry.containers.values()
        for endpoint in container.endpoints
        if subject in subjects(container.node, container.id, endpoint.service.lower())
    ]


# --- what is said of it


def taken_out(registry: Registry, subject: Subject) -> str:
    """What a drain does, in one line: whom it takes out, and of which services nothing is left."""
    emptied = empties(registry, subject) if subject.kind is not Kind.SERVICE else ()
    left = f"; nothing is served of {listed(emptied)} any more" if emptied else ""
    return f"{shown(registry, subject)} is drained: no new requests are sent there{left}"


def brought_back(registry: Registry, subject: Subject) -> str:
    """What taking a drain back has brought, in one line.

    Args:
        registry: the catalog, read when everybody knows that the drain is gone.
        subject: whose it was.

    Raises:
        CannotStart: nothing of it is served all the same; the message says why.
    """
    said = shown(registry, subject)
    placed = _placed(registry, subject)
    out = sorted({ascii(one.verdict.reason)[1:-1] for one in placed if not one.verdict.published})
    if not placed and subject.kind is not Kind.NODE:  # a node may have but its proxy
        return f"{said} has no endpoint that is registered"
    if placed and not any(one.verdict.published for one in placed):
        raise CannotStart(f"{said} is not drained any more, and still out: {listed(out)}")
    but = f"; some of it is still out: {listed(out)}" if out else ""
    return f"{said} is back: all proxies and DNS servers know it{but}"


def _placed(registry: Registry, subject: Subject) -> list[Placed]:
    services = {endpoint.service.lower() for _, endpoint in members(registry, subject)}
    return [
        placed
        for service in sorted(services)
        for placed in registry.service(service)
        if subject in subjects(placed.node, placed.container.id, service)
    ]


# --- when it is safe


class Costs(NamedTuple):
    """How long something takes after the wish: seconds.

    Attributes:
        dns_s: until no DNS client holds an answer from before.
        drain_s: what applications ask for after that, to finish (DRAIN tag).
    """

    dns_s: float
    drain_s: float = 0.0


def costs(registry: Registry, subject: Subject, proxy_name: str) -> Costs:
    """What taking a subject out costs; arguments as `refuse_emptying` has them."""
    endpoints = [endpoint for _, endpoint in members(registry, subject)]
    ttl = max((endpoint.ttl or ENDPOINT_TTL for endpoint in endpoints), default=0)
    dns_s = ttl + HEARD_S if endpoints else 0.0
    if _has_proxy(registry, subject, endpoints, proxy_name):
        dns_s = max(dns_s, PROXY_OUT_S)
    return Costs(dns_s, max((endpoint.drain_s for endpoint in endpoints), default=0.0))


def costs_back(registry: Registry, subject: Subject, proxy_name: str) -> Costs:
    """What bringing a subject back costs: until answers from before, which lack it, have run out by their TTL."""
    endpoints = [endpoint for _, endpoint in members(registry, subject)]
    ttls = [endpoint.ttl or ENDPOINT_TTL for endpoint in endpoints]
    if _has_proxy(registry, subject, endpoints, proxy_name):
        ttls.append(PROXY_TTL)
    return Costs(max(ttls) + HEARD_S if ttls else 0.0)


def _has_proxy(registry: Registry, subject: Subject, endpoints: Iterable[Endpoint], proxy_name: str) -> bool:
    own = subject.kind is Kind.NODE and subject.name in registry.proxies
    return own or any(_is_proxy(endpoint, proxy_name) for endpoint in endpoints)


class Wait(msgspec.Struct):
    """Waits until a wish has come about everywhere.

    Attributes:
        revision: of the store, that brought the wish.
        put_at: monotonic time in seconds at which that was.
        costs: what follows.
        applied_at: when all proxies were seen to have applied it; None: they have not.
    """

    revision: int
    put_at: float
    costs: Costs
    applied_at: float | None = None

    def missing(self, proxies: Iterable[Proxy], now: float) -> tuple[str, ...]:
        """What is still missing, each as words; nothing: it is safe.

        Args:
            proxies: all that live, as they are now.
            now: monotonic time in seconds.
        """
        behind = sorted(one.node for one in proxies if one.revision < self.revision)
        if behind:
            self.applied_at = None
            return tuple(f"the proxy on {node} has not applied it" for node in behind)
        if self.applied_at is None:
            self.applied_at = now
        out_at = max(self.applied_at, self.put_at + self.costs.dns_s)
        if now < out_at:
            return (f"DNS answers from before run out in {_seconds(out_at - now)}",)
        if now < out_at + self.costs.drain_s:
            return (f"the applications finish for another {_seconds(out_at + self.costs.drain_s - now)} (DRAIN)",)
        return ()


def _seconds(left_s: float) -> str:
    return f"{max(1, round(left_s))} s"
