"""systemd-resolved (resolved.conf(5)): a drop-in with our servers and a routing domain for our names.

Its server list is one for the whole host: of several global servers it asks one at a time, whichever answered last, so
ours can stand there only alone. Names without a routing domain go to the links' own servers, and beside them to the
global one: we are asked too, say REFUSED, and the other answer wins.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from pilotfish.catalog.values import join_host_port
from pilotfish.resolver.facts import RESOLV_CONF, STUBS, Facts, Server, Wishes
from pilotfish.resolver.plan import (
    HEAD,
    Command,
    Kind,
    Proof,
    Proposal,
    Refused,
    has_mark,
    is_told_how,
    listed_in,
    local_trap,
    must_forward,
    restart,
    usable,
    write,
)

DROP_IN = "/etc/systemd/resolved.conf.d/pilotfish.conf"
MAIN = "/etc/systemd/resolved.conf"
FOLDERS = tuple(f"{top}/systemd/resolved.conf.d" for top in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
UPLINKS = "/run/systemd/resolve/resolv.conf"
OWN_FILES = frozenset({"stub-resolv.conf", "resolv.conf"})
PORTS_SINCE = 246  # systemd's NEWS: DNS= takes a port
SERVICE = "systemd-resolved"
COMM = "systemd-resolve"  # the kernel keeps 15 characters
# Where resolved does not validate by itself (its built-in negative trust anchors); dnssec-trust-anchors.d(5).
UNSIGNED = ("corp", "home", "internal", "intranet", "lan", "local", "private", "test", "home.arpa", "in-addr.arpa")


class Told(NamedTuple):
    """What resolved's files say, ours left out.

    Attributes:
        servers: global DNS servers.
        domains: global search and routing domains.
        stub: the stub listener at 127.0.0.53 is on, for UDP.
        dnssec: validation is on.
    """

    servers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    stub: bool = True
    dnssec: bool = False


def told(facts: Facts) -> Told:
    """Read resolved's main file and drop-ins in the order in which it reads them: by name, wherever they are."""
    servers: list[str] = []
    domains: list[str] = []
    last: dict[str, str] = {}
    for key, value in _settings(facts):
        if key in {"DNS", "Domains"}:
            into = servers if key == "DNS" else domains
            into.clear() if not value else into.extend(value.split())
        else:
            last[key] = value.lower()
    no = {"no", "false", "0", "off"}
    return Told(
        tuple(servers),
        tuple(domains),
        last.get("DNSStubListener", "yes") not in no | {"tcp"},
        last.get("DNSSEC", "no") not in no,
    )


def _settings(facts: Facts) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in facts.below(folder, ".conf"):
            found.setdefault(posixpath.basename(path), path)  # /etc hides the same name elsewhere
    for path in (MAIN, *(found[name] for name in sorted(found) if found[name] != DROP_IN)):
        for line in facts.text(path).splitlines():
            key, equals, value = line.partition("=")
            if equals and line[:1] not in {"#", ";"}:
                yield key.strip(), value.strip()


def _fits(facts: Facts) -> str:
    version = facts.versions.get("systemd", 0)
    return (
        f"systemd {version} knows no ports in DNS=, only {PORTS_SINCE} and later do"
        if 0 < version < PORTS_SINCE
        else ""
    )


def _propose(facts: Facts, wishes: Wishes) -> Proposal:
    def fits(server: Server) -> str:
        if server.ip in STUBS:
            return "this is systemd-resolved itself: have our server listen elsewhere"
        return _fits(facts) if server.port != 53 else ""

    servers = usable(wishes, fits)
    others = told(facts)
    if others.servers:
        raise Refused(
            f"DNS={' '.join(others.servers)} is set for the whole host (in {MAIN} or a drop-in), and systemd-resolved"
            " would ask one of all these servers for our names, not ours: give those servers to a link instead"
            " (DNS= in its .network file, or its connection in NetworkManager)"
        )
    whose = ""
    if not _uplinks(facts, servers):
        whose = "this host: no link has a DNS server,"
    elif others.domains:
        whose = f"{' '.join(others.domains)} (Domains= without DNS= in {MAIN} or a drop-in)"
    if whose:
        must_forward(servers, whose)
    prefix = "" if wishes.search else "~"
    text = (
        f"{HEAD}[Resolve]\nDNS={' '.join(join_host_port(server.ip, server.port) for server in servers)}\n"
        f"Domains={' '.join(prefix + domain for domain in wishes.domains)}\n"
    )
    command = _reload(facts, wishes)
    return Proposal(
        NAME,
        servers,
        write(facts, DROP_IN, text),
        reload=command,
        proofs=(Proof("127.0.0.53", 53),) if others.stub and command else (),
        needs_outside=bool(whose),
        later="" if command or not facts.live else f"restart {SERVICE}",
        notes=tuple(_notes(facts, wishes, others)),
    )


def _uplinks(facts: Facts, servers: tuple[Server, ...]) -> list[str]:
    """Servers of links. Those of a resolv.conf that is not resolved's are believed only while DNS= is empty."""
    ours = {server.ip for server in servers}
    foreign = () if leads_here(facts) else listed_in(facts)
    return [ip for ip in listed_in(facts, UPLINKS) if ip not in ours and ip not in foreign]


def leads_here(facts: Facts) -> bool:
    """True when this host's resolv.conf is resolved's own, or names its stub."""
    target = facts.target(RESOLV_CONF)
    own = target.startswith("/run/systemd/resolve/") and posixpath.basename(target) in OWN_FILES
    return own or target.endswith("/systemd/resolv.conf") or any(ip in STUBS for ip in listed_in(facts))


def _asks(facts: Facts) -> bool:
    """True when programs of this host ask resolved, by the stub or by nss-resolve."""
    hosts = [line.split() for line in facts.text("/etc/nsswitch.conf").splitlines() if line.startswith("hosts:")]
    return any("resolve" in words for words in hosts) or leads_here(facts)


def _notes(facts: Facts, wishes: Wishes, others: Told) -> list[str]:
    notes = local_trap(facts, wishes.domains)
    if not _asks(facts):
        notes.append(
            f"{RESOLV_CONF} does not lead to systemd-resolved: only programs that ask it themselves will know our names"
            " (ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf)"
        )
    if facts.target(RESOLV_CONF) == UPLINKS:
        notes.append(f"{RESOLV_CONF} is a link to {UPLINKS}, which lists name servers without their domains")
    if others.dnssec:
        signed = [domain for domain in wishes.domains if not any(f".{domain}".endswith(f".{end}") for end in UNSIGNED)]
        notes += [
            f"DNSSEC= is on and {domain} is not signed: name it in /etc/dnssec-trust-anchors.d/*.negative"
            " (such a file replaces the built-in list)"
            for domain in signed
        ]
    return notes


def _reload(facts: Facts, wishes: Wishes) -> Command | None:
    known = facts.process(COMM) or is_told_how(facts, wishes, NAME)
    return restart(facts, wishes, NAME, SERVICE) if known else None


def _is_used(facts: Facts) -> bool:
    return _asks(facts) if not facts.live else facts.process(COMM) is not None and _asks(facts)


NAME = "systemd-resolved"
KIND = Kind(NAME, _is_used, _propose, _reload, has_mark)
