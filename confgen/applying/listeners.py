"""Where the files of services listen, and whose a port is. Pure.

No tag makes a service's own file listen anywhere but at the proxy's ports; an admin's snippet, or template, can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confgen.applying.blame import Blame
from confgen.nginx.render import Tree

_BIND = re.compile(r"bind\(\) to (\S+):(\d+) failed")
_LISTEN = re.compile(rb"(?<![\w$-])listen +(?:(\d+(?:\.\d+){3}|\[[0-9a-fA-F:.]+\]|\*):)?(\d{1,5})((?: [^;{}]*)?);")
_EVERYWHERE = {"": "0.0.0.0", "*": "0.0.0.0"}


class Listener(NamedTuple):
    """A TCP address: IPv4, or IPv6 without brackets, and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        """As nginx prints it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def listens(texts: Iterable[bytes]) -> frozenset[Listener]:
    """All TCP addresses at which pieces of configuration listen.

    >>> sorted(map(str, listens([b"listen 80 default_server; listen [::]:80; listen 53 udp; listen unix:/a;"])))
    ['0.0.0.0:80', '[::]:80']
    """
    found = (one for text in texts if b"listen" in text for one in _LISTEN.findall(text))
    return frozenset(
        Listener(_EVERYWHERE.get(address.decode(), address.decode().strip("[]")), int(port))
        for address, port, options in found
        if not {b"udp", b"quic"} & set(options.split())
    )


def new_listeners(tree: Tree, before: Mapping[str, bytes]) -> tuple[Listener, ...]:
    """Addresses that only services' own files listen at, and that nginx does not have yet.

    Args:
        tree: what is to be served.
        before: the files of what is served; empty when nothing is known of it.
    """
    own = listens(tree.files[name] for name in tree.services if before.get(name) != tree.files[name])
    common = listens(text for name, text in tree.files.items() if name not in tree.services)
    found = {one for one in own if not _covered(one, common)}
    known = listens(before.values()) if found else frozenset()
    return tuple(sorted(one for one in found if not _covered(one, known)))


def _covered(one: Listener, known: frozenset[Listener]) -> bool:
    everywhere = "::" if ":" in one.address else "0.0.0.0"  # it binds no address of a port that it has
    return one in known or Listener(everywhere, one.port) in known


def concerns(blame: Blame) -> bool:
    """True when it is an address that cannot be had; `nginx -t` has nothing against those."""
    return _BIND.search(blame.message) is not None


def refused(one: Listener, words: str) -> str:
    """What nginx would say of an address that cannot be had.

    >>> refused(Listener("0.0.0.0", 80), "98: Address already in use")
    'nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)'
    """
    return f"nginx: [emerg] bind() to {one} failed ({words})"


def listener(blame: Blame, files: Mapping[str, bytes], services: Mapping[str, str]) -> str:
    """The service whose own file listens on the port that nginx could not have; empty when it is everybody's.

    Args:
        blame: without a service.
        files: of the configuration.
        services: file -> service.
    """
    found = _BIND.search(blame.message)
    if found is None:
        return ""
    listening = re.compile(rb"(?:^|[\s{;])listen\s+(?:\S*:)?%s[\s;]" % found.group(2).encode())
    if any(listening.search(text) for name, text in files.items() if name not in services):
        return ""
    owners = {services[name] for name, text in files.items() if listening.search(text)}
    return min(owners, default="") if len(owners) == 1 else ""
