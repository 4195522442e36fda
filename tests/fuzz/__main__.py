"""Fuzz the targets one after the other, each in a process of its own, and say what came of it.

    python -m tests.fuzz --minutes 10              each target for ten minutes
    python -m tests.fuzz --minutes 1 udp record    some of them
    python -m tests.fuzz --input FILE udp          one input that was found, with its traceback

A finding is an input that a target does not stand; it is kept with its traceback, and the exit code is 1. Once mended
it goes to tests/fuzz/found/TARGET/, and is tried with every `make test` from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.one import SAID
from tests.fuzz.targets import TARGETS

NICENESS = 19
GRACE_S = 300  # for a start with coverage, and a corpus that is read again


class Outcome(NamedTuple):
    """What came of fuzzing one target."""

    tried: int
    slowest_ms: float
    reached: str
    findings: int


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="of chance; default: another one each time")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="keeps inputs from one run to the next")
    parser.add_argument("--input", type=Path, help="try this file, once")
    given = parser.parse_args()
    if unknown := set(given.targets) - TARGETS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    chosen = given.targets or list(TARGETS)
    if given.input is not None:
        for name in chosen:
            TARGETS[name].make()(given.input.read_bytes())
        return 0
    seed = random.SystemRandom().randrange(1, 2**31) if given.seed is None else given.seed
    print(f"seed {seed}, {given.minutes:g} minutes each")
    print(f"{'target':10} {'inputs':>12} {'slowest, ms':>12} {'branches':>9} {'findings':>9}", flush=True)
    findings = 0
    for name in chosen:
        came = fuzz(name, (given.folder / name).resolve(), given.minutes * 60, seed)
        print(f"{name:10} {came.tried:12,} {came.slowest_ms:12} {came.reached:>9} {came.findings:9}", flush=True)
        findings += came.findings
    return 1 if findings else 0


def fuzz(name: str, folder: Path, seconds: float, seed: int) -> Outcome:
    """Fuzz one target in a process of its own."""
    found = folder / "found"
    found.mkdir(parents=True, exist_ok=True)
    said, log = folder / SAID, folder / "log"
    said.unlink(missing_ok=True)
    before = set(found.iterdir())
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(folder), str(seconds), str(seed)]
    code = -1  # it did not end
    with log.open("wb") as output, contextlib.suppress(subprocess.TimeoutExpired):
        code = subprocess.run(
            command, stdout=output, stderr=output, timeout=2 * seconds + GRACE_S, check=False,
            preexec_fn=lambda: os.nice(NICENESS),  # nothing but us runs here yet
        ).returncode  # fmt: skip
    text = log.read_text(errors="replace")
    new = [path for path in set(found.iterdir()) - before if path.suffix != ".txt"]
    for path in new:
        print(f"  found: {path}")
    heard = json.loads(said.read_text()) if said.exists() else {"tried": 0, "slowest_ms": 0.0}
    reached, executed = re.findall(r"cov: (\d+)", text), re.findall(r"number_of_executed_units: (\d+)", text)
    ended_badly = code != 0 and not new
    if ended_badly:
        print(f"  ended with {code}: {log}")
    tried = int(executed[-1]) if executed else heard["tried"]
    return Outcome(tried, heard["slowest_ms"], reached[-1] if reached else "-", len(new) + ended_badly)


if __name__ == "__main__":
    sys.exit(main())
