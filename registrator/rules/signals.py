"""Names of signals as images and Compose files write them -> Linux numbers, as the engine's `kill` events write them.

Source: signal(7), the numbers of x86, ARM and most others; Docker's own table (moby/sys/signal) has the same.
"""

from __future__ import annotations

from types import MappingProxyType

DEFAULT_STOP_SIGNAL = 15  # SIGTERM
HIGHEST_SIGNAL = 64
_RTMIN = 34  # what glibc leaves of 32, and what Docker counts from
_RTMAX = 64

_IN_ORDER = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG "
    "XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
SIGNALS = MappingProxyType({name: number for number, name in enumerate(_IN_ORDER.split(), 1)})


def parse_signal(text: str) -> int:
    """The number of a signal given as `SIGTERM`, `term`, `15` or `SIGRTMIN+3`; what is unknown or empty is SIGTERM.

    Never raises: the engine refuses unknown signals when a container is made.

    >>> parse_signal("SIGQUIT"), parse_signal("RTMIN+3"), parse_signal("")
    (3, 37, 15)
    """
    name = text.strip().upper().removeprefix("SIG")
    if name.isascii() and name.isdigit():
        return int(name) if len(name) < 3 and 1 <= int(name) <= HIGHEST_SIGNAL else DEFAULT_STOP_SIGNAL
    for start, base, sign in (("RTMIN", _RTMIN, 1), ("RTMAX", _RTMAX, -1)):
        if name.startswith(start):
            offset = name[len(start) :].lstrip("+-") or "0"
            valid = offset.isascii() and offset.isdigit() and len(offset) < 3 and int(offset) <= _RTMAX - _RTMIN
            return base + sign * int(offset) if valid else DEFAULT_STOP_SIGNAL
    return SIGNALS.get(name, DEFAULT_STOP_SIGNAL)
