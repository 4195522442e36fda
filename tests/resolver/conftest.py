"""Where the trees of files are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.resolver.kit import folder


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder in memory."""
    with folder() as made:
        yield made
