"""Name and addresses of the host of an engine: as the admin says, as this host knows of itself, or as the URL says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from pilotfish.catalog import io_host
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.values import BadValue, is_ip, parse_node
from registrator.fleet import SWARM, engine_host
from registrator.settings import RegistratorSettings

LOOK_UP_S = 2.0


def node_name(settings: RegistratorSettings) -> str:
    """The name of the node that a registrator registers; CannotStart: none was given, the host's own is none."""
    try:
        return parse_node(settings.node_name or io_host.hostname())
    except BadValue as error:
        raise CannotStart(f"{error}: name this host with --node-name") from error


async def addresses(url: str, given: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses of the host that the engine at `url` runs on.

    Args:
        url: of the engine.
        given: by the admin; they win.

    Returns:
        Preferred first; empty when none is known now. A name in the URL is looked up anew with every call.
    """
    if url.startswith(SWARM):
        return given  # each task has its own node's
    host = engine_host(url)
    if given or not host:
        return given or io_host.default_addresses()
    if is_ip(host):
        return (host,)
    try:
        async with asyncio.timeout(LOOK_UP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return ()
    return _usable(str(address[0]) for *_, address in found)


def _usable(found: Iterable[str]) -> tuple[str, ...]:
    """IPv4 first, each once, without scopes: fe80::1%eth0 means nothing elsewhere."""
    return tuple(sorted(dict.fromkeys(ip for ip in found if is_ip(ip)), key=lambda ip: ":" in ip))
