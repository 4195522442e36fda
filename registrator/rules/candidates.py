"""Which ports a container has at all, before anything is decided about them. Pure."""

from __future__ import annotations

from registrator.rules.container import Facts, PortSpec
from registrator.rules.tags import Tags


def ports(facts: Facts, found: Tags) -> list[PortSpec]:
    """Every port that is exposed, published or named by a tag, sorted; a tag's port is TCP unless known otherwise."""
    known = {*facts.exposed, *facts.bindings}
    numbers = {str(spec.port) for spec in known}
    named = (
        text for text in found.ports if text not in numbers and text.isdigit() and text[0] != "0" and len(text) < 6
    )
    return sorted(known | {PortSpec(int(text), "tcp") for text in named if int(text) < 65536})


def unpublished(facts: Facts, spec: PortSpec) -> str:
    """Why a port that nobody published is left out, and what to do about it."""
    if facts.network_mode.startswith("container:"):
        return "the container whose network it shares does not publish it"
    seen = "exposed, but not published on the host" if spec in facts.exposed else "neither exposed nor published"
    if all(network.name == "bridge" for network in facts.networks):
        return f"{seen}: publish it, or tag it with PROXY or INTERNAL"
    # Which driver a network has is not in the container's document.
    routable = "ROUTABLE where its network is one that other hosts reach (macvlan, ipvlan)"
    return f"{seen}: publish it, or tag it with PROXY or INTERNAL, or {routable}"
