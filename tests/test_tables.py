"""The tables of docs/nginx.md name the tests that saw each feature on a real engine: all are there, and no others."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest

from tests.lab.route_rows import ROWS

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs/nginx.md"
HEADS = {"tag by tag": "| what | tag or flag |", "https and streams": "| what | tag | nginx needs |"}
COLUMN = "on an engine"
NAMED = re.compile(r"`(\w+)(?:\[([^\]]+)\])?`")


def table(head: str) -> list[dict[str, str]]:
    """The rows of the table that begins so, by the titles of their columns."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(head))
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in takewhile(lambda line: line.startswith("|"), lines[first:])
    ]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def named() -> list[tuple[str, str]]:
    """Test and row of each name in the column."""
    return [pair for head in HEADS.values() for row in table(head) for pair in NAMED.findall(row[COLUMN])]


def test_every_test_that_the_tables_name_is_there_and_the_reverse():
    text = (TESTS / "lab/test_routes.py").read_text(encoding="utf-8")
    assert {test for test, _ in named()} == set(re.findall(r"^def test_(\w+)\(", text, re.MULTILINE))


def test_every_request_that_the_tables_name_is_there_and_the_reverse():
    assert sorted(row for _, row in named() if row) == sorted(ROWS)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_cell_names_nothing_else(head):
    """Whatever stands in the column is one of these names, or a word on it."""
    for row in table(head):
        assert row[COLUMN] == "" or NAMED.match(row[COLUMN]), row
