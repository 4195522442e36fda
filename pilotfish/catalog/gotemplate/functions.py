"""The functions that every Go template may call, following text/template/funcs.go.

`and` and `or` decide which of their arguments are looked at, so the evaluator does them itself when it meets these two.
A function says that its arguments do not fit by raising ValueError or TypeError, and the evaluator adds where.

Differs: lengths and indexes of text count octets of UTF-8, as in Go, but a slice that would cut a character in half is
an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from urllib.parse import quote_plus

from pilotfish.catalog.gotemplate.printf import sprintf
from pilotfish.catalog.gotemplate.values import (
    Slice,
    Struct,
    Uint8,
    go_text,
    go_type,
    is_octet,
    is_true,
    octets,
    sprint,
)

# `&` first would matter if these were replaced one after the other; translate replaces all in one pass.
_HTML = str.maketrans({'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})


class Absent:
    """A field or key that is not there.

    Attributes:
        path: how the template spelled it, ".Attrs.proxy"; for messages.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __bool__(self) -> bool:
        return False


def _kind(value: object) -> str:
    """The kinds that can be compared; "" for all others."""
    name = "int" if isinstance(value, Uint8) else go_type(value)  # numbers without fraction are compared as such
    return name if name in {"bool", "int", "float64", "string"} else ""


def eq(first: object, *others: object) -> bool:
    """True when `first` equals any of the others; nil equals nothing but nil."""
    if not others:
        raise ValueError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _equal(a: object, b: object) -> bool:
    if a is None or b is None:
        return a is b
    if _kind(a) != _kind(b):
        raise ValueError(f"incompatible types for comparison: {go_type(a)} and {go_type(b)}")
    if isinstance(a, Struct) and isinstance(b, Struct) and a.go_type == b.go_type:
        return a.fields == b.fields and a.text == b.text
    if not _kind(a):
        raise ValueError(f"values of type {go_type(a)} cannot be compared")
    return a == b


def ne(a: object, b: object) -> bool:
    """True when `a` and `b` are not equal."""
    return not eq(a, b)


def lt(a: object, b: object) -> bool:
    """True when `a` comes before `b`: two integers, two floats or two strings."""
    for value in (a, b):
        if _kind(value) in {"", "bool"}:
            raise ValueError(f"a {go_type(value)} has no order")
    if _kind(a) != _kind(b):
        raise ValueError(f"incompatible types for comparison: {go_type(a)} and {go_type(b)}")
    return a < b  # type: ignore[operator,no-any-return]  # both are int, float or str


def le(a: object, b: object) -> bool:
    """True when `a` comes before `b` or equals it."""
    return lt(a, b) or eq(a, b)


def gt(a: object, b: object) -> bool:
    """True when `a` comes after `b`."""
    return not le(a, b)


def ge(a: object, b: object) -> bool:
    """True when `a` does not come before `b`."""
    return not lt(a, b)


def not_(value: object) -> bool:
    """True for what `if` takes as false."""
    return not is_true(value)


def length(value: object) -> int:
    """Count the octets of a text, the items of a list or the entries of a map."""
    if isinstance(value, str):
        return len(octets(value))
    if isinstance(value, Mapping | Sequence):
        return len(value)
    raise ValueError(f"a {go_type(value)} has no length")


def index(value: object, *keys: object) -> object:
    """Take `value[key]` for each key in turn; a map's missing key gives Absent."""
    if value is None:
        raise ValueError("nil cannot be indexed")
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: object, key: object) -> object:
    if isinstance(value, Mapping):
        if not isinstance(key, str):
            raise TypeError(f"a map is indexed with a string, not with a {go_type(key)}")
        return value[key] if key in value else Absent(f"index {key!r}")
    if isinstance(value, str):
        data = octets(value)
        return Uint8(data[_position(key, len(data) - 1)])
    if isinstance(value, Sequence):
        return value[_position(key, len(value) - 1)]
    raise ValueError(f"a {go_type(value)} cannot be indexed")


def _position(key: object, last: int) -> int:
    if not isinstance(key, int) or isinstance(key, bool):
        raise TypeError(f"a list or text is indexed with an int, not with a {go_type(key)}")
    if not 0 <= key <= last:
        raise ValueError(f"index out of range: {key}")
    return key


def slice_(value: object, *bounds: object) -> object:
    """Take `value[i:j]`; a list may have a third bound, which only limits the second."""
    if isinstance(value, str) and len(bounds) < 3:
        data = octets(value)
        start, end = _bounds(bounds, len(data))
        return data[start:end].decode("utf-8", "surrogateescape" if any(map(is_octet, value)) else "strict")
    if isinstance(value, Sequence) and not isinstance(value, str) and len(bounds) < 4:
        start, end = _bounds(bounds, len(value))
        return type(value)(value[start:end]) if isinstance(value, Slice) else value[start:end]
    raise ValueError(f"a {go_type(value)} cannot be sliced with {len(bounds)} bounds")


def _bounds(given: Sequence[object], size: int) -> tuple[int, int]:
    found = [_position(bound, size) for bound in given]
    start, end = (found + [0, size][len(found) :])[:2] if len(found) < 2 else found[:2]
    if start > end or end > (found[2] if len(found) == 3 else size):
        raise ValueError(f"invalid bounds: {given}")
    return start, end


def print_(*values: object) -> str:
    """fmt.Sprint."""
    return sprint(values)


def println(*values: object) -> str:
    """fmt.Sprintln."""
    return " ".join(map(go_text, values)) + "\n"


def printf(form: object, *values: object) -> str:
    """fmt.Sprintf."""
    if not isinstance(form, str):
        raise TypeError(f"the format must be a string, not a {go_type(form)}")
    return sprintf(form, values)


def html(*values: object) -> str:
    """Escape what HTML gives a meaning."""
    return sprint([_printable(value) for value in values]).translate(_HTML)


def js(*values: object) -> str:
    """Escape for a string of JavaScript."""
    return "".join(map(_js_char, sprint([_printable(value) for value in values])))


def _js_char(char: str) -> str:
    if char in "\\'\"":
        return "\\" + char
    if char in "<>&=" or ord(char) < 0x20 or not (char == "\x7f" or is_octet(char) or char.isprintable()):
        return f"\\u{ord(char):04X}"
    return char


def urlquery(*values: object) -> str:
    """Escape for the query of a URL."""
    return quote_plus(octets(sprint([_printable(value) for value in values])))


def _printable(value: object) -> object:
    return "<no value>" if value is None else value


def call(function: object, *args: object) -> object:
    """Call a function that is a value."""
    if not callable(function):
        raise TypeError(f"a {go_type(function)} cannot be called")
    return function(*args)


def and_(first: object, *others: object) -> object:
    """The first false argument, or the last."""
    return next((value for value in (first, *others[:-1]) if not is_true(value)), (first, *others)[-1])


def or_(first: object, *others: object) -> object:
    """The first true argument, or the last."""
    return next((value for value in (first, *others[:-1]) if is_true(value)), (first, *others)[-1])


BUILTINS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "and": and_,
        "call": call,
        "eq": eq,
        "ge": ge,
        "gt": gt,
        "html": html,
        "index": index,
        "js": js,
        "le": le,
        "len": length,
        "lt": lt,
        "ne": ne,
        "not": not_,
        "or": or_,
        "print": print_,
        "printf": printf,
        "println": println,
        "slice": slice_,
        "urlquery": urlquery,
    }
)
TAKES_ABSENT = (eq, ne, not_)  # an absent value is a fair question to these: it is nil
