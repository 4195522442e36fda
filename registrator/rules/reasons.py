"""Why an endpoint is as it is: for its name, id, address, names and route the rule that decided, and its source.

Pure; words for `inspect`, made from what `wanted` decided from, never decided anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pilotfish.catalog.record import Endpoint
from pilotfish.catalog.values import join_host_port, quoted
from registrator.rules import naming
from registrator.rules.address import HOW, FactsOf, network_holder
from registrator.rules.container import Binding, Facts, PortSpec
from registrator.rules.tags import SECRETS, PortTags
from registrator.rules.wanted import Basis
from registrator.settings import RegistratorSettings

# Rule of a default name -> why it is so.
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "compose": "no NAME tag: SERVICE.PROJECT of compose",
        "swarm": "no NAME tag: its service, SERVICE.STACK in a stack",
        "image": "no NAME tag: the base name of its image",
        "container": "no NAME tag, and its image is known by an id only: its own name",
    }
)
# Tags whose decision is told by a line of its own.
TOLD = frozenset({"name", "id", "dns", "proxy", "proxydns", "ip", "network", "internal", "routable", "ignore"})


class Decision(NamedTuple):
    """One decision.

    Attributes:
        about: what it is about: `service`, `id`, `address`, `names`, `route`, or a tag's key.
        rule: the one word for it.
        reason: in words, with the tag, label or flag that the value came from.
    """

    about: str
    rule: str
    reason: str


def decisions(
    endpoint: Endpoint, basis: Basis, facts: Facts, settings: RegistratorSettings, facts_of: FactsOf
) -> tuple[Decision, ...]:
    """Every decision about one endpoint.

    Args:
        endpoint: as it was decided.
        basis: what it was decided from.
        facts: of its container.
        settings: by which it was decided.
        facts_of: id or name -> facts, for a container that shares the network of one.
    """
    tags = basis.tags
    found = [
        _service(endpoint, basis, facts, settings),
        _id(endpoint, tags),
        _address(endpoint, basis, network_holder(facts, facts_of) or facts, settings),
        _names(endpoint, tags, settings),
    ]
    if endpoint.route:
        found.append(Decision("route", _rule(tags, "proxy"), _source(tags, "proxy")))
    if endpoint.proxydns:
        found.append(Decision("proxydns", "tag", _source(tags, "proxydns")))
    found += [Decision(key, _rule(tags, key), _source(tags, key)) for key in sorted(tags.values) if key not in TOLD]
    return tuple(found)


def _rule(tags: PortTags, key: str) -> str:
    """`virtual-host` for what nginx-proxy's variables say."""
    return "tag" if tags.raw[key].written is None else "virtual-host"


def _source(tags: PortTags, key: str) -> str:
    """The tag as it was written; empty when there is none."""
    tag = tags.raw.get(key)
    if tag is None:
        return ""
    return f"{quoted(tag.name)[1:-1]}=(not shown) ({tag.source})" if key in SECRETS else f"{tag.shown} ({tag.source})"


def _service(endpoint: Endpoint, basis: Basis, facts: Facts, settings: RegistratorSettings) -> Decision:
    if "name" in basis.tags.values:
        given, rule, why = str(basis.tags.values["name"]), "tag", _source(basis.tags, "name")
    else:
        given, rule = naming.default_of(facts)
        why = f"{DEFAULTS[rule]} {quoted(facts.image)}" if rule == "image" else DEFAULTS[rule]
    if given != endpoint.service:
        several = "; its container publishes several ports" if basis.several else ""
        why += f"; with -{endpoint.port} by --name-suffix {settings.name_suffix}{several}"
    return Decision("service", rule, why)


def _id(endpoint: Endpoint, tags: PortTags) -> Decision:
    given = tags.values.get("id")
    if given == endpoint.id:
        return Decision("id", "tag", _source(tags, "id"))
    if given is not None and endpoint.id.startswith(f"{given}:"):
        return Decision("id", "tag", f"{_source(tags, 'id')}; told apart from the other ports that have it")
    return Decision("id", "default", "node:container:port")


def _address(endpoint: Endpoint, basis: Basis, holder: Facts, settings: RegistratorSettings) -> Decision:
    """Which rule, then whose address it is."""
    rule = basis.reach.rule
    words = [HOW[rule]]
    if bindings := holder.bindings.get(PortSpec(endpoint.port, endpoint.protocol), ()):
        words.append(f"bound to {', '.join(join_host_port(one.ip, one.port) for one in bindings)}")
    words += [_source(basis.tags, key) for key in ("internal", "routable", "network") if key in basis.tags.values]
    if rule == "internal" and "internal" not in basis.tags.values:
        words.append("--internal")
    lan = tuple(one.ip for one in endpoint.addresses if one.scope == "lan")
    words.append(f"{', '.join(lan)} {_whose(lan, basis, bindings, settings)}" if lan else "known to this host only")
    return Decision("address", rule, "; ".join(words))


def _whose(lan: tuple[str, ...], basis: Basis, bindings: tuple[Binding, ...], settings: RegistratorSettings) -> str:
    own = basis.reach.rule in {"internal", "routable"}
    reasons = (
        ("ip" in basis.tags.values, f"by {_source(basis.tags, 'ip')}"),
        (lan[0] in basis.labelled, f"by --use-ip-from-label {quoted(settings.use_ip_from_label)}"),
        (own and bool(settings.network), f"is the container's, on --network {', '.join(settings.network)}"),
        (own, "is the container's"),
        (lan[0] in settings.ip, "by --ip"),
        (lan[0] in {one.ip for one in bindings}, "is the binding's"),
        (True, "is this host's"),
    )
    return next(words for holds, words in reasons if holds)


def _names(endpoint: Endpoint, tags: PortTags, settings: RegistratorSettings) -> Decision:
    if "dns" in tags.values:
        return Decision("names", "tag", _source(tags, "dns"))
    if endpoint.dns is None:
        return Decision("names", "service", "no DNS tag: the service's name finds it")
    return Decision("names", "none", f"no name finds it: {_why_nameless(tags, settings)}")


def _why_nameless(tags: PortTags, settings: RegistratorSettings) -> str:
    reasons = (
        (bool(tags.costs("names")), tags.costs("names")),
        (settings.explicit_dns, "--explicit-dns asks for a DNS tag"),
        (bool(settings.etcd_tmpl), "key templates replace automatic names"),
        (not tags.raw and not settings.publish_untagged, "no SERVICE_ tag applies to it"),
        (True, "its service's name is reserved"),
    )
    return next(words for holds, words in reasons if holds)
