"""fmt.Sprintf for the values of templates.

Flags, width, precision, argument indexes and Go's own complaints (`%!d(string=hi)`) come out as in Go. Not there, and
refused by name: `%p`, and the flag # of floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from pilotfish.catalog.gotemplate.directives import Directive, Reader
from pilotfish.catalog.gotemplate.floats import binary, hexadecimal
from pilotfish.catalog.gotemplate.values import (
    MAX_DEPTH,
    Struct,
    Uint8,
    float_text,
    go_text,
    go_type,
    in_order,
    octets,
    quoted,
    quoted_char,
)

MAX_RESULT = 16 * 1024 * 1024  # characters


def sprintf(form: str, args: Sequence[object]) -> str:
    """Write `args` into `form` as Go does.

    >>> sprintf("%s:%05d %v", ("a", 80, True))
    'a:00080 true'

    Raises:
        ValueError: what is not supported is asked for, or the result is longer than MAX_RESULT.
    """
    out: list[str] = []
    size, reader = 0, Reader(form, args)
    while reader.at < len(form):
        end = form.find("%", reader.at)
        end = len(form) if end < 0 else end
        piece, reader.at = form[reader.at : end], end
        if not piece:
            reader.at += 1
            piece = _expand(reader)
        out.append(piece)
        size += len(piece)
        if size > MAX_RESULT:
            raise ValueError(f"printf makes more than {MAX_RESULT} characters")
    if not reader.reordered and reader.turn < len(args):
        out.append(f"%!(EXTRA {', '.join(map(_typed, args[reader.turn :]))})")
    return "".join(out)


def _typed(value: object) -> str:
    return "<nil>" if value is None else f"{go_type(value)}={go_text(value)}"


def _expand(reader: Reader) -> str:
    """Read one directive and write what it stands for."""
    directive = reader.directive()
    verb = directive.verb
    if not verb:
        return f"{directive.complaints}%!(NOVERB)"
    if verb == "%":
        return f"{directive.complaints}%"
    if directive.bad_index:
        return f"{directive.complaints}%!{verb}(BADINDEX)"
    if directive.index >= len(reader.args):
        return f"{directive.complaints}%!{verb}(MISSING)"
    reader.turn += 1
    return directive.complaints + _write(directive, reader.args[directive.index], 0)


def _write(directive: Directive, value: object, depth: int) -> str:
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


def _write_struct(directive: Directive, value: Struct, depth: int) -> str:
    if value.text:
        return _write(directive, value.text, depth)
    named = directive.verb == "v" and "+" in directive.flags
    parts = ((f"{name}:" if named else "", item) for name, item in value.fields.items())
    return f"{{{' '.join(name + _write(directive, item, depth + 1) for name, item in parts)}}}"


def _write_scalar(directive: Directive, value: object) -> str:
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


def _bad_verb(directive: Directive, value: object) -> str:
    plain = _write_scalar(msgspec.structs.replace(directive, verb="v"), value)
    return f"%!{directive.verb}({go_type(value)}={plain})"


def _pad(directive: Directive, text: str) -> str:
    if "-" in directive.flags:
        return text.ljust(directive.width)
    return text.rjust(directive.width, "0" if "0" in directive.flags else " ")


def _refuse(directive: Directive, flags: str) -> None:
    for flag in directive.flags & set(flags):
        raise ValueError(f"printf: %{flag}{directive.verb} is not supported here")


def _write_text(directive: Directive, value: str) -> str:
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


def _write_octets(directive: Directive, value: str) -> str:
    data = octets(value)[: directive.precision]
    apart = " " in directive.flags
    prefix = "0x" if "#" in directive.flags else ""
    parts = [f"{octet:02x}" for octet in data] if apart else [data.hex()] * bool(data)
    text = " ".join(prefix + part for part in parts)
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


def _write_int(directive: Directive, value: int) -> str:
    verb = directive.verb
    if verb in "cqU":
        return _write_rune(directive, value)
    if verb not in _DIGITS:
        return _bad_verb(directive, value)
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


def _sign(directive: Directive, *, negative: bool) -> str:
    if negative:
        return "-"
    return "+" if "+" in directive.flags else " " if " " in directive.flags else ""


def _write_rune(directive: Directive, code: int) -> str:
    valid = 0 <= code <= 0x10FFFF
    if directive.verb == "c":
        return _pad(directive, chr(code) if valid else "\ufffd")
    if directive.verb == "q":
        return _pad(directive, quoted_char(code, ascii_only="+" in directive.flags))
    shown = f" '{chr(code)}'" if "#" in directive.flags and valid and chr(code).isprintable() else ""
    digits = f"{code % 2**64:X}".rjust(max(4, directive.precision or 0), "0")
    return _pad(msgspec.structs.replace(directive, flags=directive.flags - {"0"}), f"U+{digits}{shown}")


def _write_float(directive: Directive, value: float) -> str:
    verb = directive.verb
    if verb not in "eEfFgGvxXb":
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
    elif verb in "xX":
        text = hexadecimal(value, precision)
    elif verb == "b":
        text = binary(value)
    else:
        precision = 6 if precision is None else precision
        text = f"{value:.{precision}{verb.lower().replace('v', 'g')}}"
    return text.upper() if verb in "EGX" and value - value == 0 else text
