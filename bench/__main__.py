"""`python -m bench [dns] [start] [change] [scale]`: measure, and print tables; without a name, all of them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from bench import change, dns, scale, start
from bench.machine import described
from lab.debian import PackagesUnavailable
from lab.tools import ToolMissing
from lab.waiting import LabError

CHOICES: dict[str, Callable[[], None]] = {
    "dns": dns.run,
    "change": change.run,
    "scale": scale.run,
    "start": start.run,
}
SHORT: dict[str, Callable[[], None]] = {
    **CHOICES,
    "dns": lambda: dns.run(rounds=3),
    "scale": lambda: scale.run(starts=1),
    "start": lambda: start.run(starts=30, one_host_starts=15, traefik_starts=10),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {' '.join(CHOICES)} (default: all, shortened)")
    names = parser.parse_args(arguments).names
    unknown = sorted(set(names) - CHOICES.keys())
    if unknown:
        parser.error(f"no such bench: {' '.join(unknown)}; there are {' '.join(CHOICES)}")
    failed = 0
    for name in names or CHOICES:
        if name == "start" and os.geteuid() != 0:
            print("\nstart: left out, its hosts are network namespaces, which takes root")
            continue
        print(f"\n## {name}: {described()}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())}", flush=True)
        failed += not _ran(name, (CHOICES if names else SHORT)[name])
    return 1 if failed else 0


def _ran(name: str, run: Callable[[], None]) -> bool:
    try:
        run()
    except (LabError, ToolMissing, PackagesUnavailable, RuntimeError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
