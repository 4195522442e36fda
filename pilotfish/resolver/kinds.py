"""The kinds that there are, and the plan for a host. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pilotfish.resolver import dnsmasq, docker, resolv_conf, systemd_resolved, unbound
from pilotfish.resolver.facts import Facts, Wishes
from pilotfish.resolver.plan import Kind, Proposal, Refused

# In the order in which they are looked for; a host has at most one of those before the last.
KINDS: Mapping[str, Kind] = {
    module.NAME: module.KIND for module in (systemd_resolved, dnsmasq, unbound, resolv_conf, docker)
}
OF_CONTAINERS = frozenset({docker.NAME})


class Plan(NamedTuple):
    """What will be done to a host.

    Attributes:
        proposals: kinds that will be wired.
        refused: kind -> why it cannot be.
    """

    proposals: tuple[Proposal, ...]
    refused: Mapping[str, str]


def detected(facts: Facts) -> tuple[str, ...]:
    """The kinds that this host uses: one for its own names, and the engine's."""
    used = [name for name, kind in KINDS.items() if name not in OF_CONTAINERS and kind.is_used(facts)]
    own = used[:1] or [resolv_conf.NAME]
    return (*own, *(name for name in OF_CONTAINERS if KINDS[name].is_used(facts)))


def plan(facts: Facts, wishes: Wishes, kinds: Sequence[str] = (), own: Mapping[str, Wishes] | None = None) -> Plan:
    """Plan the wiring of a host.

    Args:
        facts: of the host, as if nothing of ours were there.
        wishes: what was asked for.
        kinds: which to wire; those detected if empty.
        own: kind -> wishes for it instead.
    """
    proposals: list[Proposal] = []
    refused: dict[str, str] = {}
    for name in kinds or detected(facts):
        try:
            proposals.append(KINDS[name].propose(facts, (own or {}).get(name, wishes)))
        except Refused as error:
            refused[name] = str(error)
    return Plan(tuple(proposals), refused)
