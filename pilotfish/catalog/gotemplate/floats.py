"""How strconv writes floats in base two and sixteen: %b and %x. Expectations were checked against Go."""

from __future__ import annotations

import math

_MANTISSA_BITS = 52  # IEEE 754 double, without the leading one
_LEAST_EXPONENT = -1074  # of the last bit of the least number
_MOST_DIGITS = 13  # sixteenths behind the point of a double


def hexadecimal(value: float, precision: int | None) -> str:
    """Write a finite number as %x does; `precision` is digits behind the point, None for as many as it takes.

    >>> hexadecimal(3.75, None), hexadecimal(-1.97, 1), hexadecimal(0.0, None)
    ('0x1.ep+01', '-0x1.0p+01', '0x0p+00')
    """
    sign = "-" if math.copysign(1, value) < 0 else ""
    fraction, exponent = math.frexp(abs(value))  # half to one
    mantissa, exponent = int(fraction * 2 ** (_MANTISSA_BITS + 1)), exponent - 1 if value else 0
    if precision is not None and precision < _MOST_DIGITS:
        mantissa = _rounded(mantissa, (_MOST_DIGITS - precision) * 4)
        if mantissa >> (_MANTISSA_BITS + 1):
            mantissa, exponent = mantissa >> 1, exponent + 1
    digits = f"{mantissa & (2**_MANTISSA_BITS - 1):0{_MOST_DIGITS}x}"
    digits = digits.rstrip("0") if precision is None else digits[:precision].ljust(precision, "0")
    point = "." if digits else ""
    return f"{sign}0x{mantissa >> _MANTISSA_BITS}{point}{digits}p{exponent:+03d}"


def _rounded(number: int, bits: int) -> int:
    """A number with its last bits rounded to zeros, a half to the even one."""
    half, kept = 1 << (bits - 1), number >> bits
    rest = number & ((1 << bits) - 1)
    return (kept + (rest > half or (rest == half and kept & 1 == 1))) << bits


def binary(value: float) -> str:
    """Write a finite number as %b does: its mantissa, and a power of two.

    >>> binary(1.5), binary(0.0)
    ('6755399441055744p-52', '0p-1074')
    """
    sign = "-" if math.copysign(1, value) < 0 else ""
    exponent = max(math.frexp(value)[1] - 1 - _MANTISSA_BITS, _LEAST_EXPONENT) if value else _LEAST_EXPONENT
    return f"{sign}{int(math.ldexp(abs(value), -exponent))}p{exponent:+d}"
