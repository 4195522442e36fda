"""Who runs beside whom when tests run in several processes (`make test`)."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# What has a clock of its own (real engines, faults, floods, figures) runs in one process, one after the other: beside
# one that computes, not beside another that measures.
IN_TURN = "in turn"
FILES = ("test_fault", "test_forward_faults", "test_workers", "test_knot", "test_secondary", "test_skydns_served")
FOLDERS = frozenset({"lab", "bench"})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A file's tests stay together, so that what they share is made once."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        place = item.path.relative_to(TESTS)
        together = place.parts[0] in FOLDERS or place.name.startswith(FILES)
        item.add_marker(pytest.mark.xdist_group(IN_TURN if together else place.as_posix()))
