"""Constants of Go source text -> values, following strconv.Unquote and text/template's numbers.

Every function raises ValueError with a sentence when the text is no such constant.
"""

from __future__ import annotations

import math

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}  # letter -> digits that must follow
_INT64 = range(-(2**63), 2**63)


def number(text: str) -> int | float:
    """Convert a number: an integer unless it is written as a float.

    >>> number("0x1F"), number("017"), number("1e3")
    (31, 15, 1000.0)
    """
    value = _integer(text)
    if value is None:
        return _float(text)
    if value not in _INT64:
        raise ValueError(f"integer overflow: {text!r}")
    return value


def _integer(text: str) -> int | None:
    digits = text.lstrip("+-")
    octal = digits[:1] == "0" and digits.replace("_", "").isdecimal()  # 017 is 15 in Go
    try:
        return int(text, 8 if octal else 0)
    except ValueError:
        return None


def _float(text: str) -> float:
    is_hex = "0x" in text.lower()
    written_as_float = any(char in text for char in ("pP" if is_hex else ".eE"))
    try:
        value = float.fromhex(text) if is_hex else float(text)
    except (ValueError, OverflowError):
        value = math.inf
    if not written_as_float or math.isinf(value):
        raise ValueError(f"illegal number syntax: {text!r}")
    return value


def string(text: str) -> str:
    r"""Convert a quoted string, escapes and all.

    >>> string(r'"a\tb"') == "a\tb"
    True
    """
    out = bytearray()
    at = 1
    while at < len(text) - 1:
        code, is_byte, at = _one(text, at, '"')
        out += bytes((code,)) if is_byte else chr(code).encode("utf-8", "surrogatepass")
    try:
        return out.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"string {text} is not valid UTF-8") from None


def raw(text: str) -> str:
    """Convert a backquoted string: as it stands, without carriage returns."""
    return text[1:-1].replace("\r", "")


def character(text: str) -> int:
    """Convert a character constant to its code point.

    >>> character("'a'")
    97
    """
    if len(text) < 3:
        raise ValueError("empty character constant")
    code, _, at = _one(text, 1, "'")
    if at != len(text) - 1:
        raise ValueError(f"malformed character constant: {text}")
    return code


def _one(text: str, at: int, quote: str) -> tuple[int, bool, int]:
    """Read one character or escape: its code, whether it stands for one byte, and where the next one begins."""
    if text[at] != "\\":
        return ord(text[at]), False, at + 1
    letter = text[at + 1]
    if letter in _HEX_ESCAPES:
        count = _HEX_ESCAPES[letter]
        return _code(text[at + 2 : at + 2 + count], 16, count), letter == "x", at + 2 + count
    if letter in "01234567":
        return _code(text[at + 1 : at + 4], 8, 3), True, at + 4
    if letter == quote:
        return ord(quote), False, at + 2
    if letter not in _SIMPLE:
        raise ValueError(f"unknown escape \\{letter} in {text}")
    return _SIMPLE[letter], False, at + 2


def _code(digits: str, base: int, count: int) -> int:
    valid = "0123456789abcdefABCDEF" if base == 16 else "01234567"
    if len(digits) != count or not all(digit in valid for digit in digits):
        raise ValueError(f"bad escape: {count} digits expected, found {digits!r}")
    code = int(digits, base)
    if (base == 8 and code > 255) or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError(f"escape {digits} is out of range")
    return code
