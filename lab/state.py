"""What labs leave on the machine while they run, and how to find and remove what a killed one left.

A lab has a folder, ``$PILOTFISH_LAB_DIR`` (default /var/tmp/pilotfish-lab) ``/<id>``, and a control group
``pilotfish-<id>`` that holds every process it ever started. The folder's lock is the owner's, and the kernel
lets go of it when the owner ends, however it ends: whoever gets the lock may clean. Namespaces and mounts vanish with
the processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cgroup
from lab.waiting import LabError, wait_until

FACTS = "lab.json"
LOCK = "lock"


@dataclass(frozen=True)
class HostFacts:
    """One host, as another process needs it to enter it."""

    name: str
    address: str
    address6: str
    docker_socket: str
    holder: int
    holder_started: str


@dataclass(frozen=True)
class LabFacts:
    """A running lab, as `show`, `enter` and `down` need it; `env` is what its programs find beside their own."""

    id: str
    folder: str
    owner: int
    owner_started: str
    etcd: str
    env: dict[str, str]
    hosts: tuple[HostFacts, ...]


class Claim:
    """A lab's folder with its lock held."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self.id = folder.name
        self._descriptor = descriptor

    def write(self, facts: LabFacts) -> None:
        """Tell other processes about the lab."""
        staged = self.folder / f"{FACTS}.new"
        staged.write_text(json.dumps(asdict(facts), indent=1), encoding="utf-8")
        staged.rename(self.folder / FACTS)

    def clean(self) -> None:
        """End all of the lab's processes, and remove its group and folder."""
        group = cgroup.of_lab(self.id)
        group.kill()
        group.remove()
        wait_until(self._remove_folder, within_s=10, what=f"{self.folder} to go")

    # Another process that looks whether this lab is stale may make the lock file anew while the folder goes.
    def _remove_folder(self) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)


def base() -> Path:
    """The folder of all labs, made if need be.

    Raises:
        LabError: it belongs to somebody else, who could then put files into ours.
    """
    folder = Path(os.environ.get("PILOTFISH_LAB_DIR", "/var/tmp/pilotfish-lab"))  # noqa: S108  ownership is checked below
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
        raise LabError(f"{folder} is not a folder that only we can write; remove it, or set PILOTFISH_LAB_DIR")
    return folder


def claim_new() -> Claim:
    """A new lab's folder."""
    folder = base() / secrets.token_hex(2)
    try:
        folder.mkdir(mode=0o755)
    except FileExistsError:
        return claim_new()
    descriptor = _lock(folder, wait=True)
    if descriptor is None:  # another process swept it between the two lines above
        return claim_new()
    return Claim(folder, descriptor)


def claim_stale(folder: Path, *, wait: bool = False) -> Claim | None:
    """The lock on a lab whose owner is gone.

    Returns:
        None if the owner lives (unless we wait for its end), or nothing is left of the lab.
    """
    descriptor = _lock(folder, wait=wait)
    return None if descriptor is None else Claim(folder, descriptor)


def sweep() -> list[str]:
    """Clean every lab whose owner is gone; returns their ids."""
    swept = []
    for folder in sorted(base().iterdir()):
        stale = claim_stale(folder)
        if stale is not None:
            with held(stale):
                stale.clean()
            swept.append(stale.id)
    return swept


def living() -> list[LabFacts]:
    """The labs whose owner lives and that are completely up."""
    found = []
    for folder in sorted(base().iterdir()):
        with contextlib.suppress(OSError, ValueError):
            if _locked_by_other(folder):
                found.append(_read(folder))
    return found


def _read(folder: Path) -> LabFacts:
    raw = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return LabFacts(**{**raw, "hosts": tuple(HostFacts(**host) for host in raw["hosts"])})


def _locked_by_other(folder: Path) -> bool:
    stale = claim_stale(folder)
    if stale is None:
        return True
    stale.release()
    return False


def _lock(folder: Path, *, wait: bool) -> int | None:
    """The lock's descriptor; None when somebody else has it, or the folder went away while we waited."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    if _same_file(descriptor, folder / LOCK):
        return descriptor
    os.close(descriptor)
    return None


def _same_file(descriptor: int, path: Path) -> bool:
    """False when the file was removed, with its folder, before we got the lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


@contextlib.contextmanager
def held(claim: Claim) -> Iterator[Claim]:
    """Let go of the lock at the end."""
    try:
        yield claim
    finally:
        claim.release()
