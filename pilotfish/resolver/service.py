"""Install and remove: the record, the facts, the plan, the moves. Wires the parts, no more."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pilotfish.catalog.failure import CannotReach, CannotStart
from pilotfish.catalog.values import join_host_port
from pilotfish.resolver import io_ask, resolv_conf, show
from pilotfish.resolver.facts import Facts, Server, Wishes
from pilotfish.resolver.io_apply import Applier, Failed, Steps
from pilotfish.resolver.io_detect import detect
from pilotfish.resolver.io_disk import Disk, DiskTrouble
from pilotfish.resolver.io_record import RecordFile
from pilotfish.resolver.journal import Found, Installed, Record, look, originals, removing
from pilotfish.resolver.kinds import KINDS, OF_CONTAINERS, Plan, plan
from pilotfish.resolver.plan import Command, Proof, Proposal
from pilotfish.resolver.state import Change, State, same

PROOF_S = 10.0  # a resolver that was restarted answers within one
POLL_S = 0.1
DEFAULT_SERVER = ("127.0.0.1", 53)
MAX_SERVERS = 16  # that a running part listens at and that are asked


class Options(NamedTuple):
    """What the command line was told.

    Attributes:
        kinds: which to wire or unwire; those detected or installed if empty.
        servers: ours; where a running part listens if empty.
        domains: whose names.
        stays: no domain was named: a host that is wired stays with those it has.
        names: below the domains, tried in turn when a name of ours is needed.
        statuses: status servers of parts that may run here.
        outside: a name that is not ours, to see whether a server forwards.
        force: overwrite what was edited by hand since; a copy is kept.
    """

    kinds: tuple[str, ...] = ()
    servers: tuple[tuple[str, int], ...] = ()
    domains: tuple[str, ...] = ("svc.internal",)
    stays: bool = False
    names: tuple[str, ...] = ()
    statuses: tuple[tuple[str, int], ...] = ()
    outside: str = "."
    search: bool = False
    restart_docker: bool = False
    reload_with: Mapping[str, tuple[str, ...]] = {}
    force: bool = False


class Resolver:
    """The wiring of one host.

    Args:
        root: its file system; `/` is this host, running.
        say: receives what the user should read.
        confirm: asked before the first change; nothing happens when it says no. None: nothing is ever changed.
        gate: see `Disk`.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None],
        confirm: Callable[[], bool] | None,
        gate: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.disk = Disk(root, gate)
        self.file = RecordFile(self.disk)
        self._say, self._confirm = say, confirm
        self._applier = Applier(self.disk, self.file, say)

    def install(self, options: Options) -> None:
        """Point the host at our servers.

        Raises:
            CannotStart: it cannot be, and nothing has changed; the message says why.
        """
        self._guarded(lambda: self._install(options), "install")

    def remove(self, options: Options) -> None:
        """Put back what was there before.

        Raises:
            CannotStart: see `install`.
        """
        self._guarded(lambda: self._remove(options), "remove")

    def record(self, options: Options) -> Record:
        """The record; what was interrupted is taken back first, if we may.

        Raises:
            CannotStart: the record cannot be read, or something cannot be put back.
        """
        record = self.file.load()
        if (record.pending is None and not record.aside) or not self.file.may_be_used:
            return record
        if record.pending is not None:
            self._say("an install or remove was interrupted: it is taken back first")
        kinds = {*record.installed, *(record.pending.then if record.pending else ())}
        told = record.pending.reloads if record.pending else ()
        now = self._reloads(kinds, options)
        return self._applier.take_back(record, dict.fromkeys((*told, *now)))

    def repaired(self, options: Options) -> Record:
        """The record, for somebody who only looks: what was interrupted is taken back, if we may.

        Raises:
            CannotStart: see `record`.
        """
        record = self.file.load()
        if (record.pending is None and not record.aside) or not self.file.may_be_used:
            return record
        try:
            with self.file.locked():
                return self.record(options)
        except (Failed, DiskTrouble) as error:
            raise CannotStart(str(error)) from error

    def found(self, record: Record) -> dict[str, Found]:
        """Kind -> how its files are found."""
        return {
            name: look(installed, self.disk.state, functools.partial(_is_ours, name, installed.servers))
            for name, installed in record.installed.items()
        }

    def servers(self, facts: Facts, options: Options) -> tuple[Server, ...]:
        """Our servers, asked what they say."""
        given = options.servers or _in_order(io_ask.listening(options.statuses) if facts.live else (), facts)
        return self.asked(facts, options, given or (DEFAULT_SERVER,))

    def asked(self, facts: Facts, options: Options, at: Iterable[tuple[str, int]]) -> tuple[Server, ...]:
        """Servers at some addresses; those of another system's root cannot be asked, and are believed."""
        if not facts.live:
            return tuple(Server(ip, port) for ip, port in at)
        return tuple(io_ask.examine(ip, port, options.domains, options.outside) for ip, port in at)

    def _guarded(self, work: Callable[[], None], verb: str) -> None:
        try:
            if self._confirm is None:
                work()
                return
            if not self.file.may_be_used:
                raise CannotStart(f"resolver {verb} changes files under /etc: run it as root (or look with --dry-run)")
            with self.file.locked():
                work()
        except (Failed, DiskTrouble) as error:
            raise CannotStart(str(error)) from error

    # --- install

    def _install(self, options: Options) -> None:
        record = self._recorded(options)
        options = settled(options, record)
        found = self.found(record)
        over = {path: state for one in found.values() for path, state in originals(one).items()}
        facts = detect(self.disk, over)
        made = self._plan(facts, record, options)
        found = {name: one for name, one in found.items() if name in {proposal.kind for proposal in made.proposals}}
        self._mind_edits(found, options)
        moves = _moves(made.proposals, record, found, self.disk)
        then = {
            proposal.kind: Installed(tuple(str(one) for one in proposal.servers), options.domains, proposal.changes)
            for proposal in made.proposals
        }
        changed = [proposal for proposal in made.proposals if moves[proposal.kind]]
        self._show(made.proposals, moves)
        all_moves = tuple(move for each in moves.values() for move in each)
        if not all_moves:
            self._say("already so; nothing to change")
            return
        steps = Steps(
            tuple(check for proposal in changed for check in proposal.checks),
            tuple(proposal.reload for proposal in changed if proposal.reload),
            lambda: self._prove(facts, changed, options),
        )
        if self._agreed(steps):
            self._keep_edits(found)
            self._applier.apply(record, all_moves, {**record.installed, **then}, steps)
            self._say(f"done: {', '.join(proposal.kind for proposal in changed)}")

    def _plan(self, facts: Facts, record: Record, options: Options) -> Plan:
        servers = self.servers(facts, options)
        wishes = Wishes(
            servers, options.domains, bool(options.servers), options.search, options.restart_docker, options.reload_with
        )
        own = {}
        if not options.servers:  # once wired to a server, a host stays with it until told otherwise
            for name, installed in record.installed.items():
                kept = self.asked(facts, options, (address(text) for text in installed.servers))
                own[name] = wishes._replace(servers=kept, chosen=True)
        made = plan(facts, wishes, options.kinds, own)
        needed = {name: why for name, why in made.refused.items() if options.kinds or name not in OF_CONTAINERS}
        if needed or not made.proposals:
            text = "\n".join(f"{name}: {why}" for name, why in (needed or made.refused).items())
            reached = any(server.reached for server in servers)
            raise (CannotStart if reached else CannotReach)(text)
        for name, why in made.refused.items():
            self._say(f"{name} is left out: {why}")
        return made

    def _show(self, proposals: Iterable[Proposal], moves: Mapping[str, tuple[Change, ...]]) -> None:
        for proposal in proposals:
            diff = show.changes(moves[proposal.kind])
            self._say(f"{proposal.kind}: asks {', '.join(str(server) for server in proposal.servers)}")
            if diff:
                self._say(diff.rstrip("\n"))
            for note in proposal.notes:
                self._say(f"note: {note}")
            if proposal.later:
                self._say(f"left to you: {proposal.later}")

    def _prove(self, facts: Facts, proposals: Iterable[Proposal], options: Options) -> None:
        for proposal in proposals if facts.live else ():
            server = proposal.servers[0]
            for domain in options.domains if proposal.proofs else ():
                wanted = io_ask.primary(server.ip, server.port, domain)
                if not wanted:
                    raise Failed(f"{server} no longer answers for {domain}")
                for proof in proposal.proofs:
                    self._until(
                        functools.partial(_gives, proof, domain, wanted),
                        f"{join_host_port(proof.ip, proof.port)} does not give our answer for {domain}",
                    )
            if proposal.needs_outside:
                self._prove_outside(proposal, options)
            if proposal.kind == resolv_conf.NAME and (name := self.known_name(server, options)):
                self._until(functools.partial(io_ask.system_addresses, name), f"getaddrinfo does not find {name}")

    # Before the change our server could forward, perhaps to a resolver that now forwards to it: a circle. Caches hide
    # that for a while, so a name is asked for that is in none.
    def _prove_outside(self, proposal: Proposal, options: Options) -> None:
        asked = [(server.ip, server.port) for server in proposal.servers] + [(at.ip, at.port) for at in proposal.proofs]
        for ip, port in dict.fromkeys(asked):
            self._until(
                functools.partial(_resolves_others, ip, port, options.outside),
                f"{join_host_port(ip, port)} does not resolve other names any more: do its forwarders (--forward) ask"
                " this host's resolver, and so our server again? Name servers elsewhere, or --outside NAME",
            )

    def known_name(self, server: Server, options: Options) -> str:
        """A name of ours that has an address; empty when none that we know of has."""
        names = (
            name if any(f".{name}".endswith(f".{domain}") for domain in options.domains) else f"{name}.{domain}"
            for domain in options.domains
            for name in options.names
        )
        return next((name for name in names if io_ask.addresses(server.ip, server.port, name)), "")

    def _until(self, condition: Callable[[], object], otherwise: str) -> None:
        deadline = time.monotonic() + PROOF_S
        while not condition():
            if time.monotonic() >= deadline:
                raise Failed(f"after {PROOF_S:g} s {otherwise}")
            time.sleep(POLL_S)

    # --- remove

    def _remove(self, options: Options) -> None:
        record = self._recorded(options)
        names = [name for name in options.kinds or record.installed if name in record.installed]
        if not names:
            self._say("nothing of ours is installed" + (f" for {', '.join(options.kinds)}" if options.kinds else ""))
            return
        found = {name: one for name, one in self.found(record).items() if name in names}
        self._mind_edits(found, options)
        for name in names:
            for change in found[name].given_up:
                self._say(f"{name}: {change.path} has nothing of ours any more, and is left as it is")
        moves = tuple(move for name in names for move in removing(record.installed[name], found[name], self.disk.state))
        self._say(show.changes(moves).rstrip("\n"))
        steps = Steps(reloads=self._reloads(names if moves else (), options))
        if self._agreed(steps):
            self._keep_edits(found)
            then = {name: one for name, one in record.installed.items() if name not in names}
            self._applier.apply(record, moves, then, steps)
            self._say(f"removed: {', '.join(names)}")
            if OF_CONTAINERS & set(names) and not steps.reloads:
                self._say("left to you: restart the Docker engine; it reads dns only when it starts")

    # --- both

    def _recorded(self, options: Options) -> Record:
        if self._confirm is not None:
            return self.record(options)
        record = self.file.load()
        if record.pending is not None:
            raise Failed("an install or remove was interrupted: `pilotfish resolver status` as root takes it back")
        return record

    def _reloads(self, kinds: Iterable[str], options: Options) -> tuple[Command, ...]:
        facts = detect(self.disk)
        wishes = Wishes((), (), restart_docker=options.restart_docker, reload_with=options.reload_with)
        found = (KINDS[name].reload(facts, wishes) for name in kinds if name in KINDS)
        return tuple(command for command in found if command is not None)

    def _mind_edits(self, found: Mapping[str, Found], options: Options) -> None:
        edited = [change for one in found.values() for change in one.edited]
        if not edited or options.force:
            return
        text = show.changes(Change(change.path, change.after, self.disk.state(change.path)) for change in edited)
        paths = ", ".join(change.path for change in edited)
        raise Failed(f"{text}{paths} was changed since (above); take that back, or use --force (a copy is kept)")

    def _keep_edits(self, found: Mapping[str, Found]) -> None:
        for change in (change for one in found.values() for change in one.edited):
            try:
                where = self.file.put_aside(change.path, self.disk.state(change.path))
            except OSError as error:
                raise Failed(f"cannot keep a copy of {change.path}: {error.strerror}") from error
            self._say(f"{change.path} as it was edited is kept in {where}")

    def _agreed(self, steps: Steps) -> bool:
        text = show.commands((*steps.checks, *steps.reloads)).rstrip("\n")
        if text:
            self._say(text)
        if self._confirm is None:
            self._say("dry run: nothing was changed")
            return False
        if not self._confirm():
            raise Failed("nothing was changed (--yes goes on without asking)")
        return True


