"""Every target stands its good inputs, what was found once, and a little chance; so the targets stay true."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.findings import Findings
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS

FOUND = Path(__file__).parent / "found"


@pytest.fixture(scope="module", params=TARGETS)
def target(request):
    """Name, function and good inputs of a target."""
    chosen = TARGETS[request.param]
    return request.param, chosen.make(), list(chosen.seeds())


def test_good_inputs(target):
    """What the fuzzer begins with is stood."""
    _, run, seeds = target
    assert seeds
    for data in seeds:
        run(data)


def test_what_was_found_once(target):
    """Inputs that were findings are none any more."""
    name, run, _ = target
    for path in sorted((FOUND / name).glob("*")):
        run(path.read_bytes())


def test_a_little_chance(target):
    """A hundred inputs near the good ones."""
    _, run, seeds = target
    chance = random.Random(1)
    for _ in range(100):
        run(mutated(chance, seeds))


def test_a_finding_is_kept(tmp_path):
    """What a target does not stand is written down once for each place, and counted."""

    def run(data: bytes) -> None:
        if b"x" in data:
            raise ValueError("an x")

    findings = Findings(tmp_path, run)
    for data in (b"a", b"x", b"xx"):
        findings.try_one(data)
    assert (findings.tried, list(findings.places.values())) == (3, [2])
    [kept] = tmp_path.glob("*.input")
    assert kept.read_bytes() == b"x"
    assert "an x" in kept.with_suffix(".txt").read_text()
