"""Scalars of YAML, plain and quoted, as their texts; what they mean is for whoever reads them. Pure.

Source: YAML 1.2.2 §5.7, §7.3.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from pilotfish.catalog.values import quoted

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INSIDE = {'"': re.compile(r'(?:[^"\\]|\\.)*'), "'": re.compile(r"(?:[^']|'')*")}  # as far as a line goes
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "/": "/", "0": "\0", "r": "\r", "e": "\x1b", " ": " "}


class BadYaml(ValueError):
    """A text is not of the YAML that is read here; the message names the line."""


def end_of_quotes(text: str, at: int) -> int:
    """Where the quoted scalar that begins at `at` ends; -1: not in this text."""
    end = inside(text, at + 1, text[at])
    return end + 1 if text[end : end + 1] == text[at] else -1


def inside(text: str, at: int, mark: str) -> int:
    """Where what may stand between quotes of a kind ends, in a text that begins within them at `at`."""
    found = _INSIDE[mark].match(text, at)
    return found.end() if found else at


def scalar(text: str, number: int) -> str | None:
    r"""What a whole scalar says: a plain one without blanks around it, or a quoted one in its quotes, on one line.

    Raises:
        BadYaml: it is none; the message names the line, `number`.

    >>> scalar("'it''s'", 1), scalar('"a\n"', 1), scalar("80", 1), scalar("~", 1)
    ("it's", 'a\n', '80', None)
    """
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        return re.sub(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.)", lambda hit: _escaped(hit[1], number), text[1:-1])
    if text[:1] in {"!", "&", "*"}:
        raise BadYaml(f"line {number}: {quoted(text)} is not read there")
    return None if text in NULLS else text


def _escaped(text: str, number: int) -> str:
    if len(text) > 1:
        number_of = int(text[1:], 16)
        if 0xD800 <= number_of <= 0xDFFF:  # half of a surrogate pair is no character (Unicode, D71)
            raise BadYaml(f"line {number}: no character is written \\{text}")
        return chr(number_of)
    if text not in _ESCAPES:
        raise BadYaml(f"line {number}: no escape is written \\{quoted(text)[1:-1]}")
    return _ESCAPES[text]
