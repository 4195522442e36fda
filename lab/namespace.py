"""A network, mount and host-name namespace of its own, held open by one process and gone with it.

Nothing is named in /run/netns and nothing is mounted outside, so there is nothing to clean but the processes inside.
Programs keep the machine's process ids and file system, except for what a real host has to itself: /run, /sys,
/etc and /opt (the machine's at first; changes stay inside), /etc/resolv.conf, the host name and the kernel's boot id.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.cgroup import Cgroup
from lab.process import Process, started_at
from lab.waiting import LabError

CLONE_NEWNET = 0x40000000  # sched.h

# The machine's resolv.conf is often a link into /run, which is empty inside: so its target is made there.
# An engine loads its AppArmor profile through securityfs, where the kernel has it.
# /etc/docker holds the key from which an engine derives its id: each host's own, and the same after a crash.
SETUP = """\
set -e
resolver=$(readlink -f /etc/resolv.conf || echo /etc/resolv.conf)
umount -l -R /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null || true
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
case "$resolver" in /run/*) mkdir -p "$(dirname "$resolver")"; touch "$resolver";; esac
mkdir -p /run/lock
for folder in /etc /opt; do
    over="/run/over$folder"
    mkdir -p "$over/upper" "$over/work"
    mount -t overlay -o "lowerdir=$folder,upperdir=$over/upper,workdir=$over/work" overlay "$folder"
done
if [ -e "$resolver" ]; then mount --bind "$1/resolv.conf" "$resolver"; fi
mkdir -p "$1/etc-docker" /etc/docker
mount --bind "$1/etc-docker" /etc/docker
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
hostname "$2"
ip link set lo up
sysctl -q -w net.ipv4.ping_group_range='0 2147483647' 2>/dev/null || true
echo ready
exec sleep infinity
"""

ENTER = 'echo $$ > "$1" && shift && exec "$@"'
GO = 'cd "$1" && shift && exec "$@"'


class Namespace:
    """One host's namespaces.

    Args:
        name: the host name inside.
        folder: the host's own files (resolv.conf, boot_id); kept across a crash.
        group: every process started here joins it.
        env: the environment of every program started here.
    """

    def __init__(self, name: str, folder: Path, group: Cgroup, env: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder
        self.env = dict(env)
        self._group = group
        self._holder: subprocess.Popen[str] | None = None
        self._logs = 0
        self._started: list[Process] = []

    def open(self) -> None:
        """Make the namespaces; loopback is up, there is no other interface yet."""
        self._group.create()
        self.folder.mkdir(parents=True, exist_ok=True)
        boot_id = Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii")
        (self.folder / "boot_id").write_text(boot_id, encoding="ascii")
        resolv_conf = self.folder / "resolv.conf"
        if not resolv_conf.exists():
            resolv_conf.write_text("# nobody to ask yet\n", encoding="ascii")
        unshare = ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "--"]
        command = [*unshare, "sh", "-c", SETUP, "setup", str(self.folder), self.name]
        holder = subprocess.Popen(
            self._joined(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=self.env, start_new_session=True,
        )  # fmt: skip
        self._holder = holder
        if holder.stdout is None or holder.stdout.readline() != "ready\n":
            _, trouble = holder.communicate(timeout=5)
            raise LabError(f"cannot make the namespaces of {self.name}: {trouble.strip()}")

    def close(self) -> None:
        """End everything that runs inside, at once; the namespaces go with it."""
        self._group.kill()
        for process in self._started:
            process.reap()
        self._started.clear()
        if self._holder is not None:
            self._holder.communicate(timeout=15)
            self._holder = None

    @property
    def is_open(self) -> bool:
        """Whether the namespaces exist."""
        return self._holder is not None

    @property
    def holder(self) -> int:
        """The process id that holds the namespaces open."""
        if self._holder is None or self._holder.poll() is not None:
            raise LabError(f"{self.name} is not up")
        return self._holder.pid

    @property
    def holder_started(self) -> str:
        """With `holder`, names that process for good."""
        return started_at(self.holder)

    def command(self, command: Sequence[str | Path], cwd: Path | None = None) -> list[str]:
        """`command` as it must be called from outside to run inside."""
        return entered(self.holder, self._group, command, cwd or Path.cwd())

    def run(
        self,
        command: Sequence[str | Path],
        *,
        check: bool = True,
        within_s: float = 60,
        input_text: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end.

        Args:
            command: program and arguments; the program is looked for on the lab's PATH.
            check: raise when the exit code is not 0.
            within_s: seconds until it is killed.
            input_text: what it reads from standard input; nothing if None.
            env: more environment, on top of the lab's.

        Raises:
            LabError: it failed, with what it printed; or it took too long.
        """
        full = self.command(command)
        try:
            answer = subprocess.run(
                full, input=input_text or "", capture_output=True, text=True, errors="replace", timeout=within_s,
                check=False, env={**self.env, **(env or {})},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {_words(command)}: no end after {within_s:g} s") from error
        if check and answer.returncode != 0:
            said = (answer.stderr + answer.stdout).strip()
            raise LabError(f"{self.name}: {_words(command)}: exit code {answer.returncode}: {said}")
        return answer

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | str | None = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program inside and leave it running until the lab ends.

        Args:
            command: program and arguments.
            log: where its output goes: a path, or a file name in the host's ``log`` folder; numbered if None.
            name: how messages call it; the program's name if None.
            env: more environment, on top of the lab's.
            cwd: its working directory; ours if None.
        """
        title = name or Path(str(command[0])).name
        self._logs += 1
        log_path = self.folder / "log" / (log or f"{title}-{self._logs}.log")
        full = self.command(command, cwd)
        process = Process(full, name=f"{self.name} {title}", log=log_path, env={**self.env, **(env or {})})
        self._started.append(process)
        return process

    def end_all_but(self, kept: Sequence[Process | None]) -> None:
        """End the programs that `popen` started, except for those in `kept`."""
        for process in self._started:
            if process not in kept:
                process.kill()
        self._started = [process for process in self._started if process in kept]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread into this network: every socket it makes meanwhile belongs there, also afterwards.

        Threads that are started meanwhile are born inside and stay there.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path(f"/proc/{self.holder}/ns/net").open("rb") as there,
        ):
            _set_network(libc, there.fileno())
            try:
                yield
            finally:
                _set_network(libc, home.fileno())

    def _joined(self, command: Sequence[str]) -> list[str]:
        return ["sh", "-c", ENTER, "enter", str(self._group.members), *command]


def entered(holder: int, group: Cgroup, command: Sequence[str | Path], cwd: Path) -> list[str]:
    """`command` called so that it joins `group` and runs in the namespaces that process `holder` has open.

    Every step replaces the one before, so the process id is that of the program itself.
    """
    nsenter = ["nsenter", "-t", str(holder), "-n", "-m", "-u", "--"]
    inner = ["sh", "-c", GO, "go", str(cwd), *(str(part) for part in command)]
    return ["sh", "-c", ENTER, "enter", str(group.members), *nsenter, *inner]


def _set_network(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _words(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)
