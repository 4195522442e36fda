"""The catalog as plain values for JSON: services with their endpoints and verdicts, hosts, proxies, routes, refusals.

Pure: a registry in, dicts out.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.catalog.record import Drain
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.values import join_host_port
from pilotfish.catalog.verdict import Placed, judge_route
from pilotfish.catalog.wishes import Subject


def catalog_state(registry: Registry, domains: Sequence[str]) -> dict[str, object]:
    """Everything that is known, sorted.

    Returns:
        `services`: name -> endpoints with verdict, addresses, and routes granted and refused; `panic`: services whose
        failing endpoints are kept, since most of them fail; `nodes`, `proxies`: by name; `claims`: place -> service;
        `drains`: whom -> since when and by whom; `shifts`: service -> percent by version; `refused`: key -> why its
        record was left out; `revision`.
    """
    return {
        "revision": registry.revision,
        "services": {
            name: [_endpoint(registry, placed, domains) for placed in registry.service(name)]
            for name in registry.services()
        },
        "panic": list(registry.panics()),
        "nodes": dict(sorted(registry.nodes.items())),
        "proxies": dict(sorted(registry.proxies.items())),
        "claims": {f"{host}{path}": claim.service for (host, path), claim in sorted(registry.claims.items())},
        "drains": {str(subject): {"since": drain.since, "by": drain.by} for subject, drain in _by_text(registry)},
        "shifts": {service: shift.percents for service, shift in sorted(registry.wishes.shifts.items())},
        "refused": dict(sorted(registry.refused.items())),
    }


def _by_text(registry: Registry) -> list[tuple[Subject, Drain]]:
    return sorted(registry.wishes.drains.items(), key=lambda item: str(item[0]))


def _endpoint(registry: Registry, placed: Placed, domains: Sequence[str]) -> dict[str, object]:
    verdict = placed.verdict
    routed = judge_route(placed.endpoint, registry.claims, domains)
    return {
        "id": placed.endpoint.id,
        "node": placed.node,
        "container": placed.container.name,
        "addresses": [f"{join_host_port(one.ip, one.port)} ({one.scope})" for one in placed.endpoint.addresses],
        "state": placed.endpoint.state,
        "weight": verdict.weight,
        "reason": verdict.reason,
        "routes": [f"{place.host}{place.path}" for place in routed.granted],
        "routes_refused": [{"route": f"{place.host}{place.path}", "owner": owner} for place, owner in routed.refused],
    }
