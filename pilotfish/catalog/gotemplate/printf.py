"""fmt.Sprintf for the values of templates.

Flags, width, precision, argument indexes and Go's own complaints (`%!d(string=hi)`) come out as in Go. Not there, and
refused by name: `*`, `% x` of text, `%p`, and `%x` and `%b` of floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from pilotfish.catalog.gotemplate.values import (
    MAX_DEPTH,
    Struct,
    Uint8,
    float_text,
    go_text,
    go_type,
    in_order,
    quoted,
    quoted_char,
)

MAX_WIDTH = 10_000  # of width and precision; Go's own limit is a million
MAX_RESULT = 16 * 1024 * 1024  # characters


class _Directive(msgspec.Struct, frozen=True):
    """One `%...` of a format. `index` counts from 1; None: not given."""

    flags: frozenset[str]
    index: int | None
    width: int
    precision: int | None
    verb: str


def sprintf(form: str, args: Sequence[object]) -> str:
    """Write `args` into `form` as Go does.

    >>> sprintf("%s:%05d %v", ("a", 80, True))
    'a:00080 true'

    Raises:
        ValueError: what is not supported is asked for, or the result is longer than MAX_RESULT.
    """
    out: list[str] = []
    size, at, turn, indexed = 0, 0, 0, False
    while at < len(form):
        end = form.find("%", at)
        end = len(form) if end < 0 else end
        piece, at = form[at:end], end
        if not piece:
            directive, at = _directive(form, at + 1)
            indexed = indexed or directive.index is not None
            piece, turn = _expand(directive, args, turn)
        out.append(piece)
        size += len(piece)
        if size > MAX_RESULT:
            raise ValueError(f"printf makes more than {MAX_RESULT} characters")
    if not indexed and turn < len(args):
        out.append(f"%!(EXTRA {', '.join(map(_typed, args[turn:]))})")
    return "".join(out)


def _typed(value: object) -> str:
    return "<nil>" if value is None else f"{go_type(value)}={go_text(value)}"


def _directive(form: str, at: int) -> tuple[_Directive, int]:
    start = at
    while form[at : at + 1] and form[at] in "+-# 0":
        at += 1
    flags = frozenset(form[start:at])
    index, at = _index(form, at)
    width, at = _count(form, at)
    precision: int | None = None
    if form[at : at + 1] == ".":
        precision, at = _count(form, at + 1)
    if index is None:
        index, at = _index(form, at)
    verb = form[at : at + 1]
    if verb == "*":
        raise ValueError("printf: a width or precision of * is not supported")
    return _Directive(flags, index, width, precision, verb), at + 1


def _count(form: str, at: int) -> tuple[int, int]:
    start = at
    while form[at : at + 1].isascii() and form[at : at + 1].isdigit():
        at += 1
    count = int(form[start : min(at, start + 9)] or "0")
    if count > MAX_WIDTH:
        raise ValueError(f"printf: width or precision over {MAX_WIDTH}")
    return count, at


def _index(form: str, at: int) -> tuple[int | None, int]:
    if form[at : at + 1] != "[":
        return None, at
    index, end = _count(form, at + 1)
    if form[end : end + 1] != "]":
        raise ValueError("printf: an argument index must look like [1]")
    return index, end + 1


def _expand(directive: _Directive, args: Sequence[object], turn: int) -> tuple[str, int]:
    """Expand one directive; returns the text and which argument is next."""
    verb = directive.verb
    if not verb:
        return "%!(NOVERB)", turn
    if verb == "%":
        return "%", turn
    if directive.index is not None:
        if not 1 <= directive.index <= len(args):
            return f"%!{verb}(BADINDEX)", turn
        turn = directive.index - 1
    if turn >= len(args):
        return f"%!{verb}(MISSING)", turn
    return _write(directive, args[turn], 0), turn + 1


def _write(directive: _Directive, value: object, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise ValueError(f"a value nested more than {MAX_DEPTH} deep cannot be printed")
    if directive.verb == "v" and "#" in directive.flags:
        return _pad(directive, _source(value, depth))
    if value is None and depth:
        return "<nil>"  # whatever the verb: so it is within lists and maps
    if directive.verb == "T":
        return _pad(directive, go_type(value))
    if isinstance(value, Mapping):
        pairs = ((_write(directive, key, depth), item) for key, item in in_order(value))
        return f"map[{' '.join(f'{key}:{_write(directive, item, depth + 1)}' for key, item in pairs)}]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{' '.join(_write(directive, item, depth + 1) for item in value)}]"
    if isinstance(value, Struct):
        return _write_struct(directive, value, depth)
    if directive.verb == "v":  # there the flag + is about the names of fields, and no sign
        directive = msgspec.structs.replace(directive, flags=directive.flags - {"+"})
    return _write_scalar(directive, value)


def _source(value: object, depth: int) -> str:
    """Write a value as Go source text: %#v."""
    if value is None:
        return "interface {}(nil)" if depth else "<nil>"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Uint8):
        return f"{value:#x}"
    if isinstance(value, Mapping):
        inside = [f"{quoted(str(key))}:{_source(item, depth + 1)}" for key, item in in_order(value)]
    elif isinstance(value, Struct):
        inside = [f"{name}:{_source(item, depth + 1)}" for name, item in value.fields.items()]
    elif isinstance(value, Sequence):
        inside = [_source(item, depth + 1) for item in value]
    else:
        return go_text(value)
    return f"{go_type(value)}{{{', '.join(inside)}}}"


