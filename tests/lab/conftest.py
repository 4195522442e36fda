"""Labs that tests share, and what happens where there can be none: said aloud, and an error in CI."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from lab.lab import Lab, require_root
from lab.tools import Tools
from lab.waiting import LabError
from tests.lab.faults import QUICK, Standing
from tests.lab.suite import Suite

DESELECTED = pytest.StashKey[str]()
OUTPUT = "lab tests left out"


@pytest.hookimpl(trylast=True)  # after -m and -k had their say
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the lab's tests out where no lab can be made; never silently, and never in CI."""
    theirs = [item for item in items if item.get_closest_marker("lab")]
    if not theirs or config.option.collectonly:
        return
    try:
        require_root()
    except LabError as error:
        if os.environ.get("CI"):
            raise pytest.UsageError(f"{len(theirs)} lab tests cannot run: {error}") from error
        items[:] = [item for item in items if item not in theirs]
        config.hook.pytest_deselected(items=theirs)
        config.stash[DESELECTED] = f"{len(theirs)} lab tests did NOT run: {error}"
        if hasattr(config, "workeroutput"):  # one of several processes: only the first of all can print
            config.workeroutput[OUTPUT] = config.stash[DESELECTED]
    else:
        Tools(["lab"])  # fetched now: a slow mirror must not eat the first test's time limit


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist ended: keep what it had to say."""
    said = getattr(node, "workeroutput", {}).get(OUTPUT)
    if said:
        node.config.stash[DESELECTED] = said


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The last thing one reads."""
    said = config.stash.get(DESELECTED, None)
    if said:
        terminalreporter.write_sep("!", said, red=True, bold=True)


@pytest.fixture(scope="session")
def lab1() -> Iterator[Lab]:
    """One host with an engine, and a single etcd member; shared, see `fresh1`."""
    with Lab(hosts=1, etcd=1) as lab:
        yield lab


@pytest.fixture(scope="session")
def lab3() -> Iterator[Lab]:
    """Three hosts with engines and a three-member etcd; shared, see `fresh3`."""
    with Lab(hosts=3, etcd=3) as lab:
        yield lab


@pytest.fixture(scope="session")
def stands() -> list[Standing]:
    """The suite that stands on `lab3` from one fault test to the next; empty when there is none."""
    return []


@pytest.fixture
def fresh1(lab1: Lab) -> Iterator[Lab]:
    """`lab1`, put back afterwards to how it started."""
    yield lab1
    lab1.reset()


@pytest.fixture
def fresh3(lab3: Lab, stands: list[Standing]) -> Iterator[Lab]:
    """`lab3`, put back afterwards to how it started."""
    if stands:
        stands.clear()
        lab3.reset()
    yield lab3
    lab3.reset()


@pytest.fixture
def standing(lab3: Lab, stands: list[Standing]) -> Standing:
    """Every part on every host of `lab3` with a container each, nothing hurt and everything converged."""
    if not stands:
        stands.append(Standing(lab3, Suite(lab3, **QUICK)))
    stands[0].restore()
    return stands[0]
