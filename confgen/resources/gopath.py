"""Paths and globs as Go's package path has them, which confd's functions are made of.

Pure text; nothing here asks a disk. Expectations were checked against Go.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

_SPECIAL = re.compile(r"[*?\[\\]")


class BadPattern(ValueError):
    """A glob is malformed; the message is Go's, with the pattern."""


def clean(path: str) -> str:
    """The shortest path that means the same: path.Clean.

    >>> clean("//a/./b/../c/"), clean("")
    ('/a/c', '.')
    """
    found = posixpath.normpath(path)
    return found[1:] if found.startswith("//") else found  # POSIX keeps two slashes in front, Go does not


def base(path: str) -> str:
    """The last element: path.Base.

    >>> base("/a/b/"), base(""), base("/")
    ('b', '.', '/')
    """
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def directory(path: str) -> str:
    """All but the last element: path.Dir.

    >>> directory("/a/b"), directory("/a/b/"), directory("a")
    ('/a', '/a/b', '.')
    """
    return clean(path[: path.rfind("/") + 1])


def join(*parts: str) -> str:
    """Join the parts that are not empty with slashes, and clean the result: path.Join.

    >>> join("/", "/a/", "b"), join("", "")
    ('/a/b', '')
    """
    found = [part for part in parts if part]
    return clean("/".join(found)) if found else ""


def literal(pattern: str) -> str:
    """What every match of a pattern begins with.

    >>> literal("/a/b*/c")
    '/a/b'
    """
    special = _SPECIAL.search(pattern)
    return pattern[: special.start()] if special else pattern


def matcher(pattern: str) -> Callable[[str], bool]:
    """Compile a glob as path.Match reads it: `*` and `?` stay within one element, classes and escapes work.

    >>> [key for key in ("/a/b", "/a/b/c", "/a") if matcher("/a/*")(key)]
    ['/a/b']

    Raises:
        BadPattern: an escape or a class is not finished.
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            piece, at = _class(pattern, at + 1)
            out.append(piece)
            continue
        if char == "\\":
            char, at = _escaped(pattern, at)
            out.append(re.escape(char))
            continue
        out.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
        at += 1
    found = re.compile("".join(out), re.DOTALL)
    return lambda text: found.fullmatch(text) is not None


def _escaped(pattern: str, at: int) -> tuple[str, int]:
    if at + 1 >= len(pattern):
        raise BadPattern(f"syntax error in pattern {pattern!r}")
    return pattern[at + 1], at + 2


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Read a class after its bracket: a piece of a regular expression, and where the pattern goes on.

    A class may match a slash: so it is in Go.
    """
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    first = True
    while first or pattern[at : at + 1] != "]":
        low, at = _edge(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _edge(pattern, at + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        first = False
    if not ranges:
        return (".", at + 1) if negated else ("(?!)", at + 1)
    return f"[{'^' if negated else ''}{''.join(ranges)}]", at + 1


def _edge(pattern: str, at: int) -> tuple[str, int]:
    """One character of a class."""
    char = pattern[at : at + 1]
    if char in {"", "-", "]"}:
        raise BadPattern(f"syntax error in pattern {pattern!r}")
    if char == "\\":
        char, at = _escaped(pattern, at)
    else:
        at += 1
    if at >= len(pattern):  # a class that nothing closes
        raise BadPattern(f"syntax error in pattern {pattern!r}")
    return char, at
