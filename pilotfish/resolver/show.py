"""What will be changed, and how a host stands, as text. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec

from pilotfish.resolver.plan import Command
from pilotfish.resolver.state import FOLDER, Change, Link, State, meant


def changes(moves: Iterable[Change]) -> str:
    """Moves as a unified diff, folders and links in words."""
    return "".join(_change(move) for move in moves)


def _change(move: Change) -> str:
    if move.after == FOLDER:
        return f"+ folder {move.path}\n"
    if move.before == FOLDER:
        return f"- folder {move.path} (if nothing else is in it)\n"
    links = "".join(
        f"{sign} link {move.path} -> {state.target}\n"
        for sign, state in (("-", move.before), ("+", move.after))
        if isinstance(state, Link)
    )
    before, after = (_lines(state) for state in (move.before, move.after))
    diff = difflib.unified_diff(before, after, f"{move.path} (now)", f"{move.path} (then)")
    return links + "".join(line if line.endswith("\n") else f"{line}\n\\ no newline at end\n" for line in diff)


def _lines(state: State) -> list[str]:
    return [] if isinstance(state, Link) else meant(state).splitlines(keepends=True)


def commands(given: Iterable[Command]) -> str:
    """Programs that will be run, one a line."""
    return "".join(f"$ {' '.join(command.argv)}    # to {command.why}\n" for command in given)


class ServerStatus(msgspec.Struct, frozen=True):
    """One of our servers, asked directly.

    Attributes:
        address: `127.0.0.1:53`.
        answers: it answers for all our domains.
        forwards: it answers for other names too.
        why: what is wrong, when one of these is not so.
    """

    address: str
    answers: bool
    forwards: bool
    why: str


class NameServerStatus(msgspec.Struct, frozen=True):
    """A name server of /etc/resolv.conf: whether our names are known through it."""

    address: str
    knows_us: bool


class SystemStatus(msgspec.Struct, frozen=True):
    """What programs of this host are told.

    Attributes:
        name: a name of ours that was looked up; empty when none with an address was found.
        addresses: what getaddrinfo gave.
        direct: what our server gave.
        name_servers: of /etc/resolv.conf, in its order.
    """

    name: str
    addresses: tuple[str, ...]
    direct: tuple[str, ...]
    name_servers: tuple[NameServerStatus, ...]


class KindStatus(msgspec.Struct, frozen=True):
    """One kind.

    Attributes:
        kind: its name.
        used: the host resolves names this way.
        installed: we wired it.
        intact: its files are as we wrote them.
        servers: ours that it asks.
        changed: files that are no longer as we wrote them.
        notes: traps that apply, and what is left to do.
    """

    kind: str
    used: bool
    installed: bool
    intact: bool
    servers: tuple[str, ...]
    changed: tuple[str, ...]
    notes: tuple[str, ...]


class Status(msgspec.Struct, frozen=True):
    """How a host stands.

    Attributes:
        wired: its programs are told our names, and what was installed is intact.
    """

    wired: bool
    domains: tuple[str, ...]
    servers: tuple[ServerStatus, ...]
    system: SystemStatus
    kinds: tuple[KindStatus, ...]


def status(found: Status) -> str:
    """A status for people."""
    lines = [f"{'wired' if found.wired else 'NOT wired'}: {', '.join(found.domains)}"]
    for server in found.servers:
        said = "answers" if server.answers else "does NOT answer for us"
        more = ", and forwards other names" if server.forwards else f": {server.why}" if server.why else ""
        lines.append(f"  server {server.address} {said}{more}")
    lines += _system(found.system)
    for kind in found.kinds:
        lines.append(f"  {kind.kind}: {_kind(kind)}")
        lines += [f"    changed since: {path}" for path in kind.changed]
        lines += [f"    note: {note}" for note in kind.notes]
    return "\n".join(lines)


def _system(system: SystemStatus) -> list[str]:
    lines = []
    if system.name:
        told = ", ".join(system.addresses) or "nothing"
        lines.append(f"  this host is told {told} for {system.name} (our server: {', '.join(system.direct)})")
    else:
        lines.append("  no name of ours with an address was found to look up; name one with --name")
    return lines + [
        f"  name server {server.address} {'knows' if server.knows_us else 'does NOT know'} our names"
        for server in system.name_servers
    ]


def _kind(kind: KindStatus) -> str:
    used = "used by this host" if kind.used else "not used by this host"
    if not kind.installed:
        return f"{used}, not installed"
    state = "installed" if kind.intact else "installed, and CHANGED since"
    return f"{used}, {state}, asks {', '.join(kind.servers)}"
