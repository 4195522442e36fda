"""What the kernel says about processes and this machine, and ports that are free."""

from __future__ import annotations

import contextlib
import os
import platform
import socket
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU time that a process and its children used so far with all their threads, user and system, in seconds."""
    return sum(cpu_split_s(pid))


def cpu_split_s(pid: int) -> tuple[float, float]:
    """The same, in user and in system mode; children that have ended are left out (proc(5), stat)."""
    found = [_stat(one) for one in family(pid)]
    return sum(int(one[11]) for one in found if one) / _TICKS, sum(int(one[12]) for one in found if one) / _TICKS


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    parents = {int(one.name): int(stat[1]) for one in Path("/proc").glob("[0-9]*") if (stat := _stat(int(one.name)))}
    found = [pid]
    for one in found:  # grows while it is read
        found += sorted(child for child, parent in parents.items() if parent == one)
    return found


def _stat(pid: int) -> list[str]:
    """The fields behind the name; nothing for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def sleeps(pid: int) -> int:
    """How often a process and its children went to sleep by themselves, all threads (voluntary_ctxt_switches)."""
    total = 0
    for status in (one for each in family(pid) for one in Path(f"/proc/{each}/task").glob("*/status")):
        with contextlib.suppress(OSError):
            lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return total


def shared_memory_mb(pid: int) -> float:
    """Memory of a process and its children, what they share counted once, in units of 10^6 octets (Pss)."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def memory_mb(pid: int) -> tuple[float, float]:
    """Memory that a process holds now, and the most that it ever held, in units of 10^6 octets (VmRSS, VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, most = (int(found[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most


def free_port() -> int:
    """A port of loopback that nobody has at this moment, neither for TCP nor for UDP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.bind(("127.0.0.1", 0))
            port = int(stream.getsockname()[1])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, contextlib.suppress(OSError):
                datagrams.bind(("127.0.0.1", port))
                return port


def described() -> str:
    """The machine in one line."""
    models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    cores = len(os.sched_getaffinity(0))
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    return f"{cores} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, load {load}"
