"""Fuzz one target in this process: `python -m tests.fuzz.one TARGET FOLDER SECONDS SEED`; started by `tests.fuzz`.

With atheris (extra `fuzz`) inputs are led by what they reach in our code; without it they are made by chance.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
import time
from pathlib import Path

SAID = "said.json"
OURS = ["dnsserver", "pilotfish.catalog"]
MAX_SIZE = 8192  # octets of an input
HANG_S = 20  # for one input
MEMORY_MB = 1024


def main(name: str, folder: Path, seconds: float, seed: int) -> None:
    """Fuzz until the time is over."""
    if importlib.util.find_spec("atheris") is None:
        _by_chance(name, folder, seconds, seed)
    else:
        _led(name, folder, seconds, seed)


def _by_chance(name: str, folder: Path, seconds: float, seed: int) -> None:
    from tests.fuzz.findings import Findings
    from tests.fuzz.mutate import mutated
    from tests.fuzz.targets import TARGETS

    target, chance = TARGETS[name], random.Random(seed)
    findings, seeds = Findings(folder / "found", target.make(), folder / SAID), list(target.seeds())
    ends = time.monotonic() + seconds
    for data in seeds:
        findings.try_one(data)
    while time.monotonic() < ends:
        findings.try_one(mutated(chance, seeds))
    findings.write()


def _led(name: str, folder: Path, seconds: float, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=OURS):
        for module in OURS:
            importlib.import_module(module)
        findings_module = importlib.import_module("tests.fuzz.findings")
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    target = targets[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for at, data in enumerate(target.seeds()):
        (corpus / f"seed-{at:04d}").write_bytes(data)
    findings = findings_module.Findings(folder / "found", target.make(), folder / SAID)
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds:.0f}",
        f"-seed={seed}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_SIZE}",
        f"-artifact_prefix={folder / 'found'}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, findings.try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
