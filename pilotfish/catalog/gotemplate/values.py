"""Values as Go templates see them: truth, kinds, and how fmt writes them.

Values are what JSON knows (None, bool, int, float, str, sequences, mappings with text keys) and functions. They stand
for Go's nil, bool, int, float64, string, []any, map[string]any and func. Functions may also give back a `Slice`, whose
elements are all of one type, and a `Struct`. Expectations were checked against Go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import ClassVar

MAX_DEPTH = 50  # lists and maps within each other that are written out
_TYPES: tuple[tuple[type, str], ...] = (
    (type(None), "<nil>"),
    (bool, "bool"),  # before int: in Python a bool is one
    (int, "int"),
    (float, "float64"),
    (str, "string"),
    (Mapping, "map[string]interface {}"),
    (Sequence, "[]interface {}"),
)
_NO_METHODS: Mapping[str, Callable[..., object]] = MappingProxyType({})
_ESCAPES = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}


class Uint8(int):
    """An octet of a text, which `index` gives; Go does not take it for an int."""

    go_type: ClassVar[str] = "uint8"


class Slice(list[object]):
    """A list of one element type; a subclass says which. Like Go's it can be changed by whoever holds it."""

    go_type: ClassVar[str] = "[]interface {}"


class Struct:
    """A value with named fields, in the order in which they are printed.

    Attributes:
        fields: by name.
        methods: what can be called on it, by name.
        go_type: its type's name in Go.
        text: how it prints, where it has a String method; "" where its fields are printed.
    """

    go_type: ClassVar[str] = "struct"

    def __init__(
        self,
        fields: Mapping[str, object],
        methods: Mapping[str, Callable[..., object]] = _NO_METHODS,
        text: str = "",
    ) -> None:
        self.fields = fields
        self.methods = methods
        self.text = text

    def __getattr__(self, name: str) -> object:
        """Its fields and methods, for the template language that asks for attributes."""
        for known in (self.__dict__.get("fields", {}), self.__dict__.get("methods", {})):
            if name in known:
                return known[name]
        raise AttributeError(name)

    def __str__(self) -> str:
        return go_text(self)

    def __repr__(self) -> str:
        return go_text(self)


def go_type(value: object) -> str:
    """Name the Go type that a value stands for.

    >>> go_type(True), go_type([1])
    ('bool', '[]interface {}')
    """
    if isinstance(value, Slice | Struct | Uint8):
        return value.go_type
    for kinds, name in _TYPES:
        if isinstance(value, kinds):
            return name
    return "func" if callable(value) else type(value).__name__


def is_true(value: object) -> bool:
    """Truth as `if` sees it: false for nil, false, 0, "" and whatever is empty."""
    return value is not None and (callable(value) or bool(value))


def go_text(value: object, depth: int = 0) -> str:
    """Write a value as fmt's %v does.

    >>> go_text({"b": [1, "x", None], "a": 1e6})
    'map[a:1e+06 b:[1 x <nil>]]'

    Raises:
        ValueError: a function, or something nested deeper than MAX_DEPTH.
    """
    if isinstance(value, str):
        return value
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested more than {MAX_DEPTH} deep cannot be printed")
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{go_text(item, depth + 1)}' for key, item in in_order(value))}]"
    if isinstance(value, Sequence):
        return f"[{' '.join(go_text(item, depth + 1) for item in value)}]"
    if isinstance(value, Struct):
        return value.text or f"{{{' '.join(go_text(item, depth + 1) for item in value.fields.values())}}}"
    return _scalar(value)


def in_order(value: Mapping[object, object]) -> list[tuple[object, object]]:
    """The items of a map in the order in which Go prints and ranges over them."""
    return sorted(value.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def _scalar(value: object) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, int):
        return str(value)
    raise ValueError(f"a value of type {go_type(value)} cannot be printed")


def float_text(value: float) -> str:
    """Write a float with the fewest digits that give it back, as strconv's 'g' with precision -1 does.

    >>> float_text(0.5), float_text(1e6), float_text(1e-5)
    ('0.5', '1e+06', '1e-05')
    """
    if value != value:  # noqa: PLR0124  # the test for NaN that needs no import
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    if value != 0 and not -4 <= power < 6:
        mantissa = "".join(map(str, digits))
        point = "." if len(mantissa) > 1 else ""
        return f"{'-' * sign}{mantissa[0]}{point}{mantissa[1:]}e{'-' if power < 0 else '+'}{abs(power):02d}"
    return f"{Decimal(repr(value)).normalize():f}"


def sprint(values: Sequence[object]) -> str:
    """Join values as fmt.Sprint does: with a space between two neighbours of which none is a string.

    >>> sprint([1, 2, "a", 3])
    '1 2a3'
    """
    out: list[str] = []
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out.append(" ")
        out.append(go_text(value))
    return "".join(out)


def quoted(text: str, *, ascii_only: bool = False) -> str:
    """Quote text as strconv.Quote does, or QuoteToASCII."""
    return '"' + "".join(_quoted_char(char, '"', ascii_only=ascii_only) for char in text) + '"'


def quoted_char(code: int, *, ascii_only: bool = False) -> str:
    """Quote a code point as strconv.QuoteRune does."""
    char = chr(code) if 0 <= code <= 0x10FFFF else "\ufffd"
    return "'" + _quoted_char(char, "'", ascii_only=ascii_only) + "'"


def octets(text: str) -> bytes:
    """The octets of a text; those that are no UTF-8 stand in it as halves of pairs (PEP 383)."""
    return text.encode("utf-8", "surrogateescape")


def is_octet(char: str) -> bool:
    """True for what stands in a text for an octet that is no UTF-8 (PEP 383)."""
    return "\udc80" <= char <= "\udcff"


def _quoted_char(char: str, quote: str, *, ascii_only: bool) -> str:
    code = ord(char)
    if is_octet(char):
        return f"\\x{code - 0xDC00:02x}"
    if code in _ESCAPES or char == quote:
        return _ESCAPES.get(code, "\\" + char)
    if char.isprintable() and (code < 0x7F or not ascii_only):
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
