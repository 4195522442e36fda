"""`python -m bench [NAME [PART ...]] ...`: measure, and print tables; without a name all benches, shortened."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from bench import change, dns, hostile, noreload, outage, profile, real_storm, reloads, scale, start, storm, throughput
from bench.machine import described
from lab.debian import PackagesUnavailable
from lab.tools import ToolMissing
from lab.waiting import LabError


class Bench(NamedTuple):
    """One bench.

    Attributes:
        full: measures some of its parts, or all when none is named.
        short: the same, in less time.
        parts: what can be chosen of it.
        usual: whether it is run when none is named.
    """

    full: Callable[[Sequence[str]], None]
    short: Callable[[Sequence[str]], None]
    parts: tuple[str, ...] = ()
    usual: bool = True


BENCHES: dict[str, Bench] = {
    "dns": Bench(dns.run, lambda parts: dns.run(parts, rounds=3, other_rounds=0), dns.PARTS),
    "change": Bench(lambda _: change.run(), lambda _: change.run()),
    "scale": Bench(lambda _: scale.run(), lambda _: scale.run(starts=1)),
    "start": Bench(lambda _: start.run(), lambda _: start.run(starts=30, one_host_starts=15, traefik_starts=10)),
    "outage": Bench(lambda _: outage.run(), lambda _: outage.run(minutes=1)),
    "hostile": Bench(lambda _: hostile.run(), lambda _: hostile.run(hostile.Size(20_000, 3))),
    "storm": Bench(lambda _: storm.run(), lambda _: storm.run(seconds=12)),
    "throughput": Bench(lambda _: throughput.run(), lambda _: throughput.run(rounds=3, seconds=2)),
    "reloads": Bench(lambda _: reloads.run(), lambda _: reloads.run(changes=200, seconds=12)),
    "noreload": Bench(noreload.run, lambda parts: noreload.run(parts, changes=10), noreload.PARTS),
    "real-storm": Bench(lambda _: real_storm.run(), lambda _: real_storm.run(seconds=15), usual=False),
    "profile": Bench(profile.run, profile.run, profile.PARTS, usual=False),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    shown = "; ".join(" ".join((name, *(f"[{part}]" for part in bench.parts))) for name, bench in BENCHES.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"a bench, and which of its parts: {shown}")
    parser.add_argument("--short", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--minutes", type=float, help="how long etcd is away in the outage")
    options = parser.parse_args(arguments)
    try:
        chosen = chosen_of(options.names)
    except ValueError as error:
        parser.error(str(error))
    failed = 0
    for name, parts in chosen.items():
        if name == "start" and os.geteuid() != 0:
            print("\nstart: left out, its hosts are network namespaces, which takes root")
            continue
        print(f"\n## {name}: {described()}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())}", flush=True)
        short = options.short or not options.names
        run = BENCHES[name].short if short else BENCHES[name].full
        if name == "outage" and options.minutes:
            run = partial(_outage, options.minutes)
        failed += not _ran(name, run, parts)
    return 1 if failed else 0


def chosen_of(names: Sequence[str]) -> dict[str, list[str]]:
    """The benches that are named, each with those of its parts that are named behind it.

    Raises:
        ValueError: there is none of that name.
    """
    if not names:
        return {name: [] for name, bench in BENCHES.items() if bench.usual}
    found: dict[str, list[str]] = {}
    current = ""
    for name in names:
        if current and name in BENCHES[current].parts:
            found[current].append(name)
        elif name in BENCHES:
            found[current := name] = []
        else:
            raise ValueError(f"no such bench, nor a part of the one before it: {name}")
    return found


def _outage(minutes: float, _: Sequence[str]) -> None:
    outage.run(minutes)


def _ran(name: str, run: Callable[[Sequence[str]], None], parts: Sequence[str]) -> bool:
    try:
        run(parts)
    except (LabError, ToolMissing, PackagesUnavailable, RuntimeError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
