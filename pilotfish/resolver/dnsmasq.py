"""dnsmasq (dnsmasq(8)): a drop-in with `server=/DOMAIN/ADDR#PORT`, so that only our names come to us.

It does not validate such a domain unless a trust anchor is given for it, and reads its configuration only at its start.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from pilotfish.resolver.facts import RESOLV_CONF, Facts, Process, Server, Wishes
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

MAIN = "/etc/dnsmasq.conf"
DEBIAN_FOLDER = "/etc/dnsmasq.d"
MANAGED_FOLDER = "/etc/NetworkManager/dnsmasq.d"
FILE = "pilotfish.conf"


def host_resolver(facts: Facts) -> Process | None:
    """The dnsmasq that resolves for the host; those of libvirt and the like have a file of their own."""
    for process in facts.processes:
        if process.name == "dnsmasq" and (_folders(process.argv) or _main(process.argv) == MAIN):
            return process
    return None


def _values(argv: Sequence[str], long: str, short: str) -> Iterator[str]:
    """Values of an option: `--long=x`, `--long x`, `-s x`, `-sx`."""
    for at, word in enumerate(argv):
        if word in {long, short} and at + 1 < len(argv):
            yield argv[at + 1]
        elif word.startswith(f"{long}="):
            yield word.partition("=")[2]
        elif word.startswith(short) and not word.startswith("--") and len(word) > 2:
            yield word[2:]


def _main(argv: Sequence[str]) -> str:
    return next(_values(argv, "--conf-file", "-C"), MAIN)


def _folders(argv: Sequence[str]) -> list[str]:
    return [value.partition(",")[0].rstrip("/") for value in _values(argv, "--conf-dir", "-7")]


def files(facts: Facts) -> tuple[str, str | None]:
    """The main file, and the folder of drop-ins if dnsmasq reads one."""
    process = host_resolver(facts)
    argv = process.argv if process else ()
    main = _main(argv)
    said = [*_folders(argv), *(value.partition(",")[0].rstrip("/") for value in _told(facts, [main], "conf-dir"))]
    if said:
        return main, said[0]
    # Debian's start script names this folder, whatever the file says.
    debian = process is None and facts.exists(DEBIAN_FOLDER)
    return main, DEBIAN_FOLDER if debian else None


def _told(facts: Facts, paths: Sequence[str], key: str) -> list[str]:
    found = []
    for path in paths:
        for line in facts.text(path).splitlines():
            name, equals, value = line.partition("#")[0].partition("=")
            if equals and name.strip() == key:
                found.append(value.strip())
    return found


def _propose(facts: Facts, wishes: Wishes) -> Proposal:
    main, folder = files(facts)
    if folder is None and not facts.exists(main):
        raise Refused(f"there is no {main}; is dnsmasq installed?")

    def fits(server: Server) -> str:
        at = _listens(facts)
        return f"dnsmasq itself listens at {at.ip}:{at.port}" if (server.ip, server.port) == tuple(at) else ""

    servers = usable(wishes, fits)
    rules = [f"server=/{domain}/{server.ip}#{server.port}" for domain in wishes.domains for server in servers]
    rules += [f"rebind-domain-ok=/{domain}/" for domain in wishes.domains]
    block = HEAD + "\n".join(rules) + "\n"
    changes = write(facts, posixpath.join(folder, FILE), block) if folder is not None else append(facts, main, block)
    command = _reload(facts, wishes)
    return Proposal(
        NAME,
        servers,
        changes,
        checks=_checks(facts),
        reload=command,
        proofs=(_listens(facts),) if command else (),
        later="" if command or not facts.live else "restart dnsmasq: it reads its configuration only when it starts",
        notes=tuple(_notes(facts, wishes)),
    )


def _checks(facts: Facts) -> tuple[Command, ...]:
    if not facts.live or "dnsmasq" not in facts.programs:
        return ()
    main, folder = files(facts)
    argv = ["dnsmasq", "--test", f"--conf-file={main}", *([f"--conf-dir={folder}"] if folder else [])]
    return (Command(tuple(argv), "have dnsmasq check its configuration"),)


def _listens(facts: Facts) -> Proof:
    main, folder = files(facts)
    paths = [main, *(facts.below(folder) if folder else ())]
    process = host_resolver(facts)
    argv = process.argv if process else ()
    ports = [*_values(argv, "--port", "-p"), *_told(facts, paths, "port")]
    addresses = [*_values(argv, "--listen-address", "-a"), *_told(facts, paths, "listen-address")]
    first = addresses[0].partition(",")[0] if addresses else "127.0.0.1"
    return Proof(first, int(ports[0]) if ports and ports[0].isdecimal() else 53)


def _notes(facts: Facts, wishes: Wishes) -> list[str]:
    notes = local_trap(facts, wishes.domains)
    at = _listens(facts).ip
    if facts.live and at not in listed_in(facts):
        notes.append(f"{RESOLV_CONF} does not name dnsmasq ({at}): programs of this host do not ask it")
    if wishes.search:
        notes.append("--search: dnsmasq has no search list; put the domain into that of /etc/resolv.conf")
    return notes


def _reload(facts: Facts, wishes: Wishes) -> Command | None:
    process = host_resolver(facts)
    managed = process is not None and MANAGED_FOLDER in _folders(process.argv)
    if managed and NAME not in wishes.reload_with and "nmcli" in facts.programs:
        return Command(("nmcli", "general", "reload", "dns-full"), "make NetworkManager start its dnsmasq anew")
    known = process is not None or is_told_how(facts, wishes, NAME)
    return restart(facts, wishes, NAME, "dnsmasq") if known else None


def _is_used(facts: Facts) -> bool:
    at = _listens(facts)
    there = host_resolver(facts) is not None if facts.live else facts.exists(MAIN)
    return there and at.port != 0 and asks(facts, at.ip)


NAME = "dnsmasq"
KIND = Kind(NAME, _is_used, _propose, _reload, has_mark)
