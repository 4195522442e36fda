"""What is known of a host: files, processes, the answers of servers. Read once, then only looked at. Pure."""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Mapping
from typing import NamedTuple

from pilotfish.catalog.values import join_host_port
from pilotfish.resolver.state import ABSENT, File, Link, State

MAX_LINKS = 8
RESOLV_CONF = "/etc/resolv.conf"
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})  # systemd-resolved.service(8)


class Server(NamedTuple):
    """A DNS server of ours, and what it said when it was asked.

    Attributes:
        trouble: why it cannot be used at all; empty when it answers for all our domains.
        outside: why it cannot be the only resolver; empty when it answers for other names.
        reached: an answer came at all.
    """

    ip: str
    port: int
    trouble: str = ""
    outside: str = ""
    reached: bool = True

    def __str__(self) -> str:
        return join_host_port(self.ip, self.port)

    @property
    def is_loopback(self) -> bool:
        """Reached from this host only."""
        return ipaddress.ip_address(self.ip).is_loopback


class Process(NamedTuple):
    """A program that runs in this host's network."""

    pid: int
    name: str
    argv: tuple[str, ...] = ()
    started: float = 0.0


class Facts(NamedTuple):
    """A host as it was found.

    Attributes:
        files: path -> what is there; only paths that matter.
        processes: those that matter.
        programs: names of programs that can be run.
        mounted: paths that something is mounted on.
        written: path -> time of its last change, for files that a running program has read.
        hostname: with its domain, if it has one.
        addresses: by which other hosts reach this one.
        versions: program -> major version, where it was asked.
        live: this is the running host, not the file system of another.
    """

    files: Mapping[str, State]
    processes: tuple[Process, ...] = ()
    programs: frozenset[str] = frozenset()
    mounted: frozenset[str] = frozenset()
    written: Mapping[str, float] = {}
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    versions: Mapping[str, int] = {}
    live: bool = True

    def at(self, path: str) -> State:
        """What is at a path."""
        return self.files.get(path, ABSENT)

    def target(self, path: str) -> str:
        """Where links from a path lead in the end."""
        for _ in range(MAX_LINKS):
            found = self.at(path)
            if not isinstance(found, Link):
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))
        return path

    def text(self, path: str) -> str:
        """The text of a file, through links; empty when there is none.

        What is no UTF-8 is written back as it was (PEP 383).
        """
        found = self.at(self.target(path))
        return found.data.decode("utf-8", "surrogateescape") if isinstance(found, File) else ""

    def exists(self, path: str) -> bool:
        """True when there is something."""
        return self.at(path) != ABSENT

    def below(self, folder: str, ending: str = "") -> list[str]:
        """Files and links right in a folder, in the order of their names."""
        found = (path for path, state in self.files.items() if isinstance(state, File | Link))
        return sorted(path for path in found if posixpath.dirname(path) == folder and path.endswith(ending))

    def process(self, *names: str) -> Process | None:
        """The first process of one of these names."""
        return next((process for process in self.processes if process.name in names), None)

    @property
    def systemd(self) -> bool:
        """Services are systemd's."""
        return self.live and self.exists("/run/systemd/system") and "systemctl" in self.programs


class Wishes(NamedTuple):
    """What was asked for.

    Attributes:
        servers: ours, in order of preference.
        chosen: they were named by the caller: all of them are used, or it is an error.
        domains: whose names shall be asked of them.
        search: short names too: put the domains on the search list.
        restart_docker: the engine may be restarted.
        reload_with: kind -> command that makes its program read its files anew, instead of ours.
    """

    servers: tuple[Server, ...]
    domains: tuple[str, ...]
    chosen: bool = True
    search: bool = False
    restart_docker: bool = False
    reload_with: Mapping[str, tuple[str, ...]] = {}