def _write_struct(directive: _Directive, value: Struct, depth: int) -> str:
    if value.text:
        return _write(directive, value.text, depth)
    named = directive.verb == "v" and "+" in directive.flags
    parts = ((f"{name}:" if named else "", item) for name, item in value.fields.items())
    return f"{{{' '.join(name + _write(directive, item, depth + 1) for name, item in parts)}}}"


def _write_scalar(directive: _Directive, value: object) -> str:
    verb = directive.verb
    if value is None:
        return _pad(directive, "<nil>") if verb == "v" else f"%!{verb}(<nil>)"
    if verb == "p" or callable(value):
        raise ValueError(f"printf: %{verb} of a {go_type(value)} is not supported")
    if isinstance(value, bool):
        return _pad(directive, go_text(value)) if verb in "tv" else _bad_verb(directive, value)
    if isinstance(value, str):
        return _write_text(directive, value)
    if isinstance(value, int):
        return _write_int(directive, value)
    if isinstance(value, float):
        return _write_float(directive, value)
    raise ValueError(f"printf: a value of type {go_type(value)} cannot be printed")


def _bad_verb(directive: _Directive, value: object) -> str:
    plain = _write_scalar(msgspec.structs.replace(directive, verb="v"), value)
    return f"%!{directive.verb}({go_type(value)}={plain})"


def _pad(directive: _Directive, text: str) -> str:
    if "-" in directive.flags:
        return text.ljust(directive.width)
    return text.rjust(directive.width, "0" if "0" in directive.flags else " ")


def _refuse(directive: _Directive, flags: str) -> None:
    for flag in directive.flags & set(flags):
        raise ValueError(f"printf: %{flag}{directive.verb} is not supported here")


def _write_text(directive: _Directive, value: str) -> str:
    verb = directive.verb
    if verb not in "svqxX":
        return _bad_verb(directive, value)
    if verb in "xX":
        return _write_octets(directive, value)
    text = value if directive.precision is None else value[: directive.precision]
    if verb == "q":
        raw = "#" in directive.flags and text.isprintable() and "`" not in text
        text = f"`{text}`" if raw else quoted(text, ascii_only="+" in directive.flags)
    return _pad(directive, text)


def _write_octets(directive: _Directive, value: str) -> str:
    _refuse(directive, " ")
    digits = value.encode("utf-8", "surrogatepass")[: directive.precision].hex()
    prefix = "0x" if "#" in directive.flags and digits else ""
    text = prefix + digits
    return _pad(directive, text if directive.verb == "x" else text.upper())


_DIGITS: dict[str, tuple[Callable[[int], str], str]] = {  # verb -> digits of a magnitude, prefix under the flag #
    "d": (str, ""),
    "v": (str, ""),
    "b": ("{:b}".format, "0b"),
    "o": ("{:o}".format, "0"),
    "O": ("{:o}".format, ""),
    "x": ("{:x}".format, "0x"),
    "X": ("{:X}".format, "0X"),
}


def _write_int(directive: _Directive, value: int) -> str:
    verb = directive.verb
    if verb in "cqU":
        return _write_rune(directive, value)
    if verb not in _DIGITS:
        return _bad_verb(directive, value)
    _refuse(directive, "#" if verb in "dv" else "")
    write, prefix = _DIGITS[verb]
    digits = write(abs(value))
    if directive.precision is not None:
        digits = "" if directive.precision == 0 and value == 0 else digits.rjust(directive.precision, "0")
    prefix = "0o" if verb == "O" else prefix if "#" in directive.flags else ""
    sign = _sign(directive, negative=value < 0)
    if directive.precision is None and directive.flags & {"0", "-"} == {"0"}:
        digits = digits.rjust(directive.width - len(sign), "0")
    if directive.precision is not None:
        directive = msgspec.structs.replace(directive, flags=directive.flags - {"0"})
    return _pad(directive, sign + prefix + digits)


def _sign(directive: _Directive, *, negative: bool) -> str:
    if negative:
        return "-"
    return "+" if "+" in directive.flags else " " if " " in directive.flags else ""


def _write_rune(directive: _Directive, code: int) -> str:
    _refuse(directive, "#")
    valid = 0 <= code <= 0x10FFFF
    if directive.verb == "c":
        return _pad(directive, chr(code) if valid else "\ufffd")
    if directive.verb == "q":
        return _pad(directive, quoted_char(code, ascii_only="+" in directive.flags))
    return _pad(directive, f"U+{code % 2**64:04X}")


def _write_float(directive: _Directive, value: float) -> str:
    verb = directive.verb
    if verb in "xXb":
        raise ValueError(f"printf: %{verb} of a float is not supported")
    if verb not in "eEfFgGv":
        return _bad_verb(directive, value)
    _refuse(directive, "#")
    number = _float_digits(verb, directive.precision, value).lstrip("+")
    negative = number.startswith("-")
    sign, digits = _sign(directive, negative=negative), number.removeprefix("-")
    if digits in {"Inf", "NaN"}:
        directive = msgspec.structs.replace(directive, flags=directive.flags - {"0"})
        sign = sign or ("+" if digits == "Inf" and verb == "v" else "")
    if directive.flags & {"0", "-"} == {"0"}:
        digits = digits.rjust(directive.width - len(sign), "0")
    return _pad(directive, sign + digits)


def _float_digits(verb: str, precision: int | None, value: float) -> str:
    if (verb in "gGv" and precision is None) or value - value != 0:  # the latter: infinite or no number
        text = float_text(value)
    else:
        precision = 6 if precision is None else precision
        text = f"{value:.{precision}{verb.lower().replace('v', 'g')}}"
    return text.upper() if verb in "EG" and value - value == 0 else text
