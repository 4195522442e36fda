"""What a container should publish: its record, and for every port left out the rule and the reason.

Pure, and the one place where facts, tags, addresses and names come together. `wanted` never raises: what is bad is
refused at its own port or tag, the others go on. An untagged port keeps its place in the record without names and
without a route (`dns=()`), so that it is listed under /reg/all and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

from pilotfish.catalog.record import (
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    MAX_ENDPOINTS,
    MAX_TEXT,
    NO_DRAIN_S,
    Container,
    Endpoint,
    Protocol,
)
from pilotfish.catalog.values import NAME, BadValue, is_reserved, parse_ip, quoted
from registrator.engines.swarm import TASK
from registrator.rules import candidates, filters, naming, routes, tags, virtual
from registrator.rules.address import Ask, BadNetwork, FactsOf, Host, Reach, reach
from registrator.rules.container import Facts, PortSpec
from registrator.rules.ids import ids_of
from registrator.rules.naming import Naming
from registrator.rules.probe import Choice, chosen
from registrator.rules.routes import Proxied
from registrator.rules.tags import PortTags
from registrator.settings import RegistratorSettings


class LeftOut(NamedTuple):
    """A port that is not published.

    Attributes:
        port: as Docker writes it: `443/tcp`.
        rule: the one word for it: one of `RULES`.
        reason: in words, with what to do about it.
    """

    port: str
    rule: str
    reason: str


RULES = (
    "filter",
    "protocol",
    "unreadable",
    "ignored",
    "tag",
    "explicit",
    "unpublished",
    "address",
    "name",
    "id",
    "too-many",
    "swarm",
)


class Wanted(NamedTuple):
    """What a container should publish.

    Attributes:
        container: its record; every endpoint `starting`, no exports yet, observed when it was started.
        left_out: sorted by port.
        notices: about tags and addresses, each once.
        checks: what CHECK_* and HEALTH ask for, by port; of a port that is not in it, nothing.
    """

    container: Container
    left_out: tuple[LeftOut, ...]
    notices: tuple[str, ...]
    checks: Mapping[tuple[int, str], Choice] = MappingProxyType({})


class _Port(NamedTuple):
    """A port on its way into the record."""

    tags: PortTags
    reach: Reach

    @property
    def spec(self) -> PortSpec:
        return self.tags.port


class Basis(NamedTuple):
    """What an endpoint was decided from.

    Attributes:
        tags: of its port.
        reach: where it is reached, and by which rule.
        several: its container has several published ports.
        labelled: addresses that --use-ip-from-label found.
    """

    tags: PortTags
    reach: Reach
    several: bool
    labelled: tuple[str, ...]


class _Named(NamedTuple):
    """A port with everything but its id."""

    port: _Port
    service: str
    proxied: Proxied


def wanted(facts: Facts, host: Host, settings: RegistratorSettings, facts_of: FactsOf) -> Wanted:
    """Decide what one container publishes.

    Args:
        facts: of the container; whether it runs is not asked.
        host: that it runs on.
        settings: flags that decide names and addresses.
        facts_of: id or name -> facts of the others, for a container that shares the network of one.

    Never raises.
    """
    return explained(facts, host, settings, facts_of)[0]


def explained(
    facts: Facts, host: Host, settings: RegistratorSettings, facts_of: FactsOf
) -> tuple[Wanted, dict[PortSpec, Basis]]:
    """As `wanted`, with what each port that is not left out was decided from."""
    work = _Work(facts, host, settings, facts_of)
    ports = work.eligible()
    named = work.named(ports)
    endpoints, choices = work.endpoints(named), work.choices(named)
    record = Container(
        node=host.node,
        id=facts.id,
        name=facts.name,
        image=facts.image[:MAX_TEXT],
        started=facts.started,
        observed=facts.started,
        endpoints=endpoints,
        project=facts.project[:MAX_TEXT],
        compose_service=facts.compose_service[:MAX_TEXT],
        hostname="" if facts.id.startswith(facts.hostname) else facts.hostname[:MAX_TEXT],
    )
    decided = Wanted(record, work.left_out(), tuple(dict.fromkeys(work.notices)), choices)
    return decided, {port.spec: Basis(port.tags, port.reach, work.several, work.labelled) for port in ports}


class _Work:
    """One decision: the steps from ports to endpoints, each leaving some out with its reason."""

    def __init__(self, facts: Facts, host: Host, settings: RegistratorSettings, facts_of: FactsOf) -> None:
        self.facts = facts
        self.host = host
        self.settings = settings
        self.facts_of = facts_of
        own, on = tags.read(facts), settings.virtual_host == "on"
        self.tags, self.remarks = virtual.beneath(facts, own, settings.reserved) if on else virtual.Virtual(own)
        self.notices: list[str] = []
        self.several = False
        self.labelled: tuple[str, ...] = ()
        self._left: dict[PortSpec, LeftOut] = {}
        self._odd: list[LeftOut] = []  # what is no port, and has no place among them

    def leave(self, port: PortSpec, rule: str, reason: str) -> None:
        self._left[port] = LeftOut(str(port), rule, reason)

    def left_out(self) -> tuple[LeftOut, ...]:
        return (*(left for _, left in sorted(self._left.items())), *self._odd)

    def eligible(self) -> list[_Port]:
        """Ports that no tag or rule of addresses leaves out, but for those that only a route would bring in."""
        specs = candidates.ports(self.facts, self.tags)
        if self.host.swarm and TASK in self.facts.labels:
            for spec in specs:
                self.leave(spec, "swarm", "a task of a swarm: it is registered once, under another node")
            return []
        if not specs and not self.facts.unreadable:
            self.notices.append("no port is exposed, published or named by a tag")
        if why := filters.left_out(self.facts, self.settings.only, self.settings.ignore):
            for spec in specs:
                self.leave(spec, "filter", why)
            self.notices += [] if specs else [why]
            return []
        self.notices += self.remarks
        self.notices += tags.strays(self.tags, frozenset(spec.port for spec in specs))
        self.labelled = self._fixed()
        unreadable = {one.port: one.why for one in self.facts.unreadable}
        for spec in specs:
            if why := unreadable.pop(str(spec), ""):
                self.leave(spec, "unreadable", why)
        self._odd = [LeftOut(text, "unreadable", why) for text, why in unreadable.items()]
        seen = [port for spec in specs if spec not in self._left and (port := self._look(spec))]
        # Ports that a tag or their protocol leaves out count too: leaving one out does not rename the others.
        everything = self.settings.internal or self.facts.network_mode == "host"
        aside = [spec for spec in specs if spec in self._left and (everything or spec in self.facts.bindings)]
        self.several = len(aside) + len(self._odd) * everything + sum(port.reach.published for port in seen) > 1
        return [port for port in seen if self._stays(port)]

    def _look(self, spec: PortSpec) -> _Port | None:
        if spec.protocol not in {"tcp", "udp"}:
            self.leave(spec, "protocol", f"{spec.protocol} is not supported: tcp and udp are")
            return None
        read = tags.of_port(self.tags, spec, keep_all=bool(self.settings.etcd_tmpl))
        ask = Ask(
            internal=bool(read.values.get("internal", self.settings.internal)),
            routable=bool(read.values.get("routable", False)),
            network=cast("str", read.values.get("network", "")),
            networks=self.settings.network,
            fixed=cast("tuple[str, ...]", read.values.get("ip", self.labelled)),
            host_ip=self.settings.ip,
        )
        try:
            return _Port(read, reach(spec, self.facts, self.host, ask, self.facts_of))
        except BadNetwork as error:
            self.notices += read.wrong()
            self.leave(spec, "tag", f"{read.raw['network'].name}: {error}; the port is left out")
            return None

    def _fixed(self) -> tuple[str, ...]:
        """The address that --use-ip-from-label finds, if any."""
        label = self.settings.use_ip_from_label
        if not label:
            return ()
        text = self.facts.labels.get(label, "")
        if not text:
            self.notices.append(f"label {quoted(label)} is missing: --use-ip-from-label has no effect")
            return ()
        try:
            return (parse_ip(text.rpartition("/")[0] or text),)
        except BadValue as error:
            self.notices.append(f"label {quoted(label)}: {error}; --use-ip-from-label has no effect")
            return ()

    def _stays(self, port: _Port) -> bool:
        read = port.tags
        if read.values.get("ignore"):
            tag = read.raw["ignore"]
            self.leave(port.spec, "ignored", f"{tag.name}={quoted(tag.value)} ({tag.source}) says so")
        elif refused := read.costs("port"):
            self.notices += [why for why in read.wrong() if why != refused]
            self.leave(port.spec, "tag", refused)
        elif self.settings.explicit and "name" not in read.values:
            self.leave(port.spec, "explicit", "no NAME tag names it, and --explicit asks for one")
        elif not port.reach.published and "proxy" not in read.values:
            self.leave(port.spec, "unpublished", candidates.unpublished(self.facts, port.spec))
        elif not port.reach.addresses:
            self.leave(port.spec, "address", port.reach.problem or "it has no address: the container is on no network")
        else:
            return True
        return False

    def named(self, ports: list[_Port]) -> list[_Named]:
        """Give names and routes; what is neither published nor proxied after all is left out."""
        meant = [port.tags for port in ports if port.reach.published] or [port.tags for port in ports]
        unproxied, notices = routes.unproxied([port.tags for port in ports], meant)
        self.notices += notices
        found = []
        for port in ports:
            self.notices += port.tags.notices
            service = self._service(port)
            if not service:
                continue
            proxied = self._proxied(port, service, meant=port.spec not in unproxied)
            if self._reachable(port, proxied):
                found.append(_Named(port, service, proxied))
        return self._not_too_many(found)

    def _service(self, port: _Port) -> str:
        """The name of the endpoint; empty after it was left out."""
        read = port.tags
        explicit = "name" in read.values
        how = Naming(explicit, read.own("name"), self.several)
        default = naming.default_of(self.facts)
        name = cast("str", read.values.get("name", "")) or default.name
        if name and naming.SUFFIX[self.settings.name_suffix](how):
            name = naming.with_suffix(name, port.spec, compose=not explicit and default.rule == "compose")
        if NAME.pattern.match(name) and len(name) <= NAME.longest:
            return name
        reason = (
            f"{quoted(name)} is no name: {NAME.allowed}; name it with SERVICE_NAME or SERVICE_{port.spec.port}_NAME"
        )
        self.leave(port.spec, "name", reason)
        return ""

    def _proxied(self, port: _Port, service: str, *, meant: bool) -> Proxied:
        if not meant:
            own = port.tags.own("proxy")  # of its number, for the other protocol: what goes with it is not for this one
            return Proxied(None, () if own else cast("tuple[str, ...]", port.tags.values.get("proxydns", ())))
        settings = self.settings
        found = routes.proxied(port.tags, service, settings.reserved)
        self.notices += found.notices
        return found

    def _reachable(self, port: _Port, proxied: Proxied) -> bool:
        """False after it was left out: nobody could reach it."""
        if any(address.scope == "lan" for address in port.reach.addresses):
            return True
        if proxied.route:
            why = port.reach.problem or "not published"
            self.notices.append(f"{port.spec}: only the proxy on this host reaches it: {why}")
        elif not port.reach.published:
            self.leave(port.spec, "unpublished", candidates.unpublished(self.facts, port.spec))
        elif port.reach.problem:
            self.leave(port.spec, "address", port.reach.problem)
        else:
            self.notices.append(f"{port.spec}: bound to an address of this host only: no other host is told of it")
        return port.spec not in self._left

    def _not_too_many(self, ports: list[_Named]) -> list[_Named]:
        """At most 64 ports; if there are more, those that tags name."""
        if len(ports) <= MAX_ENDPOINTS:
            return ports
        chosen = [one for one in ports if any(tag.own for tag in one.port.tags.raw.values())]
        kept = chosen if len(chosen) <= MAX_ENDPOINTS else []
        reason = f"{len(ports)} ports are eligible, {MAX_ENDPOINTS} are the most: choose some by SERVICE_<port>_ tags"
        for one in ports:
            if one not in kept:
                self.leave(one.port.spec, "too-many", reason)
        return kept

    def endpoints(self, ports: list[_Named]) -> tuple[Endpoint, ...]:
        """The endpoints, sorted by port and protocol, each with an id and a label of its own."""
        found = ids_of(self.host.node, self.facts, [one.port.tags for one in ports])
        self.notices += found.notices
        for spec, reason in found.left_out.items():
            self.leave(spec, "id", reason)
        return tuple(self._endpoint(one, found.ids[one.port.spec]) for one in ports if one.port.spec in found.ids)

    def choices(self, ports: list[_Named]) -> dict[tuple[int, str], Choice]:
        """How each port is checked."""
        found = {}
        for one in ports:
            read, spec = one.port.tags, one.port.spec
            found[(spec.port, spec.protocol)] = chosen(
                read.values, read.own, spec.protocol, scripts=bool(self.settings.check_dir)
            )
            self.notices += [f"{spec}: {notice}" for notice in found[(spec.port, spec.protocol)].notices]
        return found

    def _endpoint(self, one: _Named, endpoint_id: str) -> Endpoint:
        read, given = one.port.tags, one.port.tags.values
        dns = self._dns(one.service, read)
        both = sorted({name.lower() for name in dns or ()} & {name.lower() for name in one.proxied.names})
        if both:
            self.notices.append(f"{one.port.spec}: both DNS and PROXYDNS name {', '.join(both)}: the proxies win")
        return Endpoint(
            service=one.service,
            id=endpoint_id,
            label=naming.label_of(endpoint_id),
            port=one.port.spec.port,
            protocol=cast("Protocol", one.port.spec.protocol),
            addresses=one.port.reach.addresses,
            dns=dns,
            proxydns=one.proxied.names,
            route=one.proxied.route,
            version=cast("str", given.get("version", "")),
            tags=_all_tags(read, self.settings.tags),
            attrs=read.attrs,
            weight=cast("int", given.get("weight", DEFAULT_WEIGHT)),
            priority=cast("int", given.get("priority", DEFAULT_PRIORITY)),
            ttl=cast("int", given.get("ttl", 0)),
            drain_s=cast("float", given.get("drain", NO_DRAIN_S)),
        )

    def _dns(self, service: str, read: PortTags) -> tuple[str, ...] | None:
        if "dns" in read.values:
            return cast("tuple[str, ...]", read.values["dns"])
        if read.costs("names") or self.settings.explicit_dns or self.settings.etcd_tmpl:
            return ()
        if not read.raw and not self.settings.publish_untagged:
            self.notices.append(f"{read.port}: no SERVICE_ tag applies to it: listed under /reg/all only")
            return ()
        if is_reserved(service):
            self.notices.append(
                f"{quoted(service)} is a reserved name, which is not answered for: name it by a DNS tag"
            )
            return ()
        return None


def _all_tags(read: PortTags, everywhere: tuple[str, ...]) -> tuple[str, ...]:
    """TAGS in the order given, then those of --tags, then `udp`; each once."""
    own = cast("tuple[str, ...]", read.values.get("tags", ()))
    return tuple(dict.fromkeys([*own, *everywhere, *(["udp"] if read.port.protocol == "udp" else [])]))
