"""The part of YAML that Compose files are written in -> texts, lists and maps; anything else is refused by line.

Pure. Block and flow collections, plain and quoted scalars, `|` and `>` blocks, comments, anchors, aliases and `<<`.
A scalar stays text, as it was written: what it means is for whoever reads it; nothing or `null` is None. Tags, several
documents, tabs as indentation and keys that are collections are errors that name the line. Why there is no library for
it: docs/decisions/0021. Source: YAML 1.2.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pilotfish.catalog.values import quoted
from registrator.rules.yaml_scalars import NULLS, BadYaml, Value, end_of_quotes, inside, scalar

MAX_OCTETS = 1024 * 1024
MAX_DEPTH = 64
MAX_MERGED = 100_000  # keys that all `<<` of a text bring in: a few short lines could ask for any number

_COLON = re.compile(r":(?=\s|\Z)")
_COMMENT = re.compile(r"(?<=\s)#")
_BLANKS = re.compile(r"[ \t]*")
_PLAIN_END = re.compile(r"[,\[\]{}]|(?<![^ \t])#")  # of a plain scalar within brackets
_PLAIN_KEY_END = re.compile(r"[,\[\]{}]|(?<![^ \t])#|:(?=[ \t,}]|\Z)")
_NO_KEY = frozenset("#&*!|>%@`[]{},")  # what a plain key does not begin with
_MARK = re.compile(r"([&*])([^\s,\[\]{}]+)\s*")
_BLOCK = re.compile(r"([|>])([+-]?)([1-9]?)([+-]?)\s*(?:#.*)?\Z")


class _Line(NamedTuple):
    number: int
    indent: int
    text: str


def parse(text: str) -> Value:
    r"""Read one document.

    >>> parse("a: [1, 'x y']  # note\nb:\n- c: yes\n  d:\n")
    {'a': ['1', 'x y'], 'b': [{'c': 'yes', 'd': None}]}

    Raises:
        BadYaml: it is something else; the message names the line.
    """
    if len(text) > MAX_OCTETS:
        raise BadYaml(f"larger than {MAX_OCTETS} characters")
    reader = _Reader(text)
    return reader.document()


class _Key(NamedTuple):
    """A key as it is written, and where what stands behind its colon begins."""

    text: str
    end: int


def _key_of(line: str) -> _Key | None:
    """The key that a line begins with, if it is one of a map. Linear in the line."""
    if line[0] in "'\"":
        end = end_of_quotes(line, 0)
        rest = line[end:].lstrip() if end > 0 else ""
        return _Key(line[:end], len(line) - len(rest) + 1) if _COLON.match(rest) else None
    if line[0] in _NO_KEY or (line[0] == "-" and line[1:2] in {"", " ", "#"}):
        return None
    colon = _COLON.search(line)
    key = line[: colon.start()].rstrip() if colon else ""
    return _Key(key, colon.end()) if colon and key and "#" not in key else None


class _Reader:
    """Goes through the lines once; `at` is the next one."""

    def __init__(self, text: str) -> None:
        self.raw = text.removeprefix("\ufeff").splitlines()
        self.at = 0
        self.anchors: dict[str, Value] = {}
        self.merged = 0

    def document(self) -> Value:
        if (first := self.peek()) and first.text == "---":
            self.at += 1
        value = self.node(0, 0) if self.peek() else None
        if (rest := self.peek()) and rest.text != "...":
            what = "a second document" if rest.text.startswith("---") else f"{quoted(rest.text)} does not belong there"
            raise self.error(what, rest.number)
        return value

    def error(self, what: str, number: int | None = None) -> BadYaml:
        return BadYaml(f"line {number or self.at}: {what}")

    def peek(self) -> _Line | None:
        """The next line that holds something; blank ones and comments are passed over."""
        while self.at < len(self.raw):
            raw = self.raw[self.at]
            text = raw.strip()
            if text and not text.startswith("#"):
                indent = len(raw) - len(raw.lstrip(" "))
                if raw[indent] == "\t":
                    raise self.error("a tab in front: YAML is indented by blanks", self.at + 1)
                return _Line(self.at + 1, indent, text)
            self.at += 1
        return None

    def node(self, indent: int, depth: int) -> Value:
        """A block collection or scalar whose lines stand at `indent` or further in."""
        line = self.peek()
        if line is None or line.indent < indent:
            return None
        if depth > MAX_DEPTH:
            raise self.error("nested too deeply", line.number)
        if _is_item(line.text):
            return self.sequence(line.indent, depth)
        if _key_of(line.text):
            return self.mapping(line.indent, depth)
        self.at += 1
        return self.value(line.text, line.indent - 1, depth)

    def sequence(self, indent: int, depth: int, *, beside_key: bool = False) -> Value:
        items: list[Value] = []
        while (line := self.peek()) and line.indent == indent and _is_item(line.text):
            rest = line.text[1:].lstrip()
            inner = indent + len(line.text) - len(rest)
            if rest and not rest.startswith("#") and (_key_of(rest) or _is_item(rest)):
                self.raw[self.at] = " " * inner + rest  # what stands behind the dash is a block of its own
                items.append(self.node(inner, depth + 1))
            else:
                self.at += 1
                items.append(self.value(rest, indent, depth + 1))
        self.no_deeper(indent + beside_key)
        return items

    def mapping(self, indent: int, depth: int) -> Value:
        found: dict[str, Value] = {}
        merged: list[Value] = []
        while (line := self.peek()) and line.indent == indent and (key := _key_of(line.text)):
            name = scalar(key.text, line.number)
            self.at += 1
            value = self.value(line.text[key.end :].lstrip(), indent, depth + 1, in_map=True)
            if name == "<<" and key.text == "<<":
                merged += _sources(value)
            elif name is None or name in found:
                raise self.error(f"{quoted(key.text)} stands there twice or is no key", line.number)
            else:
                found[name] = value
        self.no_deeper(indent)
        return self.merge(found, merged)

    def merge(self, found: dict[str, Value], merged: Sequence[Value]) -> dict[str, Value]:
        """A map with what its `<<` bring in; what it says itself, and what stands in front, counts."""
        for more in merged:
            if not isinstance(more, dict):
                raise self.error("<<: is no alias of a map")
            self.merged += len(more)
            if self.merged > MAX_MERGED:
                raise self.error(f"<< brings in more than {MAX_MERGED} keys in all")
            found = {**more, **found}
        return found

    def no_deeper(self, indent: int) -> None:
        line = self.peek()
        if line and line.indent >= indent and line.text not in {"---", "..."}:
            raise self.error(
                f"{quoted(line.text)} is neither of the list or map in front nor behind its end", line.number
            )

    def value(self, text: str, indent: int, depth: int, *, in_map: bool = False) -> Value:
        """What stands behind a dash or a colon, whose line is at `indent`; it may go on in the lines below."""
        number = self.at
        anchor = ""
        if mark := _MARK.match(text):
            text = text[mark.end() :]
            if mark[1] == "*":
                return self.alias(mark[2], text)
            anchor = mark[2]
        if text.startswith("#"):
            text = ""
        value = self.below(indent, depth, in_map=in_map) if not text else self.inline(text, indent, number)
        if anchor:
            self.anchors[anchor] = value
        return value

    def alias(self, name: str, rest: str) -> Value:
        if rest and not rest.startswith("#"):
            raise self.error(f"{quoted(rest)} behind *{quoted(name)[1:-1]}")
        if name not in self.anchors:
            raise self.error(f"*{quoted(name)[1:-1]} is not known there")
        return self.anchors[name]

    def below(self, indent: int, depth: int, *, in_map: bool) -> Value:
        line = self.peek()
        if line and line.indent == indent and in_map and _is_item(line.text):
            return self.sequence(indent, depth, beside_key=True)  # a list may stand as far out as its key
        return self.node(indent + 1, depth)

    def inline(self, text: str, indent: int, number: int) -> Value:
        if text[0] == "!":
            raise self.error(f"the tag {quoted(text.split(maxsplit=1)[0])} is not read here", number)
        if text[0] in "@`%":
            raise self.error(f"{quoted(text)} begins with a reserved character", number)
        if block := _BLOCK.match(text):
            return self.block(block[1], block[2] or block[4], int(block[3] or 0), indent)
        if text[0] in "[{":
            return self.flow(text, number)
        if text[0] in "'\"":
            whole, line, end = self.closed(text, 0, number)
            rest = line[end:].strip()
            if rest and not rest.startswith("#"):
                raise self.error(f"{quoted(text)}: {_NOT_CLOSED}", number)
            return scalar(whole, number)
        return self.plain(text, indent)

    def next_line(self) -> str | None:
        """The line below without the blanks around it, whatever it holds; None behind the last."""
        if self.at >= len(self.raw):
            return None
        self.at += 1
        return self.raw[self.at - 1].strip()

    def closed(self, line: str, at: int, number: int) -> tuple[str, str, int]:
        """The quoted scalar that begins at `at`, which may go on below.

        A line break becomes a blank, with empty lines behind it as many line breaks, and with a backslash in front
        nothing (YAML 1.2.2 §7.3.1).

        Returns:
            The scalar in its quotes, the line in which it ends, and where in it.
        """
        first, mark = line[at:], line[at]
        parts, at = [mark], at + 1
        while True:
            end = inside(line, at, mark)
            parts.append(line[at:end])
            if line[end : end + 1] == mark:
                return "".join([*parts, mark]), line, end + 1
            if end < len(line) and self.raw[self.at - 1][-1:].isspace():
                raise self.error("blanks behind the backslash at the end")
            empty, more = 0, self.next_line()
            while more == "":
                empty, more = empty + 1, self.next_line()
            if more is None:
                raise self.error(f"{quoted(first)}: {_NOT_CLOSED}", number)
            parts.append("\n" * empty or ("" if end < len(line) else " "))
            line, at = more, 0

    def plain(self, text: str, indent: int) -> Value:
        parts = [_without_comment(text)]
        while (line := self.peek()) and line.indent > indent and line.text not in {"---", "..."}:
            if _key_of(line.text):
                raise self.error(f"a key below the text {quoted(parts[0])}", line.number)
            parts.append(_without_comment(line.text))
            self.at += 1
        _refuse_colon(parts[0], self.at)
        whole = " ".join(parts)
        return None if whole in NULLS else whole

    def block(self, style: str, chomp: str, given: int, indent: int) -> str:
        """A `|` or `>` scalar (YAML 1.2.2 §8.1)."""
        lines: list[str] = []
        inner = indent + given if given else 0
        while self.at < len(self.raw):
            raw = self.raw[self.at]
            own = len(raw) - len(raw.lstrip(" "))
            if raw.strip():
                inner = inner or own
                if own < inner or inner <= indent:
                    break
            lines.append(raw[inner:] if raw.strip() else "")
            self.at += 1
        body = "\n".join(lines).rstrip("\n") if chomp != "+" else "\n".join(lines)
        if style == ">":
            body = re.sub(r"(?<=[^\n])\n(\n*)(?=[^\n ])", lambda hit: hit[1] or " ", body)
        return body if chomp == "-" or not body else f"{body}\n"

    def flow(self, text: str, number: int) -> Value:
        """A flow collection, which may go on below."""
        flow = _Flow(text, self, number)
        value = flow.node(0)
        rest = flow.line[flow.at :].strip()
        if rest and not rest.startswith("#"):
            raise self.error(f"{quoted(rest)} behind a bracket", number)
        return value


class _Flow:
    """A flow collection: goes through one line after another, each once; `at` is the next character of `line`."""

    def __init__(self, line: str, reader: _Reader, number: int) -> None:
        self.line, self.at, self.reader, self.number = line, 0, reader, number

    def error(self, what: str) -> BadYaml:
        return self.reader.error(what, self.number)

    def further(self) -> None:
        line = self.reader.next_line()
        if line is None:
            raise self.error("a bracket is not closed")
        self.line, self.at = line, 0

    def peek(self) -> str:
        """The next character that is neither a blank nor of a comment."""
        while True:
            blanks = _BLANKS.match(self.line, self.at)
            at = blanks.end() if blanks else self.at
            comment = self.line[at : at + 1] == "#" and (at == 0 or self.line[at - 1] in " \t")
            if at < len(self.line) and not comment:
                self.at = at
                return self.line[at]
            self.further()

    def node(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise self.error("nested too deeply")
        first = self.peek()
        if first in "[{":
            self.at += 1
            return self.sequence(depth) if first == "[" else self.mapping(depth)
        if first == "*":
            mark = _MARK.match(self.line, self.at)
            self.at = mark.end() if mark else self.at + 1
            return self.reader.alias(mark[2] if mark else "", "")
        return self.scalar()

    def scalar(self, *, key: bool = False) -> str | None:
        if self.peek() in "'\"":
            whole, self.line, self.at = self.reader.closed(self.line, self.at, self.number)
            return scalar(whole, self.number)
        parts = []
        while True:
            hit = (_PLAIN_KEY_END if key else _PLAIN_END).search(self.line, self.at)
            end = hit.start() if hit else len(self.line)
            parts.append(self.line[self.at : end].strip())
            if hit and hit[0] != "#":
                self.at, whole = end, " ".join(filter(None, parts))
                _refuse_colon(whole, self.number)
                return scalar(whole, self.number)
            self.further()

    def sequence(self, depth: int) -> Value:
        items: list[Value] = []
        while self.peek() != "]":
            items.append(self.node(depth + 1))
            self.after("]")
        self.at += 1
        return items

    def mapping(self, depth: int) -> Value:
        found: dict[str, Value] = {}
        merged: list[Value] = []
        while self.peek() != "}":
            plain = self.peek() not in "'\""
            key = self.scalar(key=True)
            value: Value = None
            if self.peek() == ":":
                self.at += 1
                if self.peek() not in ",}":
                    value = self.node(depth + 1)
            if key == "<<" and plain:
                merged += _sources(value)
            elif key is None or key in found:
                raise self.error(f"{quoted(str(key))} stands there twice or is no key")
            else:
                found[key] = value
            self.after("}")
        self.at += 1
        return self.reader.merge(found, merged)

    def after(self, closing: str) -> None:
        if self.peek() == ",":
            self.at += 1
        elif self.line[self.at] != closing:
            raise self.error(f"{quoted(self.line[self.at :])} where a comma or {closing} is due")


_NOT_CLOSED = "a quote that is not closed, or something behind it"


def _refuse_colon(text: str, number: int) -> None:
    """A plain text that others would read as a key and its value."""
    if ": " in text or text.endswith(":"):
        raise BadYaml(f"line {number}: {quoted(text)} holds a colon: put it in quotes")


def _sources(value: Value) -> list[Value]:
    """What a `<<` brings in: one map, or several."""
    return value if isinstance(value, list) else [value]


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _without_comment(text: str) -> str:
    hit = _COMMENT.search(text)
    return text[: hit.start()].rstrip() if hit else text
