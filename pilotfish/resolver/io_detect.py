"""Reads a host: the files that decide how it resolves names, and the programs that do it. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pilotfish.catalog.io_host import default_addresses
from pilotfish.resolver import dnsmasq, docker, systemd_resolved, unbound
from pilotfish.resolver.facts import RESOLV_CONF, Facts, Process
from pilotfish.resolver.io_disk import Disk, DiskTrouble
from pilotfish.resolver.state import Folder, Link, State

PATHS = (
    RESOLV_CONF,
    "/etc/nsswitch.conf",
    "/etc/hostname",
    systemd_resolved.MAIN,
    systemd_resolved.UPLINKS,
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/system",
    dnsmasq.MAIN,
    unbound.MAIN,
    docker.DEFAULT,
    *(f"/etc/init.d/{service}" for service in ("dnsmasq", "unbound", "docker", "systemd-resolved")),
)
FOLDERS = (*systemd_resolved.FOLDERS, dnsmasq.DEBIAN_FOLDER)
PROCESSES = frozenset(
    {
        *("systemd-resolve", "dnsmasq", "unbound", "dockerd"),
        *("NetworkManager", "dhclient", "dhcpcd", "connmand", "tailscaled"),
    }
)
PROGRAMS = ("systemctl", "rc-service", "service", "nmcli", "dnsmasq", "unbound-checkconf", "dockerd", "resolvectl")
VERSIONS = {"systemd": ("resolvectl", r"systemd (\d+)"), "docker": ("dockerd", r"version (\d+)")}
MAX_FILES = 200  # in one folder
VERSION_TIMEOUT_S = 10.0


def detect(disk: Disk, over: Mapping[str, State] | None = None) -> Facts:
    """Read the facts of a host.

    Args:
        disk: its files.
        over: path -> what to take for the state of that path, instead of what is there.

    Raises:
        DiskTrouble: a file that matters cannot be read.
    """
    live = str(disk.root) == "/"
    processes = tuple(_processes(disk))
    files: dict[str, State] = {}
    names = dict(over or {})
    for path in PATHS:
        _read(disk, path, files, names)
    for folder in FOLDERS:
        _list(disk, folder, files, names)
    facts = Facts(files, processes, live=live)
    # Where programs were told to look instead, or besides.
    for path in {dnsmasq.files(facts)[0], unbound.main_file(facts), docker.settings_file(facts)}:
        _read(disk, path, files, names)
    for more in {dnsmasq.files(facts)[1], unbound.included(facts)} - {None}:
        _list(disk, str(more), files, names)
    for path in names:
        _read(disk, path, files, names)
    programs = frozenset(name for name in PROGRAMS if live and shutil.which(name))
    return facts._replace(
        programs=programs,
        mounted=frozenset(_mounts(disk)),
        written=_written(disk, [docker.settings_file(facts)]),
        hostname=_hostname(facts),
        addresses=default_addresses() if live else (),
        versions=dict(_versions(programs)),
    )


def _read(disk: Disk, path: str, files: dict[str, State], over: Mapping[str, State]) -> None:
    """A path, where its links lead, and the folders above it."""
    for _ in range(8):
        if path in files:
            return
        files[path] = over[path] if path in over else disk.state(path)
        _above(disk, path, files, over)
        found = files[path]
        if not isinstance(found, Link):
            return
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))


def _above(disk: Disk, path: str, files: dict[str, State], over: Mapping[str, State]) -> None:
    folder = posixpath.dirname(path)
    while folder != "/" and folder not in files:
        found = over[folder] if folder in over else disk.state(folder)
        files[folder] = Folder() if isinstance(found, Link) and disk.real(folder).is_dir() else found
        folder = posixpath.dirname(folder)


def _list(disk: Disk, folder: str, files: dict[str, State], over: Mapping[str, State]) -> None:
    _above(disk, f"{folder}/x", files, over)
    try:
        names = sorted(path.name for path in disk.real(folder).iterdir())[:MAX_FILES]
    except OSError:
        return
    for name in names:
        if not name.startswith("."):
            with contextlib.suppress(DiskTrouble):  # a socket, a device: nobody's drop-in
                _read(disk, f"{folder}/{name}", files, over)


def _processes(disk: Disk) -> Iterator[Process]:
    """Programs in our own network: those of containers, and of other hosts of a lab, are not this host's."""
    proc = disk.real("/proc")
    own = _network(proc / "self")
    try:
        pids = sorted(int(path.name) for path in proc.iterdir() if path.name.isdecimal())
    except OSError:
        return
    for pid in pids:
        folder = proc / str(pid)
        with contextlib.suppress(OSError):
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
            if name in PROCESSES and _network(folder) == own:
                words = (folder / "cmdline").read_bytes()[: 1 << 16].split(b"\0")
                argv = tuple(os.fsdecode(word) for word in words if word)
                yield Process(pid, name, argv, _started(proc, folder))


def _started(proc: Path, folder: Path) -> float:
    """When a process began, in seconds since 1970 (proc(5): stat, field 22, in ticks since boot)."""
    ticks = int((folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    boot = re.search(r"^btime (\d+)$", (proc / "stat").read_text(encoding="ascii"), re.MULTILINE)
    return (int(boot[1]) if boot else 0) + ticks / os.sysconf("SC_CLK_TCK")


def _network(folder: Path) -> str:
    try:
        return str((folder / "ns/net").readlink())
    except OSError:
        return ""


def _mounts(disk: Disk) -> Iterator[str]:
    with contextlib.suppress(OSError):
        text = disk.real("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        yield from (words[4] for line in text.splitlines() if len(words := line.split()) > 4 and words[4] in PATHS)


def _written(disk: Disk, paths: Iterable[str]) -> dict[str, float]:
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found[path] = disk.real(path).stat().st_mtime
    return found


def _hostname(facts: Facts) -> str:
    return socket.gethostname() if facts.live else facts.text("/etc/hostname").strip()


def _versions(programs: frozenset[str]) -> Iterator[tuple[str, int]]:
    for what, (program, pattern) in VERSIONS.items():
        if program in programs:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(  # noqa: S603  a program of the table above
                    [program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
                )
                found = re.search(pattern, done.stdout)
                if found:
                    yield what, int(found[1])