def _resolves_others(ip: str, port: int, outside: str) -> bool:
    return not io_ask.unknown_outside(ip, port, outside)


def settled(options: Options, record: Record) -> Options:
    """Options with the domains that this host is wired for, when none was named."""
    domains = tuple(dict.fromkeys(domain for one in record.installed.values() for domain in one.domains))
    return options._replace(domains=domains) if options.stays and domains else options


def _gives(proof: Proof, domain: str, wanted: str) -> bool:
    return io_ask.primary(proof.ip, proof.port, domain, patience_s=1.0, tries=1) == wanted


def _moves(
    proposals: Iterable[Proposal], record: Record, found: Mapping[str, Found], disk: Disk
) -> dict[str, tuple[Change, ...]]:
    """Kind -> the moves from what is there to what is proposed, and away from what was installed for it elsewhere."""
    moves = {}
    for proposal in proposals:
        paths = {change.path for change in proposal.changes}
        wanted = [Change(change.path, disk.state(change.path), change.after) for change in proposal.changes]
        installed = record.installed.get(proposal.kind)
        if installed is not None:
            away = removing(installed, found[proposal.kind], disk.state)
            wanted += [move for move in away if move.path not in paths]
        moves[proposal.kind] = tuple(move for move in wanted if not same(move.before, move.after))
    return moves


def _is_ours(name: str, servers: tuple[str, ...], state: State) -> bool:
    kind = KINDS.get(name)
    return kind is None or kind.is_ours(state, servers)


def address(text: str) -> tuple[str, int]:
    """The address and port of a server as the record keeps it."""
    ip, _, port = text.rpartition(":")
    return ip.strip("[]"), int(port)


def _in_order(at: Iterable[tuple[str, int]], facts: Facts) -> tuple[tuple[str, int], ...]:
    """Loopback first, then the addresses by which other hosts know this one, then the rest."""

    def rank(where: tuple[str, int]) -> tuple[bool, bool, bool]:
        server = Server(*where)
        return (not server.is_loopback, server.ip not in facts.addresses, ":" in server.ip)

    return tuple(sorted(at, key=rank)[:MAX_SERVERS])
