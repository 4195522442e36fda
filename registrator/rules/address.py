"""Where a port can be reached, and by whom.

An address is `lan` when other hosts reach it: published on the host's address, on the host's network, a fixed or a
routable one, or the container's own where the admin says `internal`. It is `node` when only its own host does: the
container's on a bridge, a port bound to 127.0.0.1 or to the bridge itself (every host has a 172.17.0.0/16). The host's
address is `--ip`, else the binding's, else what the host knows of itself. Nothing is guessed: without an address there
is a sentence that says what to do, and no unspecified, loopback or link-local address is ever `lan`.
Pure; the facts of a container whose network is shared come through a callable.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import msgspec

from pilotfish.catalog.record import Address
from pilotfish.catalog.values import is_ip, quoted
from registrator.rules.container import Binding, Facts, Network, PortSpec

FactsOf: TypeAlias = Callable[[str], Facts | None]

MAX_SHARING = 8  # containers that share one network through each other; the engine allows one step
_SHARES = "container:"


class Host(msgspec.Struct, frozen=True):
    """What the registrator knows of the host that it registers for.

    Attributes:
        node: its name.
        addresses: where other hosts reach it, preferred first; empty: not known.
        local: this process runs on it, and reaches what only the host itself does.
        swarm: tasks of its engine's swarm are registered under the swarm's own node.
    """

    node: str
    addresses: tuple[str, ...] = ()
    local: bool = True
    swarm: bool = False


class Ask(NamedTuple):
    """What settings and tags say about the address of a port.

    Attributes:
        internal: the container's address and port instead of the published ones.
        routable: the container's network is routed between hosts.
        network: name or CIDR of the container's network to use, from a tag.
        networks: the same from `--network`: the first that the container is on counts, where no tag names one.
        fixed: addresses that stand for the host's or the container's.
        host_ip: `--ip`: addresses of the host, over those of the bindings.
    """

    internal: bool = False
    routable: bool = False
    network: str = ""
    networks: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    host_ip: tuple[str, ...] = ()


class Reach(NamedTuple):
    """Where a port is reached.

    Attributes:
        published: other hosts were meant to reach it: published, on the host's network, routable or internal.
        addresses: `lan` before `node`, IPv4 before IPv6, preferred first; each address once.
        problem: why it has no `lan` address though it is published, and what to do; else empty.
        rule: which rule found the addresses; one of `HOW`.
    """

    published: bool
    addresses: tuple[Address, ...] = ()
    problem: str = ""
    rule: str = ""


class BadNetwork(ValueError):
    """A NETWORK tag names none of the container's networks; the message lists them."""


# Rule -> what it says of a port.
HOW: Mapping[str, str] = MappingProxyType(
    {
        "host-network": "it is on the host's network",
        "internal": "the container's own address and port are asked for",
        "routable": "its network is routed between hosts, and the port is not published",
        "published": "it is published on the host",
        "unpublished": "it is not published: only this host reaches it",
    }
)
NO_HOST_ADDRESS = "no address of this host is known that others can reach: name it with --ip"
NO_CONTAINER_ADDRESS = "the container has no address of its own: it is not running, or on no network"


def reach(port: PortSpec, facts: Facts, host: Host, ask: Ask, facts_of: FactsOf) -> Reach:
    """Find the addresses of one port.

    Args:
        port: of the container.
        facts: of the container.
        host: that it runs on.
        ask: what settings and tags want.
        facts_of: id or name -> facts, for containers that share their network.

    Raises:
        BadNetwork: `ask.network` is none of the container's.
    """
    holder = network_holder(facts, facts_of)
    if holder is None:
        other = facts.network_mode.removeprefix(_SHARES)
        return Reach(published=True, problem=f"it shares the network of container {quoted(other)}, which is not there")
    if holder.network_mode == "host":
        found = _at(ask.fixed or ask.host_ip or host.addresses, port.port)
        return Reach(True, found, "" if found else _useless(ask) or NO_HOST_ADDRESS, "host-network")
    own = _own_addresses(holder.networks, ask)
    if ask.internal or (ask.routable and port not in holder.bindings):
        found = _at(ask.fixed or own, port.port)
        rule = "internal" if ask.internal else "routable"
        return Reach(True, found, "" if found else _without_address(holder, ask), rule)
    return _published(port, holder, host, ask, own)


def network_holder(facts: Facts, facts_of: FactsOf) -> Facts | None:
    """The container whose network this one uses: mostly itself; None when that one is not there."""
    for _ in range(MAX_SHARING):
        if not facts.network_mode.startswith(_SHARES):
            return facts
        other = facts_of(facts.network_mode.removeprefix(_SHARES))
        if other is None:
            return None
        facts = other
    return None


def _published(port: PortSpec, holder: Facts, host: Host, ask: Ask, own: tuple[str, ...]) -> Reach:
    bindings = holder.bindings.get(port, ())
    inside = {gateway for network in holder.networks for gateway in network.gateways}
    inside -= {*ask.host_ip, *host.addresses}  # a bridge may hold the host's own address
    local = [binding for binding in bindings if not _reachable(binding.ip, inside)]
    outside = [binding for binding in bindings if binding not in local]
    lan = [address for binding in outside for address in _at(_host_addresses(binding, host, ask), binding.port)]
    near = [Address(binding.ip, binding.port, "node") for binding in local]
    near += [Address(ip, port.port, "node") for ip in own]
    problem = _without_host_address(outside, host, ask) if outside and not lan else ""
    return Reach(bool(bindings), _once([*lan, *near]), problem, "published" if bindings else "unpublished")


