"""Who runs beside whom when tests run in several processes (`make test`)."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# What has a clock of its own runs one after the other in one process: real engines in the first of these groups;
# faults, floods and figures in the second. Each may have a neighbour, but not one of its own kind.
LAB, FAULTS = "lab", "faults"
FILES = ("test_fault", "test_forward_faults", "test_workers", "test_knot", "test_secondary", "test_events")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A file's tests stay together, so that what they share is made once."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        place = item.path.relative_to(TESTS)
        group = place.as_posix()
        if place.parts[0] == "lab":
            group = LAB
        elif place.parts[0] == "bench" or place.name.startswith(FILES):
            group = FAULTS
        item.add_marker(pytest.mark.xdist_group(group))
