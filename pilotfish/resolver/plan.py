"""(facts, wishes) -> what will be changed, as data. Pure.

A kind is one way in which a host resolves names. Each says whether the host uses it, what would have to be written, how
its program is told, and how one sees that it worked; or why not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pilotfish.resolver.facts import RESOLV_CONF, STUBS, Facts, Server, Wishes
from pilotfish.resolver.state import ABSENT, FOLDER, Change, File, State

MARK = "pilotfish resolver"  # in every file of ours that can have a comment
HEAD = (
    f"# Written by `{MARK} install`; `{MARK} remove` puts back what was here before.\n"
    "# Changes to this file are kept, and then have to be taken back by hand.\n"
)


class Refused(Exception):
    """A kind cannot be wired; the message says why and what to do."""


class Command(NamedTuple):
    """A program to run.

    Attributes:
        argv: program and arguments.
        why: completes "to ...".
        lasts: it is right at another time too; False: it names a process of now.
    """

    argv: tuple[str, ...]
    why: str
    lasts: bool = True


class Proof(NamedTuple):
    """Who must give our answer when everything is done: an address where a resolver of this host listens."""

    ip: str
    port: int


class Proposal(NamedTuple):
    """What one kind would change.

    Attributes:
        kind: its name.
        servers: ours that the host will ask.
        changes: in the order in which they are made.
        checks: run when the files are there, before anybody is told; each must succeed.
        reload: what makes the program read them; None when nothing has to, or nobody can.
        proofs: asked afterwards, until they answer or time is up.
        needs_outside: other names come to our servers too: `must_forward` looked before, and the proof asks again.
        later: what is left to the admin; empty when nothing is.
        notes: the traps that apply to this host.
    """

    kind: str
    servers: tuple[Server, ...]
    changes: tuple[Change, ...]
    checks: tuple[Command, ...] = ()
    reload: Command | None = None
    proofs: tuple[Proof, ...] = ()
    needs_outside: bool = False
    later: str = ""
    notes: tuple[str, ...] = ()


class Kind(NamedTuple):
    """One way in which a host resolves names.

    Attributes:
        name: as one types it.
        is_used: the host resolves names, or its containers' names, this way now.
        propose: what to change; raises Refused.
        reload: what makes its program read its files anew, as facts are now; None when nothing has to, or nobody can.
        is_ours: something of ours is in a file that somebody changed after us.
    """

    name: str
    is_used: Callable[[Facts], bool]
    propose: Callable[[Facts, Wishes], Proposal]
    reload: Callable[[Facts, Wishes], Command | None]
    is_ours: Callable[[State, Sequence[str]], bool]


def has_mark(state: State, _: Sequence[str]) -> bool:
    """True when a file still says that it is ours."""
    return isinstance(state, File) and MARK in state.text


def write(facts: Facts, path: str, text: str) -> tuple[Change, ...]:
    """The changes that put a file with this text at a path, with the folders that it needs."""
    data = text.encode("utf-8", "surrogateescape")
    before = facts.at(path)
    return (*_folders(facts, path), Change(path, before, File.of(data, before)))


def append(facts: Facts, path: str, block: str) -> tuple[Change, ...]:
    """The changes that put a block of ours at the end of a file that is somebody else's.

    Raises:
        Refused: one is there already, that the record does not know.
    """
    before = facts.text(path)
    if MARK in before:
        raise Refused(f"{path} has lines of ours that nobody remembers: take them out first (docs/resolver.md)")
    return write(facts, path, before + ("" if before.endswith("\n") or not before else "\n") + block)


def _folders(facts: Facts, path: str) -> tuple[Change, ...]:
    missing = []
    folder = posixpath.dirname(path)
    while folder not in {"/", ""} and facts.at(folder) == ABSENT:
        missing.append(Change(folder, ABSENT, FOLDER))
        folder = posixpath.dirname(folder)
    return tuple(reversed(missing))


def usable(wishes: Wishes, fits: Callable[[Server], str], most: int = 3) -> tuple[Server, ...]:
    """Our servers that a kind can use.

    Args:
        wishes: with the servers.
        fits: why a server cannot be used by it; empty when it can.
        most: how many it can use.

    Raises:
        Refused: a server that was named does not fit, or none does.
    """
    reasons = {server: server.trouble or fits(server) for server in wishes.servers}
    bad = [f"{server}: {reason}" for server, reason in reasons.items() if reason]
    good = [server for server, reason in reasons.items() if not reason]
    if bad and (wishes.chosen or not good):
        raise Refused("; ".join(bad))
    if not good:
        raise Refused("there is no server of ours; name one with --server ADDR:PORT")
    if len(good) > most and wishes.chosen:
        raise Refused(f"{len(good)} servers, and only the first {most} would be asked; name fewer with --server")
    return tuple(good[:most]) if wishes.chosen else (good[0],)


def must_forward(servers: Iterable[Server], whose: str) -> None:
    """Refuse to make servers the only resolver of somebody if they answer for our names alone.

    Raises:
        Refused: naming the server and what it lacks.
    """
    for server in servers:
        if server.outside:
            raise Refused(
                f"{server} would become the only resolver of {whose}, and {server.outside}; start it with"
                " --forward ADDR, the name server that other names are asked of"
            )


def is_told_how(facts: Facts, wishes: Wishes, kind: str) -> bool:
    """True when the admin named the command for a kind: it is run though the program does not, for it may start it."""
    return facts.live and kind in wishes.reload_with


def restart(facts: Facts, wishes: Wishes, kind: str, service: str, *, reload: bool = False) -> Command | None:
    """How this host's service manager restarts a service, or makes it read its files anew."""
    why = f"make {service} read its files"
    if kind in wishes.reload_with:
        return Command(wishes.reload_with[kind], why)
    if facts.systemd:
        return Command(("systemctl", "reload-or-restart" if reload else "restart", f"{service}.service"), why)
    if not facts.live or not facts.exists(f"/etc/init.d/{service}"):
        return None
    for program, argv in (("rc-service", ("rc-service", service)), ("service", ("service", service))):
        if program in facts.programs:
            return Command((*argv, "restart"), why)
    return None


def local_trap(facts: Facts, domains: Iterable[str]) -> list[str]:
    """The trap of names that belong to multicast DNS."""
    hosts = next((line for line in facts.text("/etc/nsswitch.conf").splitlines() if line.startswith("hosts:")), "")
    found = [domain for domain in domains if domain == "local" or domain.endswith(".local")]
    if not found:
        return []
    where = " (mdns in /etc/nsswitch.conf answers first)" if "mdns" in hosts else ""
    return [f"{found[0]}: names under .local belong to multicast DNS (RFC 6762){where}; use another --domain"]


def asks(facts: Facts, ip: str) -> bool:
    """True when resolv.conf leads to a resolver of this host that listens at an address, systemd-resolved apart."""
    listed = [one for one in listed_in(facts) if one not in STUBS]
    return ip in listed or any(one.startswith("127.") or one == "::1" for one in listed)


def listed_in(facts: Facts, path: str = RESOLV_CONF) -> list[str]:
    """Name servers of a resolv.conf(5)."""
    words = (line.split() for line in facts.text(path).splitlines())
    return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
