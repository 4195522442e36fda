"""Hosts as trees of files: made, looked at whole, wired and unwired; and facts from a few lines."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pilotfish.resolver.facts import Facts, Process, Server, Wishes
from pilotfish.resolver.io_record import FOLDER, LOCK
from pilotfish.resolver.service import Options, Resolver
from pilotfish.resolver.state import FOLDER as A_FOLDER
from pilotfish.resolver.state import File, Link, State

MEMORY = Path("/dev/shm")
DOMAINS = ("svc.internal",)
OURS = Server("10.0.0.1", 53)
LOOPBACK = Server("127.0.0.1", 1053)
DEAF = "it does not forward other names (REFUSED, RA=0)"  # what `outside` says of a server without --forward
DOCKERD = Process(7, "dockerd", ("dockerd", "-H", "fd://"))
STUB = "../run/systemd/resolve/stub-resolv.conf"

# Every kind can be wired here at once.
HOST: dict[str, str | bytes | Path] = {
    "/etc/resolv.conf": Path(STUB),
    "/run/systemd/resolve/stub-resolv.conf": "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n",
    "/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.53\nsearch example.org\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
    "/etc/systemd/resolved.conf": "[Resolve]\n#DNS=\n",
    "/etc/dnsmasq.conf": "# nothing set\n",
    "/etc/dnsmasq.d/README": "",
    "/etc/unbound/unbound.conf": 'server:\n  interface: 127.0.0.1  # "here"\nport: 53\n',
    "/etc/docker/daemon.json": '{\n    "live-restore": true,\n    "dns": ["192.0.2.1"]\n}',
}
ALL = Options(
    kinds=("systemd-resolved", "dnsmasq", "unbound", "resolv.conf", "docker"), servers=((OURS.ip, OURS.port),)
)


def states(files: Mapping[str, str | bytes | Path]) -> dict[str, State]:
    """Files of a host as facts have them, with the folders above."""
    found: dict[str, State] = {}
    for path, content in files.items():
        for above in [*Path(path).parents][:-1]:
            found[str(above)] = A_FOLDER
        if isinstance(content, Path):
            found[path] = Link(str(content))
        else:
            found[path] = File.of(content.encode() if isinstance(content, str) else content)
    return found


def facts(files: Mapping[str, str | bytes | Path] | None = None, *processes: Process, **more: object) -> Facts:
    """Facts of a running host."""
    return Facts(states(files or {}), processes, **more)


def wishes(*servers: Server, **more: object) -> Wishes:
    """Wishes for some servers of ours, by default one that can do everything."""
    return Wishes(servers or (OURS,), DOMAINS, **more)


def make(root: Path, files: Mapping[str, str | bytes | Path] = HOST) -> Path:
    """Write a host's files below a folder."""
    for path, content in files.items():
        real = root / path.lstrip("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            real.symlink_to(content)
        else:
            real.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder in memory, where there is such a place: every change is flushed, and there are thousands."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-test-", dir="/dev/shm" if MEMORY.is_dir() else None) as name:
        yield Path(name)


def tree(root: Path) -> dict[str, object]:
    """Everything below a folder but the lock: path -> octets and mode, target, or True for a folder."""
    found: dict[str, object] = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            real = Path(folder) / name
            path = f"/{real.relative_to(root)}"
            if path in {LOCK, FOLDER, "/var", "/var/lib"}:
                continue
            if real.is_symlink():
                found[path] = str(real.readlink())
            else:
                found[path] = True if real.is_dir() else (real.read_bytes(), real.stat().st_mode & 0o7777)
    return found


def resolver(root: Path, gate: Callable[[str], None] = lambda _: None, said: list[str] | None = None) -> Resolver:
    """The wiring of a tree, which goes on without asking."""
    return Resolver(root, ([] if said is None else said).append, lambda: True, gate)


class Counter:
    """A gate that does something at the n-th step of a run.

    Args:
        at: the step, from 0.
        act: what is done there.
    """

    def __init__(self, at: int, act: Callable[[str], None]) -> None:
        self.at, self.act = at, act
        self.seen: list[str] = []

    def __call__(self, what: str) -> None:
        self.seen.append(what)
        if len(self.seen) == self.at + 1:
            self.act(what)


def killed_at(step: int, work: Callable[[Callable[[str], None]], object]) -> bool:
    """Do some work in a child that is killed, with SIGKILL, before its n-th step; False when it ended first."""
    child = os.fork()
    if child == 0:
        try:
            work(Counter(step, lambda _: os.kill(os.getpid(), signal.SIGKILL)))
        except BaseException:  # noqa: BLE001  nothing may leave the child
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False
