"""Go template text -> tokens, following text/template/parse/lex.go.

Knows delimiters, trim markers, comments and the shapes of words, numbers and quoted text; not what they mean together.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Set
from typing import NoReturn

import msgspec

from pilotfish.catalog.gotemplate.nodes import Source

SPACES = " \t\r\n"
_AFTER_A_WORD = ".,|:)("  # besides a space, the closing delimiter and the end: what may follow a name
_KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"))
_DIGITS = {"0x": "0123456789abcdef_", "0o": "01234567_", "0b": "01_"}
_EXPONENTS = {"0x": "pP", "": "eE"}


class Kind(enum.Enum):
    """What a token is. The value is how messages speak of it."""

    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    SPACE = "space"
    ASSIGN = "="
    DECLARE = ":="
    PIPE = "|"
    STRING = "string"
    RAW = "raw string"
    CHARACTER = "character constant"
    NUMBER = "number"
    BOOL = "boolean"
    VARIABLE = "variable"
    FIELD = "field"
    DOT = "."
    NAME = "name"
    KEYWORD = "keyword"
    OPEN = "("
    CLOSE = ")"
    OTHER = "character"
    END = "end of the template"


class Token(msgspec.Struct, frozen=True):
    """A piece of the text: its kind, its letters and its offset."""

    kind: Kind
    text: str
    pos: int

    def __str__(self) -> str:
        return repr(self.text) if self.text else self.kind.value


def tokens(source: Source, names: Set[str]) -> list[Token]:
    """Cut a template into tokens; the last one is END.

    Args:
        source: the template.
        names: functions by the name of a keyword ("break") make it a plain name, as in Go.

    Raises:
        TemplateError: an unclosed action, comment or quote, a malformed word.
    """
    lexer = _Lexer(source, _KEYWORDS - (names & {"break", "continue"}))
    lexer.run()
    return lexer.found


def _is_word(char: str) -> bool:
    """True for what unicode.IsLetter, unicode.IsDigit or the underscore accept."""
    return char == "_" or char.isalpha() or char.isdecimal()


class _Lexer:
    """A cursor over the text. `take_*` methods begin at the first character of what they take."""

    def __init__(self, source: Source, keywords: Set[str]) -> None:
        self.source = source
        self.text = source.text
        self.keywords = keywords
        self.found: list[Token] = []
        self.pos = 0
        self.start = 0
        self.parentheses = 0

    def run(self) -> None:
        while self.pos < len(self.text):
            self.take_text()
            if self.pos < len(self.text):
                self.take_action()
        self.start = self.pos
        self.emit(Kind.END)

    def fail(self, message: str) -> NoReturn:
        raise self.source.error(self.start, message)

    def emit(self, kind: Kind) -> None:
        self.found.append(Token(kind, self.text[self.start : self.pos], self.start))
        self.start = self.pos

    def char(self, offset: int = 0) -> str:
        """The character at the cursor, "" at the end."""
        return self.text[self.pos + offset : self.pos + offset + 1]

    def looking_at(self, what: str, offset: int = 0) -> bool:
        return self.text.startswith(what, self.pos + offset)

    def space_at(self, offset: int) -> bool:
        char = self.char(offset)
        return char != "" and char in SPACES

    def skip(self, count: int) -> None:
        self.pos += count
        self.start = self.pos

    def skip_spaces(self) -> None:
        while self.space_at(0):
            self.pos += 1
        self.start = self.pos

    def take_text(self) -> None:
        """Take text up to the next action; "{{- " takes the spaces before it away."""
        self.start = self.pos
        end = self.text.find("{{", self.pos)
        self.pos = len(self.text) if end < 0 else end
        text = self.text[self.start : self.pos]
        if self.looking_at("{{-") and self.space_at(3):
            text = text.rstrip(SPACES)
        if text:
            self.found.append(Token(Kind.TEXT, text, self.start))
        self.start = self.pos

    def take_action(self) -> None:
        marker = 2 if self.looking_at("-", 2) and self.space_at(3) else 0
        if self.looking_at("/*", 2 + marker):
            self.take_comment(2 + marker)
            return
        self.pos += 2
        self.emit(Kind.LEFT)
        self.skip(marker)
        self.parentheses = 0
        while not self.take_right():
            self.take_inside()

    def take_comment(self, opening: int) -> None:
        end = self.text.find("*/", self.pos + opening + 2)
        if end < 0:
            self.fail("the comment is not closed with */")
        self.pos = end + 2
        if not self.at_right():
            self.fail("a comment must fill its action: }} has to follow the */ at once")
        self.close()

    def at_right(self) -> bool:
        return self.looking_at("}}") or (self.space_at(0) and self.looking_at("-}}", 1))

    def close(self) -> None:
        """Step over }} or " -}}", and with the latter over the spaces that follow."""
        trims = not self.looking_at("}}")
        self.skip(4 if trims else 2)
        if trims:
            self.skip_spaces()

    def take_right(self) -> bool:
        if not self.at_right():
            return False
        if self.parentheses:
            self.fail("unclosed (")
        self.found.append(Token(Kind.RIGHT, "}}", self.pos))
        self.close()
        return True

    def take_inside(self) -> None:
        """Take one token of an action."""
        char = self.char()
        if not char:
            self.fail("the action is not closed with }}")
        take = _TAKE.get(char)
        if take is not None:
            take(self)
        elif char in SPACES:
            self.take_spaces()
        elif char in "+-0123456789":
            self.take_number()
        elif _is_word(char):
            self.take_name()
        elif char.isascii() and char.isprintable():
            self.take_one(Kind.OTHER)
        else:
            self.fail(f"unrecognized character {char!r} in an action")

    def take_one(self, kind: Kind) -> None:
        self.pos += 1
        self.emit(kind)

    def take_spaces(self) -> None:
        while self.space_at(0):
            self.pos += 1
        if self.looking_at("-}}"):
            self.pos -= 1  # that space belongs to the trim marker
        if self.pos > self.start:
            self.emit(Kind.SPACE)

    def take_declare(self) -> None:
        if not self.looking_at(":="):
            self.fail("expected :=")
        self.pos += 2
        self.emit(Kind.DECLARE)

    def take_open(self) -> None:
        self.parentheses += 1
        self.take_one(Kind.OPEN)

    def take_close(self) -> None:
        self.parentheses -= 1
        if self.parentheses < 0:
            self.fail("unexpected )")
        self.take_one(Kind.CLOSE)

    def take_quoted(self, kind: Kind) -> None:
        """Take a string or character constant in one line, with backslash escapes."""
        quote = self.char()
        self.pos += 1
        while (char := self.char()) != quote:
            self.pos += 2 if char == "\\" else 1
            if self.text[self.pos - 1 : self.pos] in {"", "\n"}:
                self.fail(f"unterminated {kind.value}")
        self.take_one(kind)

    def take_raw(self) -> None:
        end = self.text.find("`", self.pos + 1)
        if end < 0:
            self.fail("unterminated raw string")
        self.pos = end + 1
        self.emit(Kind.RAW)

    def take_word(self) -> str:
        while (char := self.char()) and _is_word(char):
            self.pos += 1
        following = self.char()
        if following and following not in SPACES + _AFTER_A_WORD and not self.looking_at("}}"):
            self.fail(f"bad character {following!r} after {self.text[self.start : self.pos]!r}")
        return self.text[self.start : self.pos]

    def take_name(self) -> None:
        word = self.take_word()
        bools = {"true": Kind.BOOL, "false": Kind.BOOL}
        self.emit(Kind.KEYWORD if word in self.keywords else bools.get(word, Kind.NAME))

    def take_variable(self) -> None:
        self.pos += 1
        self.take_word()
        self.emit(Kind.VARIABLE)

    def take_field(self) -> None:
        following = self.char(1)
        if following.isascii() and following.isdigit():
            self.take_number()
            return
        self.pos += 1
        self.emit(Kind.DOT if self.take_word() == "." else Kind.FIELD)

    def run_of(self, chars: str) -> None:
        while (char := self.char()) and char in chars:
            self.pos += 1

    def one_of(self, chars: str) -> bool:
        taken = self.char() != "" and self.char() in chars
        self.pos += taken
        return taken

    def take_number(self) -> None:
        """Take what looks like a number; whether it is one is seen when it is converted."""
        self.one_of("+-")
        prefix = self.text[self.pos : self.pos + 2].lower()
        prefix = prefix if prefix in _DIGITS else ""
        self.pos += len(prefix)
        digits = _DIGITS.get(prefix, "0123456789_")
        self.run_of(digits + digits.upper())
        if self.one_of("."):
            self.run_of(digits + digits.upper())
        if self.one_of(_EXPONENTS.get(prefix, "\0")):
            self.one_of("+-")
            self.run_of("0123456789_")
        following = self.char()
        if following and (_is_word(following) or following in "+-"):
            self.fail(f"bad number {self.text[self.start : self.pos + 1]!r}")
        self.emit(Kind.NUMBER)


_TAKE: dict[str, Callable[[_Lexer], None]] = {
    "=": lambda lexer: lexer.take_one(Kind.ASSIGN),
    "|": lambda lexer: lexer.take_one(Kind.PIPE),
    ":": _Lexer.take_declare,
    '"': lambda lexer: lexer.take_quoted(Kind.STRING),
    "'": lambda lexer: lexer.take_quoted(Kind.CHARACTER),
    "`": _Lexer.take_raw,
    "$": _Lexer.take_variable,
    ".": _Lexer.take_field,
    "(": _Lexer.take_open,
    ")": _Lexer.take_close,
}
