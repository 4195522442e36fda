"""The `%...` of a format, read as fmt does: flags, `[1]`, width and precision, each of which may be `*`.

What is odd is not refused: it comes out as fmt's own complaint. Expectations were checked against Go.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

MAX_COUNT = 10_000  # of width and precision; Go's own limit is a million
_TOO_LARGE = 1_000_000  # a width or precision that comes as an argument, and that Go does not take


class Directive(msgspec.Struct, frozen=True):
    """One `%...` of a format.

    Attributes:
        flags: of "+-# 0".
        width: 0 for none.
        precision: None for none.
        verb: "" at the end of the format.
        index: of the argument that is written, from 0.
        bad_index: it was asked for an argument that there cannot be.
        complaints: what fmt writes before it.
    """

    flags: frozenset[str]
    width: int
    precision: int | None
    verb: str
    index: int
    bad_index: bool
    complaints: str


class Reader:
    """Reads the directives of one format in turn.

    Args:
        form: the format.
        args: what is written into it; widths and precisions may be among them.

    Attributes:
        at: the character that is read next.
        turn: the argument that is next.
        reordered: True once an argument was asked for by its number.
    """

    def __init__(self, form: str, args: Sequence[object]) -> None:
        self.form, self.args = form, args
        self.at = self.turn = 0
        self.reordered = self._bad = self._after_index = False
        self._complaints: list[str] = []

    def directive(self) -> Directive:
        """Read one; `at` stands behind its percent sign.

        Raises:
            ValueError: its width or precision is over MAX_COUNT.
        """
        self._bad, self._complaints = False, []
        start = self.at
        while self._peek() and self._peek() in "+-# 0":
            self.at += 1
        flags = frozenset(self.form[start : self.at])
        self._argument()
        width, flags = self._width(flags)
        precision = self._precision()
        if not self._after_index:
            self._argument()
        verb = self._peek()
        self.at += len(verb)
        return Directive(flags, width, precision, verb, self.turn, self._bad, "".join(self._complaints))

    def _peek(self) -> str:
        return self.form[self.at : self.at + 1]

    def _width(self, flags: frozenset[str]) -> tuple[int, frozenset[str]]:
        if self._peek() != "*":
            count = self._digits()
            self._bad = self._bad or (self._after_index and count is not None)
            return count or 0, flags
        count = self._counted("%!(BADWIDTH)") or 0
        return (count, flags) if count >= 0 else (-count, flags - {"0"} | {"-"})

    def _precision(self) -> int | None:
        if self._peek() != ".":
            return None
        self.at += 1
        self._bad = self._bad or self._after_index
        self._argument()
        if self._peek() != "*":
            return self._digits() or 0
        return self._counted("%!(BADPREC)", least=0)

    def _digits(self) -> int | None:
        start = self.at
        while self._peek().isascii() and self._peek().isdigit():
            self.at += 1
        return _bounded(int(self.form[start : min(self.at, start + 9)])) if self.at > start else None

    def _counted(self, complaint: str, least: int = -_TOO_LARGE) -> int | None:
        """A width or precision that is an argument."""
        self.at += 1
        self._after_index = False
        value = self.args[self.turn] if self.turn < len(self.args) else None
        self.turn += self.turn < len(self.args)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= _TOO_LARGE:
            return _bounded(value)
        self._complaints.append(complaint)
        return None

    def _argument(self) -> None:
        """An index such as `[2]`."""
        self._after_index = False
        if self._peek() != "[":
            return
        self.reordered = True
        start, end = self.at + 1, self.form.find("]", self.at)
        if end < 0 or len(self.form) - self.at < 3:
            self._bad, self.at = True, start
            return
        self.at = end + 1
        digits = self.form[start:end]
        number = int(digits[:9]) if digits.isascii() and digits.isdigit() else None
        self._after_index = number is not None
        if number is not None and 1 <= number <= len(self.args):
            self.turn = number - 1
        else:
            self._bad = True


def _bounded(count: int) -> int:
    if abs(count) > MAX_COUNT:
        raise ValueError(f"printf: width or precision over {MAX_COUNT}")
    return count
