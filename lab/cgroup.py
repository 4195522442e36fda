"""Control groups as the record of what a lab runs: whoever was started in one can be found and ended, and nobody else.

A process stays in its group whatever it forks into, so a daemon that left its parent, a container's shim and the
container itself are all found; a recycled process id is not. Only cgroup v2 is used (it may be mounted beside v1).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.waiting import LabError, wait_until

PREFIX = "pilotfish-"
OWN_MOUNT = Path("/run/pilotfish-lab-cgroup")  # only on a machine that has cgroup v1 alone
GONE_WITHIN_S = 30  # killed processes leave when the kernel has freed what they held


class Cgroup:
    """One group; made by `create`, together with those above it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def child(self, name: str) -> Cgroup:
        """The group `name` inside this one (not created yet)."""
        return Cgroup(self.path / name)

    def create(self) -> Cgroup:
        """Make the group; an existing one is fine."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    @property
    def members(self) -> Path:
        """The file that a process writes its id into to join."""
        return self.path / "cgroup.procs"

    @property
    def below_root(self) -> str:
        """The path as engines want it: from the root of the hierarchy, ``/pilotfish-ab12/docker01``."""
        return "/" + str(self.path.relative_to(mount_point()))

    def pids(self) -> list[int]:
        """Every process in this group and below it."""
        files = [self.members, *self.path.glob("**/cgroup.procs")]
        return sorted({int(pid) for file in files for pid in _read(file).split()})

    def kill(self) -> None:
        """End every process in this group and below it with SIGKILL, and wait until they are gone."""
        if not self.path.exists():
            return
        (self.path / "cgroup.kill").write_text("1", encoding="ascii")
        wait_until(self._empty, within_s=GONE_WITHIN_S, what=f"the processes {self.pids()} of {self.path} to end")

    def remove(self) -> None:
        """Remove the group and those below it; they must be empty."""
        if self.path.exists():
            for folder in sorted(self.path.glob("**/"), reverse=True):
                folder.rmdir()

    def _empty(self) -> bool:
        return "populated 0" in _read(self.path / "cgroup.events")


def of_lab(lab_id: str) -> Cgroup:
    """The group that holds everything of one lab."""
    return Cgroup(mount_point() / f"{PREFIX}{lab_id}")


def mount_point() -> Path:
    """Where cgroup v2 is mounted on this machine; mounted now if nowhere.

    Raises:
        LabError: it is not mounted and cannot be.
    """
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    OWN_MOUNT.mkdir(exist_ok=True)
    answer = subprocess.run(
        ["mount", "-t", "cgroup2", "cgroup2", OWN_MOUNT], capture_output=True, text=True, check=False, timeout=10
    )
    if answer.returncode != 0:
        raise LabError(f"no cgroup v2 here, and mounting it failed: {answer.stderr.strip()}")
    return OWN_MOUNT


def _read(file: Path) -> str:
    """Empty when the group went away in the meantime."""
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
