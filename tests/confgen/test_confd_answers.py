"""Our templates beside confd's: every row of the table comes out equal, or says why not."""

from __future__ import annotations

import re

import pytest

from confgen.functions import names
from confgen.resource import BadResource
from confgen.templates import BadTemplate
from tests.confgen.confd_kit import ANSWERS, render

NAMED = re.compile(r"calling (\w+)")
# What is wrong with the resource or with the folder, and not with the template: found elsewhere.
ELSEWHERE = {"resource: src is not there"}
ROWS = [row for row in ANSWERS if "differs" not in row and row["title"] not in ELSEWHERE]


@pytest.mark.parametrize("row", [row for row in ROWS if "output" in row], ids=lambda row: row["title"])
def test_what_confd_renders(row):
    assert render(row["template"], row["keys"], row.get("toml", ""), row.get("prefix", "")) == row["output"]


@pytest.mark.parametrize("row", [row for row in ROWS if "error" in row], ids=lambda row: row["title"])
def test_what_confd_refuses(row):
    """It is refused here too, and the message names the function that confd names."""
    with pytest.raises((BadTemplate, BadResource)) as caught:
        render(row["template"], row["keys"], row.get("toml", ""), row.get("prefix", ""))

    named = NAMED.search(row["error"])
    assert not named or named[1] in str(caught.value)


@pytest.mark.parametrize("row", [row for row in ANSWERS if "differs" in row], ids=lambda row: row["title"])
def test_what_differs_is_refused(row):
    with pytest.raises(BadTemplate):
        render(row["template"], row["keys"])


def test_the_table_has_every_function():
    """All functions of confd 0.16 that answer the same everywhere are in the table."""
    called = " ".join(row["template"] for row in ANSWERS)
    elsewhere = {"datetime", "hostname", "lookupSRV", "lookupIfaceIPV4", "lookupIfaceIPV6"}

    assert {name for name in names() if not re.search(rf"{{[^}}]*\b{name}\b", called)} == elsewhere
    assert len(ANSWERS) > 700
