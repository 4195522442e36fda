"""Where the microseconds of an answer go: by kind of question, by step, and by what the processor was doing.

`kernel`: the running server under dnsperf: time in user and system mode, answers for each time that it went to sleep.
`steps`: the pure steps, timed in this process. `stacks`: perf(1), if this machine has it, asked where the server is 997
times a second; each stack is counted where it first fits in a table.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import knot, steps
from bench.dns import PLAIN, WORKLOADS, Workload
from bench.estate import DOMAIN, service_name
from bench.figures import table
from bench.load import fast
from bench.machine import cpu_split_s, sleeps
from bench.parts import Folder, dns_server, etcd, folder
from bench.server import Server, cookie

PARTS = ("kernel", "steps", "stacks")
KINDS = ("hits", "cookies", "misses", "mix", "tcp")
SECONDS = 3.0
SAMPLES_A_SECOND = 997  # not in step with anything that happens every millisecond


class Place(NamedTuple):
    """Where time may go: the first whose words are in a stack has it."""

    title: str
    words: tuple[str, ...]


PLACES = (
    Place("kernel: waking the client", ("sock_def_readable", "__wake_up")),
    Place("kernel: sending, to the socket of the client", ("udp_sendmsg", "tcp_sendmsg", "udpv6_sendmsg")),
    Place("kernel: the send call itself", ("sys_sendto", "sys_sendmmsg", "sys_sendmsg")),
    Place("kernel: receiving", ("sys_recvfrom", "sys_recvmmsg", "sys_recvmsg", "sys_read")),
    Place("kernel: waiting for more", ("sys_epoll_wait", "sys_epoll_pwait", "ep_poll")),
    Place("kernel: giving the core to others", ("exit_to_user_mode_loop", "schedule")),
    Place("kernel: everything else", ("kernel.kallsyms",)),
    Place("calling C from Python (ctypes, libffi)", ("_ctypes", "libffi", "ffi_call")),
    Place("the socket module", ("_socket", "sock_")),
    Place("memory of Python's objects", ("PyObject_Malloc", "_PyObject_Free", "gc_collect", "PyObject_Free")),
    Place("the interpreter", ("libpython", "python3", "_PyEval")),
    Place("the C library", ("libc.so", "[vdso]")),
)


def run(parts: Sequence[str] = ()) -> None:
    """Measure some parts or all, and print a table for each."""
    wanted = parts or PARTS
    if {"kernel", "stacks"} & set(wanted):
        with folder("lab", "bench") as place:
            _running(place, wanted)
    if "steps" in wanted:
        title = (
            f"Steps in one process, microseconds: median (lowest to highest) of {steps.REPEATS} times {steps.TIMES:,}"
        )
        print(table(title, ("of", "step", "µs"), steps.rows()))


def _running(place: Folder, wanted: Sequence[str]) -> None:
    part, port = dns_server(place, etcd(place, PLAIN))
    part.wait_ready()
    ours = Server("Pilotfish", part.process.pid, port)
    if "kernel" in wanted:
        peer = knot.start(place, DOMAIN, knot.zone(PLAIN), name="knot", cookies=True)
        print(table(
            f"The servers under dnsperf, {SECONDS:g} s each; microseconds of CPU for an answer",
            ("", "server", "answers per second", "user", "system", "both", "answers between two sleeps"),
            (_split(place, server, kind) for kind in KINDS for server in (ours, peer)),
        ), flush=True)  # fmt: skip
    if "stacks" in wanted:
        if shutil.which("perf") is None:
            print("\nstacks: left out, there is no perf on this machine (Debian: linux-perf)")
            return
        for kind in ("hits", "misses"):
            heads = ("where", "share", "µs of an answer")
            print(
                table(f"Where our server was under {WORKLOADS[kind].title}", heads, _stacks(place, ours, kind)),
                flush=True,
            )


def _options(server: Server, workload: Workload) -> tuple[str, ...]:
    if not workload.cookies:
        return workload.options
    return (*workload.options, "-E", f"10:{cookie(server, f'{service_name(7)}.{DOMAIN}')}")


def _file(place: Folder, workload: Workload, number: int) -> Path:
    file = place.path / f"questions-{number}"
    file.write_text("\n".join(workload.questions(PLAIN, random.Random(number))) + "\n", encoding="ascii")
    return file


def _split(place: Folder, server: Server, kind: str) -> tuple[str, ...]:
    workload = WORKLOADS[kind]
    options = _options(server, workload)
    fast(place, server, _file(place, workload, 0), 1, options)
    file = _file(place, workload, 1)
    before, slept = cpu_split_s(server.pid), sleeps(server.pid)
    found = fast(place, server, file, SECONDS, options)
    after, answers = cpu_split_s(server.pid), found.per_second * SECONDS
    user, system = ((end - begin) / answers * 1e6 for begin, end in zip(before, after, strict=True))
    between = answers / max(1, sleeps(server.pid) - slept)
    shown = (f"{found.per_second:,.0f}", f"{user:.2f}", f"{system:.2f}", f"{user + system:.2f}", f"{between:.0f}")
    return (workload.title, server.title, *shown)


def _stacks(place: Folder, server: Server, kind: str) -> Iterator[tuple[str, ...]]:
    workload = WORKLOADS[kind]
    file, data = _file(place, workload, 2), place.path / f"perf-{kind}"
    usual = fast(place, server, file, SECONDS, workload.options)
    # It is asked for more than the load lasts, so it ends by itself when the load has.
    command = ["perf", "record", "-q", "-g", "-F", str(SAMPLES_A_SECOND), "-p", str(server.pid), "-o", str(data)]
    with subprocess.Popen([*command, "--", "sleep", f"{SECONDS:g}"], stderr=subprocess.PIPE) as recording:
        fast(place, server, _file(place, workload, 3), SECONDS + 0.5, workload.options)
        said = recording.communicate(timeout=60)[1]
    if recording.returncode != 0:
        raise RuntimeError(f"perf did not record: {said.decode(errors='replace')}")
    told = subprocess.run(
        ["perf", "script", "-i", str(data), "-F", "ip,sym,dso"], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    counted = Counter(_place(stack) for stack in told.split("\n\n") if stack.strip())
    total = counted.total()
    for title, samples in counted.most_common():
        yield title, f"{samples / total:.0%}", f"{usual.cpu_us * samples / total:.2f}"


def _place(stack: str) -> str:
    return next((place.title for place in PLACES if any(word in stack for word in place.words)), "elsewhere")
