"""A container's record and the verdict on it -> keys for others' eyes.

Pure. Our own readers never read these: they are for SkyDNS, CoreDNS, confd, scripts, and the admin's own templates.
Keys belong to the endpoint that makes them; what is not published makes none, and an address that only its own host can
use never leaves it. Names are judged over all hosts by the callables that come in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from pilotfish.catalog.keys import registry_all_key, registry_proxy_key, skydns_key
from pilotfish.catalog.record import DEFAULT_PRIORITY, DEFAULT_WEIGHT, Address, Container, Endpoint
from pilotfish.catalog.route import HTTP_SCHEMES
from pilotfish.catalog.values import MAX_NAME, join_host_port
from pilotfish.catalog.verdict import How, Verdict, names_of
from registrator.rules.templates import KeyTemplate, TemplateProblem, render, variables
from registrator.settings import RegistratorSettings

SKYDNS_DEFAULTS = MappingProxyType({"priority": DEFAULT_PRIORITY, "weight": DEFAULT_WEIGHT, "ttl": 0})
HTTP_PORT = 80  # of the proxies, as long as none of them has said so
HTTPS_PORT = 443  # of a stream that is told by its name there


class Exported(NamedTuple):
    """The exports of a container.

    Attributes:
        keys: key -> value, sorted by key.
        problems: why a template made nothing for an endpoint, each as a sentence.
    """

    keys: dict[str, str]
    problems: tuple[str, ...]


def lan_address(endpoint: Endpoint) -> Address | None:
    """The address that exports use: the first that other hosts reach; None when none does."""
    return next((address for address in endpoint.addresses if address.scope == "lan"), None)


def exports(
    container: Container,
    verdict: Callable[[Endpoint], Verdict],
    is_proxied: Callable[[str], bool],
    settings: RegistratorSettings,
    templates: Sequence[KeyTemplate],
    *,
    is_tagged: Callable[[str], bool] = lambda _: False,
) -> dict[str, str]:
    """The keys of a container, without what went wrong; arguments as `judge_exports`."""
    return judge_exports(container, verdict, is_proxied, settings, templates, is_tagged=is_tagged).keys


def judge_exports(
    container: Container,
    verdict: Callable[[Endpoint], Verdict],
    is_proxied: Callable[[str], bool],
    settings: RegistratorSettings,
    templates: Sequence[KeyTemplate],
    *,
    is_tagged: Callable[[str], bool] = lambda _: False,
    proxy_port: int = HTTP_PORT,
) -> Exported:
    """Make the exports of a container.

    Args:
        container: its record.
        verdict: on each of its endpoints.
        is_proxied: whether a name (relative, lower case) stands for the proxies, over all hosts.
        settings: domains, proxy name, SkyDNS prefix, TTL.
        templates: the admin's; when there are any, nothing else is written.
        is_tagged: whether a DNS tag of any endpoint, over all hosts, has this name.
        proxy_port: where the proxies serve http, whatever port the application has.

    Never raises.
    """
    own = highest(container.endpoints)
    keys: dict[str, str] = {}
    problems: list[str] = []

    def how(name: str) -> How:
        if is_proxied(name):
            return How.PROXIED
        return max(own.get(name, How.SERVICE), How.TAGGED if is_tagged(name) else How.SERVICE)

    for one in container.endpoints:
        lan = lan_address(one)
        judged = verdict(one)
        if lan is None or not judged.published:
            continue
        endpoint = msgspec.structs.replace(one, weight=judged.weight)
        if templates:
            problems += _from_templates(variables(container, endpoint, lan, settings.lease_ttl_s), templates, keys)
        else:
            keys.update(_built_in(container, endpoint, lan, settings, how, proxy_port=proxy_port))
    return Exported(dict(sorted(keys.items())), tuple(problems))


def highest(endpoints: Sequence[Endpoint]) -> dict[str, How]:
    """How each name that these endpoints stand behind is to be answered, by the strongest of them."""
    found: dict[str, How] = {}
    for endpoint in endpoints:
        for name, how in names_of(endpoint).items():
            found[name] = max(how, found.get(name, how))
    return found


def _from_templates(
    data: Mapping[str, object], templates: Sequence[KeyTemplate], keys: dict[str, str]
) -> Iterator[str]:
    """Put what templates make into `keys`; yields what went wrong."""
    for template in templates:
        try:
            made = render(template, data)
        except TemplateProblem as error:
            yield f"{data['ID']}: {error}"
            continue
        if made:
            keys[made[0]] = made[1]


def _built_in(
    container: Container,
    endpoint: Endpoint,
    lan: Address,
    settings: RegistratorSettings,
    how: Callable[[str], How],
    *,
    proxy_port: int,
) -> Iterator[tuple[str, str]]:
    reached = join_host_port(lan.ip, lan.port)
    yield registry_all_key(endpoint.service, endpoint.id), reached
    if endpoint.route:
        yield registry_proxy_key(endpoint.route.scheme, endpoint.service, endpoint.id), reached
    for name, its in names_of(endpoint).items():
        if its < how(name):
            continue  # somebody stands stronger behind this name: the proxies, or those tagged for it
        for domain in settings.domain:
            absolute = f"{endpoint.label}.{name}.{domain}"
            if len(absolute) > MAX_NAME:
                continue  # no name in DNS, though the service may be one
            key = skydns_key(settings.skydns_prefix, absolute)
            proxies = (f"{settings.proxy_name}.{domain}", _proxy_port(endpoint, proxy_port))
            yield key, _skydns(container.node, endpoint, proxies if its is How.PROXIED else (lan.ip, lan.port))


def _skydns(node: str, endpoint: Endpoint, where: tuple[str, int]) -> str:
    """A SkyDNS record; `pilotfish` marks it as ours, so that our own DNS server reads the record behind it instead."""
    said: dict[str, object] = {"host": where[0], "port": where[1]}
    further = {"priority": endpoint.priority, "weight": endpoint.weight, "ttl": endpoint.ttl}
    said |= {field: value for field, value in further.items() if value != SKYDNS_DEFAULTS[field]}
    return json.dumps({**said, "pilotfish": node}, separators=(",", ":"))


def _proxy_port(endpoint: Endpoint, http: int) -> int:
    """The port of the proxies, never the application's."""
    route = endpoint.route
    return (route.port or HTTPS_PORT) if route and route.scheme not in HTTP_SCHEMES else http
