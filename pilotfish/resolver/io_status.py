"""How a host stands: what its programs are told, what our servers say, what was installed."""

from __future__ import annotations

from typing import NamedTuple

from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.values import is_ip
from pilotfish.resolver import docker, io_ask
from pilotfish.resolver.facts import Facts, Server, Wishes
from pilotfish.resolver.io_detect import detect
from pilotfish.resolver.io_disk import DiskTrouble
from pilotfish.resolver.journal import Found, Installed, Record, originals
from pilotfish.resolver.kinds import KINDS, OF_CONTAINERS, detected
from pilotfish.resolver.plan import Refused, listed_in
from pilotfish.resolver.service import Options, Resolver, address, settled
from pilotfish.resolver.show import KindStatus, NameServerStatus, ServerStatus, Status, SystemStatus

MOST_NAME_SERVERS = 3  # resolv.conf(5): more are not asked


class _Look(NamedTuple):
    """What a status is made from.

    Attributes:
        facts: as they are.
        before: as if nothing of ours were there.
    """

    record: Record
    found: dict[str, Found]
    facts: Facts
    before: Facts
    servers: tuple[Server, ...]
    options: Options


def status(resolver: Resolver, options: Options) -> Status:
    """Look at everything, ask everybody, change nothing but what was interrupted.

    Raises:
        CannotStart: the record or a file cannot be read.
    """
    try:
        return _status(resolver, options)
    except DiskTrouble as error:
        raise CannotStart(str(error)) from error


def _status(resolver: Resolver, options: Options) -> Status:
    record = resolver.repaired(options)
    options = settled(options, record)
    found = resolver.found(record)
    over = {path: state for one in found.values() for path, state in originals(one).items()}
    facts, before = detect(resolver.disk), detect(resolver.disk, over)
    servers = _servers(resolver, record, facts, options)
    seen = _Look(record, found, facts, before, servers, options)
    kinds = tuple(_kind(name, seen) for name in KINDS)
    system = _system(resolver, seen)
    intact = all(kind.intact for kind in kinds if kind.installed)
    return Status(
        wired=intact and _is_told(system, facts, kinds),
        domains=options.domains,
        servers=tuple(
            ServerStatus(str(one), not one.trouble, not one.trouble and not one.outside, one.trouble or one.outside)
            for one in servers
        ),
        system=system,
        kinds=tuple(kind for kind in kinds if kind.used or kind.installed),
    )


def _servers(resolver: Resolver, record: Record, facts: Facts, options: Options) -> tuple[Server, ...]:
    """Those named; else those installed; else those that would be."""
    if not options.servers and record.installed:
        names = dict.fromkeys(text for one in record.installed.values() for text in one.servers)
        return resolver.asked(facts, options, (address(text) for text in names))
    return resolver.servers(facts, options)


def _system(resolver: Resolver, seen: _Look) -> SystemStatus:
    server = next((one for one in seen.servers if not one.trouble), None)
    asked = listed_in(seen.facts)[:MOST_NAME_SERVERS]
    if server is None or not seen.facts.live:
        return SystemStatus("", (), (), tuple(NameServerStatus(ip, knows_us=False) for ip in asked))
    name, domain = resolver.known_name(server, seen.options), seen.options.domains[0]
    wanted = io_ask.primary(server.ip, server.port, domain)
    return SystemStatus(
        name,
        io_ask.system_addresses(name) if name else (),
        io_ask.addresses(server.ip, server.port, name) if name else (),
        tuple(
            NameServerStatus(ip, bool(wanted) and io_ask.primary(ip, 53, domain, tries=1) == wanted)
            for ip in asked
            if is_ip(ip)
        ),
    )


def _is_told(system: SystemStatus, facts: Facts, kinds: tuple[KindStatus, ...]) -> bool:
    """By a name if there is one to try; else by the name server that is asked first."""
    if not facts.live:
        return any(kind.installed for kind in kinds)
    if system.name:
        return bool(system.addresses) and set(system.addresses) <= set(system.direct)
    return bool(system.name_servers) and system.name_servers[0].knows_us


def _kind(name: str, seen: _Look) -> KindStatus:
    installed, state = seen.record.installed.get(name), seen.found.get(name, Found())
    used = name in detected(seen.before)
    changed = tuple(change.path for change in (*state.edited, *state.given_up))
    notes = _notes(name, seen, installed) if used or installed else ()
    if installed and name in OF_CONTAINERS:
        notes += _restart_due(seen.facts)
    return KindStatus(
        name, used, installed is not None, not changed, installed.servers if installed else (), changed, notes
    )


def _notes(name: str, seen: _Look, installed: Installed | None) -> tuple[str, ...]:
    mine = tuple(one for one in seen.servers if installed and str(one) in installed.servers) or seen.servers
    wishes = Wishes(mine, seen.options.domains, chosen=installed is not None, search=seen.options.search)
    try:
        return KINDS[name].propose(seen.before, wishes).notes
    except Refused as error:
        return (f"{'would not be wired now' if installed else 'cannot be wired'}: {error}",)


def _restart_due(facts: Facts) -> tuple[str, ...]:
    process = facts.process("dockerd")
    path = docker.settings_file(facts)
    if process is None or process.started >= facts.written.get(path, 0.0):
        return ()
    return (f"the engine runs since before {path} was written: restart it",)
