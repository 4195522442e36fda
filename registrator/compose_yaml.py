"""The part of YAML that Compose files are written in -> texts, lists and maps; anything else is refused by line.

Pure. Block and flow collections, plain and quoted scalars, `|` and `>` blocks, comments, anchors, aliases and `<<`.
A scalar stays text, as it was written: what it means is for whoever reads it; nothing or `null` is None. Tags, several
documents, tabs as indentation and keys that are collections are errors that name the line. Why there is no library for
it: docs/decisions/0021. Source: YAML 1.2.2.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from pilotfish.catalog.values import quoted

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"

MAX_OCTETS = 1024 * 1024
MAX_DEPTH = 64
MAX_LINES = 500  # of one quoted text or bracket: each further line is read with all before it

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_COLON = re.compile(r":(?=\s|\Z)")
_COMMENT = re.compile(r"(?<=\s)#")
_NO_KEY = frozenset("#&*!|>%@`[]{},")  # what a plain key does not begin with
_MARK = re.compile(r"([&*])([^\s,\[\]{}]+)\s*")
_BLOCK = re.compile(r"([|>])([+-]?)([1-9]?)([+-]?)\s*(?:#.*)?\Z")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "/": "/", "0": "\0", "r": "\r", "e": "\x1b", " ": " "}


class BadYaml(ValueError):
    """A text is not of the YAML that is read here; the message names the line."""


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
        end = _end_of_quotes(line, 0)
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
            name = _scalar(key.text, self, line.number)
            self.at += 1
            value = self.value(line.text[key.end :].lstrip(), indent, depth + 1, in_map=True)
            if name == "<<" and key.text == "<<":
                merged += value if isinstance(value, list) else [value]
            elif name is None or name in found:
                raise self.error(f"{quoted(key.text)} stands there twice or is no key", line.number)
            else:
                found[name] = value
        self.no_deeper(indent)
        for more in merged:
            if not isinstance(more, dict):
                raise self.error("<<: is no alias of a map")
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
            return _quoted_alone(self.until_closed(text), self, number)
        return self.plain(text, indent)

    def until_closed(self, text: str) -> str:
        """A quoted scalar may go on below: line breaks become blanks (YAML 1.2.2 §7.3)."""
        last = min(len(self.raw), self.at + MAX_LINES)
        while not _closes(text) and self.at < last:
            text = f"{text} {self.raw[self.at].strip()}"
            self.at += 1
        return text

    def plain(self, text: str, indent: int) -> Value:
        parts = [_without_comment(text)]
        while (line := self.peek()) and line.indent > indent and line.text not in {"---", "..."}:
            if _key_of(line.text):
                raise self.error(f"a key below the text {quoted(parts[0])}", line.number)
            parts.append(_without_comment(line.text))
            self.at += 1
        if ": " in parts[0] or parts[0].endswith(":"):
            raise self.error(f"{quoted(parts[0])} holds a colon: put it in quotes")
        whole = " ".join(parts)
        return None if whole in _NULLS else whole

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
        last = min(len(self.raw), self.at + MAX_LINES)
        while True:
            try:
                value, end = _Flow(text, self, number).node(0, 0)
            except IndexError:
                if self.at >= last:
                    within = f" within {MAX_LINES} lines" if last < len(self.raw) else ""
                    raise self.error(f"a bracket is not closed{within}", number) from None
                text = f"{_without_comment(text)} {self.raw[self.at].strip()}"
                self.at += 1
                continue
            rest = text[end:].strip()
            if rest and not rest.startswith("#"):
                raise self.error(f"{quoted(rest)} behind a bracket", number)
            return value


class _Flow:
    """A flow collection in one text; runs over its end with IndexError, so that the reader adds a line."""

    def __init__(self, text: str, reader: _Reader, number: int) -> None:
        self.text, self.reader, self.number = text, reader, number

    def node(self, at: int, depth: int) -> tuple[Value, int]:
        if depth > MAX_DEPTH:
            raise self.reader.error("nested too deeply", self.number)
        at = self.skip(at)
        if self.text[at] == "[":
            return self.sequence(at + 1, depth)
        if self.text[at] == "{":
            return self.mapping(at + 1, depth)
        if self.text[at] == "*":
            mark = _MARK.match(self.text, at)
            return self.reader.alias(mark[2] if mark else "", ""), mark.end() if mark else at + 1
        return self.scalar(at)

    def skip(self, at: int) -> int:
        while self.text[at] in " \t":
            at += 1
        return at

    def scalar(self, at: int, *, key: bool = False) -> tuple[str | None, int]:
        if self.text[at] in "'\"":
            end = _end_of_quotes(self.text, at)
            if end < 0:
                raise IndexError
            return _scalar(self.text[at:end], self.reader, self.number), end
        end = at
        while self.text[end] not in ",[]{}" and not (key and self.text[end] == ":" and self.text[end + 1] in " ,}"):
            end += 1
        return _scalar(self.text[at:end].strip(), self.reader, self.number), end

    def sequence(self, at: int, depth: int) -> tuple[Value, int]:
        items: list[Value] = []
        while self.text[at := self.skip(at)] != "]":
            item, at = self.node(at, depth + 1)
            items.append(item)
            at = self.after(at, "]")
        return items, at + 1

    def mapping(self, at: int, depth: int) -> tuple[Value, int]:
        found: dict[str, Value] = {}
        while self.text[at := self.skip(at)] != "}":
            key, at = self.scalar(at, key=True)
            at = self.skip(at)
            value: Value = None
            if self.text[at] == ":":
                at = self.skip(at + 1)
                if self.text[at] not in ",}":
                    value, at = self.node(at, depth + 1)
            if key is None or key in found:
                raise self.reader.error(f"{quoted(str(key))} stands there twice or is no key", self.number)
            found[key] = value
            at = self.after(at, "}")
        return found, at + 1

    def after(self, at: int, closing: str) -> int:
        at = self.skip(at)
        if self.text[at] == ",":
            return at + 1
        if self.text[at] != closing:
            raise self.reader.error(f"{quoted(self.text[at:])} where a comma or {closing} is due", self.number)
        return at


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _without_comment(text: str) -> str:
    hit = _COMMENT.search(text)
    return text[: hit.start()].rstrip() if hit else text


def _end_of_quotes(text: str, at: int) -> int:
    """Where the quoted scalar that begins at `at` ends; -1: not in this text."""
    pattern = r'"(?:[^"\\]|\\.)*"' if text[at] == '"' else r"'(?:[^']|'')*'"
    found = re.compile(pattern).match(text, at)
    return found.end() if found else -1


def _closes(text: str) -> bool:
    return _end_of_quotes(text, 0) > 0


def _quoted_alone(text: str, reader: _Reader, number: int) -> Value:
    end = _end_of_quotes(text, 0)
    rest = text[end:].strip() if end > 0 else text
    if end < 0 or (rest and not rest.startswith("#")):
        raise reader.error(f"{quoted(text)}: a quote that is not closed, or something behind it", number)
    return _scalar(text[:end], reader, number)


def _scalar(text: str, reader: _Reader, number: int) -> str | None:
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        return re.sub(
            r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|.)", lambda hit: _escaped(hit[1], reader, number), text[1:-1]
        )
    if text[:1] in {"!", "&", "*"}:
        raise reader.error(f"{quoted(text)} is not read there", number)
    return None if text in _NULLS else text


def _escaped(text: str, reader: _Reader, number: int) -> str:
    if len(text) > 1:
        return chr(int(text[1:], 16))
    if text not in _ESCAPES:
        raise reader.error(f"no escape is written \\{quoted(text)[1:-1]}", number)
    return _ESCAPES[text]
