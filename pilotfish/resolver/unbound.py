"""Unbound (unbound.conf(5)): a drop-in with a stub zone for each of our domains, so that only our names come to us.

We are authoritative, so it is a stub zone and not a forward zone: it asks without RD, and follows aliases out of our
domain itself. The names are not signed below a signed root (`domain-insecure`), lead to private addresses
(`private-domain`), and a server at loopback is not asked unless told so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from pilotfish.resolver.facts import RESOLV_CONF, Facts, Server, Wishes
from pilotfish.resolver.plan import (
    HEAD,
    Command,
    Kind,
    Proof,
    Proposal,
    Refused,
    append,
    asks,
    has_mark,
    is_told_how,
    listed_in,
    local_trap,
    restart,
    usable,
    write,
)

MAIN = "/etc/unbound/unbound.conf"
FILE = "pilotfish.conf"
WORDS = re.compile(r'^[ \t]*([a-z0-9-]+):[ \t]*(?:"([^"]*)"|(\S+))', re.MULTILINE)


def main_file(facts: Facts) -> str:
    """The file that the running unbound was started with."""
    process = facts.process("unbound")
    argv = process.argv if process else ()
    for at, word in enumerate(argv):
        if word == "-c" and at + 1 < len(argv):
            return argv[at + 1]
        if word.startswith("-c") and len(word) > 2:
            return word[2:]
    return MAIN


def included(facts: Facts) -> str | None:
    """The folder whose `*.conf` files unbound reads besides; None when there is none."""
    for key, value in _words(facts, [main_file(facts)]):
        if key in {"include", "include-toplevel"} and value.endswith("/*.conf"):
            return posixpath.dirname(value)
    return None


def _words(facts: Facts, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        text = "\n".join(line.partition("#")[0] for line in facts.text(path).splitlines())
        for found in WORDS.finditer(text):
            yield found[1], found[2] or found[3] or ""


def block(domains: Sequence[str], servers: Sequence[Server]) -> str:
    """What is added to unbound's configuration."""
    lines = ["server:"]
    for domain in domains:
        lines += [f'    domain-insecure: "{domain}."', f'    private-domain: "{domain}."']
        lines += [f'    local-zone: "{domain}." transparent']  # else a zone of its own (RFC 6303) may hide it
    if any(server.is_loopback for server in servers):
        lines += ["    do-not-query-localhost: no"]
    for domain in domains:
        lines += ["stub-zone:", f'    name: "{domain}."']
        lines += [f"    stub-addr: {server.ip}@{server.port}" for server in servers]
    return HEAD + "\n".join(lines) + "\n"


def _propose(facts: Facts, wishes: Wishes) -> Proposal:
    main, folder = main_file(facts), included(facts)
    if not facts.exists(main):
        raise Refused(f"there is no {main}; is unbound installed?")
    at = _listens(facts)

    def fits(server: Server) -> str:
        return f"unbound itself listens at {at.ip}:{at.port}" if (server.ip, server.port) == tuple(at) else ""

    servers = usable(wishes, fits)
    text = block(wishes.domains, servers)
    changes = write(facts, posixpath.join(folder, FILE), text) if folder is not None else append(facts, main, text)
    command = _reload(facts, wishes)
    checks = (
        (Command(("unbound-checkconf", main), "have unbound check its configuration"),)
        if facts.live and "unbound-checkconf" in facts.programs
        else ()
    )
    return Proposal(
        NAME,
        servers,
        changes,
        checks=checks,
        reload=command,
        proofs=(at,) if command else (),
        later="" if command or not facts.live else "reload unbound (unbound-control reload)",
        notes=tuple(_notes(facts, wishes, at.ip)),
    )


def _listens(facts: Facts) -> Proof:
    main, folder = main_file(facts), included(facts)
    words = list(_words(facts, [main, *(facts.below(folder, ".conf") if folder else ())]))
    ports = [value for key, value in words if key == "port" and value.isdecimal()]
    addresses = [value for key, value in words if key in {"interface", "ip-address"}]
    ip, _, own_port = (addresses[0] if addresses else "127.0.0.1").partition("@")
    ip = {"0.0.0.0": "127.0.0.1", "::0": "::1", "::": "::1"}.get(ip, ip)
    port = own_port or (ports[0] if ports else "53")
    return Proof(ip, int(port) if port.isdecimal() else 53)


def _notes(facts: Facts, wishes: Wishes, at: str) -> list[str]:
    notes = local_trap(facts, wishes.domains)
    if facts.live and at not in listed_in(facts):
        notes.append(f"{RESOLV_CONF} does not name unbound ({at}): programs of this host do not ask it")
    if wishes.search:
        notes.append("--search: unbound has no search list; put the domain into that of /etc/resolv.conf")
    return notes


def _reload(facts: Facts, wishes: Wishes) -> Command | None:
    command = restart(facts, wishes, NAME, "unbound", reload=True)
    process = facts.process("unbound")
    if command is None and facts.live and process is not None:
        return Command(("sh", "-c", f"kill -HUP {process.pid}"), "make unbound read its files", lasts=False)
    return command if process is not None or is_told_how(facts, wishes, NAME) else None


def _is_used(facts: Facts) -> bool:
    there = facts.process("unbound") is not None if facts.live else facts.exists(MAIN)
    return there and asks(facts, _listens(facts).ip)


NAME = "unbound"
KIND = Kind(NAME, _is_used, _propose, _reload, has_mark)
