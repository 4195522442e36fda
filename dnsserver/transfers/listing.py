"""Every name of a domain, for those who want the whole zone.

Pure. A name that exists is one place; what it brings with it (instances, ports, services) belongs to the same place, so
that a change of the name finds them all. What depends on who asks or where (`nearest.`) is no part of a zone.
"""

from __future__ import annotations

from collections.abc import Iterator

from dnsserver.message import dname
from dnsserver.own import spoken
from dnsserver.own.domain import Domain
from dnsserver.own.names import View
from dnsserver.zone import APEX, LOCAL, Zone

_NS, _NODE = b"\x02ns\x03dns", b"\x04node"


def places(zone: Zone, domain: Domain) -> list[bytes]:
    """The names of a domain, in lower case, each once; without those that others answer for."""
    names = dict.fromkeys((domain.name, *(special + domain.name for special in (_NS, APEX, LOCAL))))
    names.update(dict.fromkeys(zone.own.all_names()))
    names.update(dict.fromkeys(zone.foreign.names()))
    return [name for name in names if belongs(zone, name, domain)]


def belongs(zone: Zone, lower: bytes, domain: Domain) -> bool:
    """True for a name that is in a domain, and in no other one and no stub zone within it."""
    return zone.domain_of(lower) == domain and not zone.stub_of(lower)


def may_say(zone: Zone, lower: bytes) -> bool:
    """True for a name with something at or below it, or that stands for another one."""
    return zone.own.exists(lower) or zone.foreign.exists(lower) or lower.startswith(LOCAL)


def brought(zone: Zone, name: bytes, domain: Domain) -> Iterator[bytes]:
    """The names that a name of ours may bring with it; some of them may not be there."""
    if not zone.own.exists(name):
        return
    own, relative = zone.own, dname.labels_of(name[: len(name) - len(domain.name)] + dname.ROOT)
    if relative[:1] == (b"*",):
        return  # what stands below the label itself is nothing that a question finds
    try:
        view = own.view(b".".join(relative).decode("ascii"))
    except UnicodeDecodeError:
        return
    for front in (*(_of_view(view) if view else ()), *_served(own.https_ports)):
        try:
            yield dname.from_labels((*front, *dname.labels_of(name)))
        except dname.BadName:
            continue


def _of_view(view: View) -> Iterator[tuple[bytes, ...]]:
    for label in view.labels:
        yield (label.encode(),)
    for port, protocol in view.ports:
        yield b"_%d" % port, b"_" + protocol.encode()
        for service, assigned in spoken.PORTS.items():
            if assigned == port:
                yield b"_" + service.encode(), b"_" + protocol.encode()


def _served(https_ports: tuple[int, ...]) -> Iterator[tuple[bytes, ...]]:
    for service in sorted(spoken.BACKENDS):
        yield b"_" + service.encode(), b"_tcp"
    for port in https_ports:
        yield b"_%d" % port, b"_https"