def _without_host_address(outside: list[Binding], host: Host, ask: Ask) -> str:
    """What to say of bindings that no address of this host stands for: of its family, where another is known."""
    if why := _useless(ask):
        return why
    versions = {ipaddress.ip_address(binding.ip).version for binding in outside}
    if len(versions) > 1 or not any(map(usable, ask.host_ip or host.addresses)):
        return NO_HOST_ADDRESS
    family = f"IPv{versions.pop()}"
    return f"it is published over {family} only, and {NO_HOST_ADDRESS.replace('address', f'{family} address', 1)}"


def _reachable(ip: str, inside: Iterable[str]) -> bool:
    """True for a binding that other hosts may reach; an unspecified one stands for all addresses of the host."""
    return ipaddress.ip_address(ip).is_unspecified or (usable(ip) and ip not in inside)


def _host_addresses(binding: Binding, host: Host, ask: Ask) -> tuple[str, ...]:
    """Addresses of the host that stand for a binding, of its family unless a tag fixes them.

    --ip stands for a binding to one address too, as the host may be behind NAT; never for another family, where
    nothing listens.
    """
    bound = ipaddress.ip_address(binding.ip)
    if ask.fixed:
        return ask.fixed
    if binding.ip in ask.host_ip:
        return (binding.ip,)
    known = ask.host_ip or (host.addresses if bound.is_unspecified else ())
    of_family = tuple(ip for ip in known if ipaddress.ip_address(ip).version == bound.version)
    return of_family if of_family or bound.is_unspecified else (binding.ip,)


def _own_addresses(networks: tuple[Network, ...], ask: Ask) -> tuple[str, ...]:
    """The container's addresses: on the network that its tag names, else on the first of --network, else on the first.

    A container that is on none of --network has none: an address that nobody asked for is not published.
    """
    if ask.network:
        found = _on(networks, ask.network)
        if found is None:
            raise BadNetwork(f"{quoted(ask.network)} is none of the container's networks: {_listed(networks)}")
        return found
    if ask.networks:
        return next((found for one in ask.networks if (found := _on(networks, one))), ())
    having = [network for network in networks if network.ipv4 or network.ipv6]
    return _both(having[0]) if having else ()


def _on(networks: tuple[Network, ...], wanted: str) -> tuple[str, ...] | None:
    """The addresses on one network, named whole, as its compose file has it, or by CIDR; None: none such."""
    named = [network for network in networks if network.name == wanted or network.name.endswith(f"_{wanted}")]
    if named:
        exact = [network for network in named if network.name == wanted]
        return _both((exact or named)[0])
    return _inside(wanted, [ip for network in networks for ip in _both(network)]) or None


def _listed(networks: tuple[Network, ...]) -> str:
    return ", ".join(f"{network.name} ({' '.join(_both(network))})" for network in networks) or "none"


def _useless(ask: Ask) -> str:
    """What to say where the addresses that the admin gave are of no use to others; empty: they are, or none was."""
    given = ask.fixed or ask.host_ip
    if not given or any(map(usable, given)):
        return ""
    where = "the IP tag or the label of --use-ip-from-label" if ask.fixed else "--ip"
    return f"{', '.join(given)} is no address that other hosts can reach: name another one in {where}"


def _without_address(holder: Facts, ask: Ask) -> str:
    if ask.fixed:
        return _useless(ask)
    if ask.network or not ask.networks or not holder.networks:
        return NO_CONTAINER_ADDRESS
    asked = ", ".join(map(quoted, ask.networks))
    return f"the container is on none of --network {asked}: it is on {_listed(holder.networks)}"


def _inside(cidr: str, addresses: list[str]) -> tuple[str, ...]:
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return ()
    return tuple(ip for ip in addresses if ipaddress.ip_address(ip) in network)


def _both(network: Network) -> tuple[str, ...]:
    return tuple(ip for ip in (network.ipv4, network.ipv6) if ip)


def usable(ip: str) -> bool:
    """True for an address that another host can use: not unspecified, loopback, link-local or multicast."""
    if not is_ip(ip):
        return False
    address = ipaddress.ip_address(ip)
    return not (address.is_unspecified or address.is_loopback or address.is_link_local or address.is_multicast)


def _at(addresses: Iterable[str], port: int) -> tuple[Address, ...]:
    return _once([Address(ip, port, "lan") for ip in addresses if usable(ip)])


def _once(addresses: list[Address]) -> tuple[Address, ...]:
    """Each address once, with the first port it came with; the order is kept within scope and family."""
    found: dict[tuple[str, str], Address] = {}
    for address in addresses:
        found.setdefault((address.scope, address.ip), address)
    return tuple(sorted(found.values(), key=lambda one: (one.scope, ipaddress.ip_address(one.ip).version)))
