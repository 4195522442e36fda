"""Who runs beside whom when tests run in several processes (`make test`)."""

from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
# What has a clock of its own runs one after the other in one process: real engines in the first of these groups;
# faults, floods and figures in the second. Each may have a neighbour, but not one of its own kind.
LAB, FAULTS = "lab", "faults"
FILES = ("test_fault", "test_forward_faults", "test_workers", "test_knot", "test_secondary", "test_events")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together, so that what they share is made once; so do those of a group."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(Path(nodeid.partition("::")[0]))

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first: the two long groups are handed out before all others, to a process each."""
    items.sort(key=lambda item: {LAB: 0, FAULTS: 1}.get(_group(item.path), 2))


def _group(path: Path) -> str:
    place = path.relative_to(TESTS) if path.is_relative_to(TESTS) else Path(*path.parts[path.parts[:1] == ("tests",) :])
    if place.parts[0] == "lab":
        return LAB
    if place.parts[0] == "bench" or place.name.startswith(FILES):
        return FAULTS
    return place.as_posix()
