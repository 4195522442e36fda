"""Which engines one registrator watches: what the flags say of each, taken apart into settings of its own.

Pure. Every engine is a node of its own, with its own name, addresses and lease. An engine is of this host when it
listens on a unix socket or on loopback; any other is a host of its own, reached where its URL says.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.values import NODE, quoted
from registrator.settings import RegistratorSettings, named

SWARM = "swarm://"  # in front of a swarm's id: the engine of the registrator of a swarm


class At(NamedTuple):
    """One engine: the name of its node, empty when none was given, and where it listens."""

    name: str
    url: str


def engine_host(url: str) -> str:
    """The host that an engine's URL names; empty for an engine of this host.

    >>> engine_host("tcp://[2001:db8::7]:2376"), engine_host("unix:///run/docker.sock"), engine_host("tcp://localhost:1")
    ('2001:db8::7', '', '')
    """
    host = urlsplit(url).hostname or ""
    if url.startswith("unix://") or host == "localhost":
        return ""
    return "" if _is_ip(host) and ipaddress.ip_address(host).is_loopback else host


def apart(settings: RegistratorSettings) -> tuple[RegistratorSettings, ...]:
    """Settings of one registrator for each engine: one URL, its node's name, its addresses.

    Returns:
        In the order in which the engines were given. An empty name stands for the host's own, empty addresses for
        those that the host or the URL tells.

    Raises:
        BadSettings: two engines would be one node, or an address belongs to none of them.
    """
    engines = [At(*named(text)) for text in settings.docker]
    errors: list[str] = []
    names = [_name(one, settings.node_name, alone=len(engines) == 1, errors=errors) for one in engines]
    for name in sorted({name for name in names if names.count(name) > 1}):
        urls = " and ".join(one.url for one, own in zip(engines, names, strict=True) if own == name)
        what = f"node {name}" if name else "this host"
        errors.append(f"--docker: {urls} would both be {what}: give each a name, --docker NAME=URL")
    addresses = _addresses(engines, names, settings, errors)
    if errors:
        raise BadSettings(errors)
    return tuple(
        dataclasses.replace(settings, docker=(one.url,), node_name=name, ip=addresses[at], docker_ip=())
        for at, (one, name) in enumerate(zip(engines, names, strict=True))
    )


def _name(one: At, of_this_host: str, *, alone: bool, errors: list[str]) -> str:
    host = engine_host(one.url)
    label = host.partition(".")[0]
    if one.name:
        return one.name
    if not host or (alone and of_this_host):
        return of_this_host
    if not _is_ip(host) and NODE.pattern.match(label):
        return label
    if not alone:
        errors.append(f"--docker: {one.url} tells no name for its node: give it one, --docker NAME={one.url}")
    return ""


def _addresses(
    engines: Sequence[At], names: Sequence[str], settings: RegistratorSettings, errors: list[str]
) -> list[tuple[str, ...]]:
    """`--ip` is of the host that we are on, or of the only engine's; `--docker-ip` says whose it is."""
    own = [at for at, one in enumerate(engines) if len(engines) == 1 or not engine_host(one.url)]
    found: list[tuple[str, ...]] = [settings.ip if own == [at] else () for at in range(len(engines))]
    if settings.ip and len(own) != 1:
        errors.append(
            f"--ip: {settings.ip[0]} could be any engine's: say whose it is, --docker-ip NAME={settings.ip[0]}"
        )
    for name, ip in map(named, settings.docker_ip):
        if name not in names:
            known = ", ".join(filter(None, names)) or "none has one: --docker NAME=URL"
            errors.append(f"--docker-ip: {quoted(name)} is the name of no engine ({known})")
        else:
            found[names.index(name)] += (ip,)
    return found


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
