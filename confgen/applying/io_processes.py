"""What /proc says about nginx's processes: is this pid nginx, who are its workers, which of them still accept.

nginx writes into its title what it is and, when a worker stops accepting, that too ("worker process is shutting
down", ngx_process_cycle.c): the title is set just before the listening sockets are closed. A process that is dead but
not yet collected counts as gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
MASTER = "nginx: master process"
WORKER = "nginx: worker process"  # set when it is about to wait for events, and listens already
LEAVING = f"{WORKER} is shutting down"
TICKS = os.sysconf("SC_CLK_TCK")
# Workers of one generation are forked one right after the other. The next generation's come 0.1 s later at least, for
# which their master waits before it tells the older ones; a birth is known to a tick, which may round that to 0.1 s.
TOGETHER_S = 0.095


class Process(NamedTuple):
    """A living process: its id, its parent's, its session's, its title, and when it began (seconds after the boot)."""

    pid: int
    parent: int
    session: int
    title: str
    began: float = 0.0

    @property
    def accepts(self) -> bool:
        """True for a worker that still takes new connections; one that was just forked still has its master's title."""
        return self.title.startswith("nginx: ") and not self.title.startswith(LEAVING)


def look(pid: int) -> Process | None:
    """A process as it is now; None when it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
        title = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold blanks and brackets; proc(5)
    if fields[0] in {b"Z", b"X"}:
        _collect(pid)
        return None
    return Process(pid, int(fields[1]), int(fields[3]), title, int(fields[19]) / TICKS)


def _collect(pid: int) -> None:
    """Take note of a dead child, as the first process of a container has to; others are not ours to collect."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def everybody() -> Iterator[Process]:
    """All living processes that we can see."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := look(int(entry.name))):
            yield found


def workers_of(master: int) -> frozenset[int]:
    """Workers of a master that still accept."""
    return frozenset(one.pid for one in _children(master) if one.accepts)


def listening_of(master: int) -> frozenset[int]:
    """Workers of a master that have begun to listen, and do so still."""
    return frozenset(one.pid for one in _children(master) if one.title == WORKER)


def former_of(master: int) -> frozenset[int]:
    """Workers of a master that still accept although a later generation does."""
    generations = births(one for one in _children(master) if one.accepts)
    return frozenset(one.pid for generation in generations[:-1] for one in generation)


def generations_of(master: int) -> int:
    """How many generations of a master's workers live: the one that accepts, and those that wait for clients to end."""
    workers = [one for one in _children(master) if one.title.startswith("nginx: ")]
    return any(one.accepts for one in workers) + len(births(one for one in workers if not one.accepts))


def births(workers: Iterable[Process]) -> list[list[Process]]:
    """Workers by their generation, the oldest first: each was born within TOGETHER_S of the one before."""
    generations: list[list[Process]] = []
    for one in sorted(workers, key=lambda one: one.began):
        if not generations or one.began - generations[-1][-1].began > TOGETHER_S:
            generations.append([])
        generations[-1].append(one)
    return generations


def _children(master: int) -> Iterable[Process]:
    try:
        listed = (PROC / str(master) / "task" / str(master) / "children").read_text()
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [one for one in everybody() if one.parent == master]
    return [one for pid in listed.split() if (one := look(int(pid)))]


def orphans_of(master: int) -> frozenset[int]:
    """Workers that still accept although their master is gone; they keep its session, and the listening sockets."""
    return frozenset(one.pid for one in everybody() if one.session == master != one.pid and one.accepts)


def still_accepting(pids: Iterable[int]) -> frozenset[int]:
    """Those of some workers that still accept."""
    return frozenset(pid for pid in pids if (one := look(pid)) and one.accepts)
