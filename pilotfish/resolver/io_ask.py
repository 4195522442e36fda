"""Asks: a DNS server over UDP, the host's own resolver by getaddrinfo, and a running part for where it listens."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pilotfish.catalog.values import is_ip
from pilotfish.resolver import question
from pilotfish.resolver.facts import Server
from pilotfish.resolver.question import Answer, BadAnswer

PATIENCE_S = 2.0
TRIES = 3
SYSTEM_PATIENCE_S = 15.0  # glibc alone waits 5 s for each server, twice
GETADDRINFO = (
    "import socket, sys\n"
    "found = socket.getaddrinfo(sys.argv[1], None, type=socket.SOCK_STREAM)\n"
    "print('\\n'.join(dict.fromkeys(one[4][0] for one in found)))"
)


def ask(
    ip: str, port: int, name: str, kind: str, *, patience_s: float = PATIENCE_S, tries: int = TRIES
) -> Answer | None:
    """Ask a name server over UDP; None when nothing that is an answer came."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    for _ in range(tries):
        number = secrets.randbelow(1 << 16)
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            try:
                asking.connect((ip, port))  # so that a port nobody has is known at once
                asking.send(question.ask(number, name, kind))
                found = _receive(asking, number, name, kind, time.monotonic() + patience_s)
            except OSError:
                time.sleep(patience_s / 20)
                continue
        if found is not None:
            return found
    return None


def _receive(asking: socket.socket, number: int, name: str, kind: str, deadline: float) -> Answer | None:
    while (left := deadline - time.monotonic()) > 0:
        asking.settimeout(left)
        try:
            return question.read(asking.recv(question.LARGEST), number, name, kind)
        except BadAnswer:
            continue
        except TimeoutError:
            break
    return None


def examine(ip: str, port: int, domains: Sequence[str], outside: str) -> Server:
    """What one of our servers says of our domains, and of a name that is not ours.

    Args:
        ip: its address.
        port: its port.
        domains: it must have all of them.
        outside: a name outside our domains; `.` asks for the root's name servers.
    """
    for domain in domains:
        found = ask(ip, port, domain, "SOA")
        if found is None:
            return Server(
                ip, port, "nothing answers there; start `pilotfish dns`, or name it with --server", reached=False
            )
        if not _is_top(found):
            return Server(ip, port, _wrong(found, domain))
    return Server(ip, port, "", _outside(ask(ip, port, outside, "NS" if outside == "." else "A"), outside))


def unknown_outside(ip: str, port: int, outside: str) -> str:
    """Ask for a name outside our domains that is in no cache, and most likely does not exist.

    It has two labels at least: some resolvers never ask anybody for a name of one.

    Args:
        ip: of a server, or of a resolver.
        port: its port.
        outside: see `examine`; the name is below it.

    Returns:
        Why other names are not resolved there; empty when they are.
    """
    name = ".".join([secrets.token_hex(8), secrets.token_hex(8), *outside.strip(".").split(".")]).rstrip(".")
    return _outside(ask(ip, port, name, "A"), name)


def _is_top(answer: Answer) -> bool:
    return answer.rcode == "NOERROR" and answer.authoritative and bool(answer.records)


def _wrong(answer: Answer, domain: str) -> str:
    if answer.rcode == "SERVFAIL":
        return f"it has no data of {domain} yet (SERVFAIL): it must reach its store first"
    said = answer.rcode if answer.rcode != "NOERROR" else "an answer without authority"
    return f"it is no server of {domain} ({said}); is that its --domain?"


def _outside(answer: Answer | None, name: str) -> str:
    if answer is None:
        return f"it says nothing when asked for {name!r}"
    if not answer.recursion:
        return f"it does not forward other names ({answer.rcode}, RA=0)"
    if answer.rcode not in {"NOERROR", "NXDOMAIN"}:
        return f"its forwarders gave {answer.rcode} for {name!r} (--outside NAME asks for another name)"
    return ""


def primary(ip: str, port: int, domain: str, *, patience_s: float = PATIENCE_S, tries: int = TRIES) -> str:
    """The primary server that the SOA of a domain names, as a resolver tells it; empty when it does not."""
    found = ask(ip, port, domain, "SOA", patience_s=patience_s, tries=tries)
    return found.records[0] if found is not None and found.rcode == "NOERROR" and found.records else ""


def addresses(ip: str, port: int, name: str) -> tuple[str, ...]:
    """Addresses of a name as a server gives them, IPv4 first."""
    found = (ask(ip, port, name, kind) for kind in ("A", "AAAA"))
    return tuple(record for answer in found if answer is not None for record in answer.records)


def system_addresses(name: str) -> tuple[str, ...]:
    """Addresses of a name as programs of this host get them (getaddrinfo).

    A fresh process asks: what a long-lived one knows of nsswitch.conf is as old as itself.
    """
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter, a fixed program, one name
            [sys.executable, "-I", "-S", "-c", GETADDRINFO, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SYSTEM_PATIENCE_S,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
        )
    except (subprocess.TimeoutExpired, OSError):
        return ()
    return tuple(line for line in done.stdout.split() if is_ip(line)) if done.returncode == 0 else ()


def listening(statuses: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Where a DNS server that runs on this host listens, as its status server says; empty when none says."""
    for ip, port in statuses:
        connection = http.client.HTTPConnection(ip, port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/api/state")
            state = json.loads(connection.getresponse().read(1 << 22))
        except (OSError, http.client.HTTPException, ValueError):
            continue
        finally:
            connection.close()
        found = sockets(state)
        if found:
            return found
    return ()


def sockets(state: object) -> tuple[tuple[str, int], ...]:
    """Where a DNS server listens, out of what /api/state shows of it alone or among other parts."""
    own = state.get("dns", state) if isinstance(state, dict) else {}
    listed = own.get("listening") if isinstance(own, dict) else None
    found = []
    for text in listed if isinstance(listed, list) else ():
        ip, _, port = str(text).rpartition(":")
        ip = ip.strip("[]")
        if is_ip(ip) and port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16:
            found.append((ip, int(port)))
    return tuple(found)
