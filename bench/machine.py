"""What the kernel says about processes and this machine, and ports that are free."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


def raise_session(pid: int) -> None:
    """Give the session that a process leads our own priority, if it was raised (nice(1) with a number below 0).

    Linux shares the processors out between sessions first, and nice counts only within each (sched(7), autogroup).
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice < 0:
        with contextlib.suppress(OSError):  # no such groups, or the process is gone
            Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")


class Scheduled(NamedTuple):
    """What threads had of the processors, in seconds.

    Attributes:
        ran: they had one.
        waited: they were ready to run, and others had it.
    """

    ran: float
    waited: float

    def since(self, before: Scheduled) -> Scheduled:
        """What was added since an earlier look."""
        return Scheduled(self.ran - before.ran, self.waited - before.waited)


def scheduled(pid: int) -> Scheduled:
    """What the threads of a process and of its children had so far; those that have ended are left out.

    The scheduler counts it in nanoseconds (Documentation/scheduler/sched-stats.rst of Linux).
    """
    files = [one for each in family(pid) for one in Path(f"/proc/{each}/task").glob("*/schedstat")]
    counted = [text.split() for text in map(_text, files) if text]
    return Scheduled(sum(int(one[0]) for one in counted) / 1e9, sum(int(one[1]) for one in counted) / 1e9)


def cpu_s(pid: int) -> float:
    """CPU time that a process and its children used so far, in seconds."""
    return scheduled(pid).ran


def cpu_split_s(pid: int) -> tuple[float, float]:
    """CPU time of a process and its children in user and in system mode, as far as ticks tell (proc(5), stat)."""
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
    return _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a process or thread that is gone
        return ""


def sleeps(pid: int) -> int:
    """How often a process and its children went to sleep by themselves, all threads (voluntary_ctxt_switches)."""
    files = [one for each in family(pid) for one in Path(f"/proc/{each}/task").glob("*/status")]
    return sum(_field(file, "voluntary_ctxt_switches:") for file in files)


def shared_memory_mb(pid: int) -> float:
    """Memory of a process and its children, what they share counted once, in units of 10^6 octets (Pss)."""
    return sum(_field(Path(f"/proc/{one}/smaps_rollup"), "Pss:") for one in family(pid)) * 1024 / 1e6


def _field(file: Path, name: str) -> int:
    return sum(int(line.split()[1]) for line in _text(file).splitlines() if line.startswith(name))


def memory_mb(pid: int) -> tuple[float, float]:
    """Memory that a process holds now, and the most that it ever held, in units of 10^6 octets (VmRSS, VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    found = {name: value for name, _, value in (line.partition(":") for line in lines)}
    now, most = (int(found[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, most


def forget_most(pid: int) -> None:
    """From now on the most memory that a process ever held is what it holds from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def described() -> str:
    """The machine in one line."""
    models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    cores = len(os.sched_getaffinity(0))
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    return f"{cores} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, load {load}"
