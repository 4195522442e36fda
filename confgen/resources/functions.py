"""What templates may call: confd's functions, those of 0.16 and those that came after it.

Each row of `_TABLE` says what a function takes in Go's types, so that what Go refuses is refused here, in its words.
What asks the world (names, files, the environment, the clock) comes in as `World`, made by `io_lookups`.

Differs: `sortByLength` keeps the order of what is equally long, where Go's order depends on its sorting method;
`seq` gives at most a million numbers; `cget` and its like are not there, as in a confd without a key ring.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from confgen.resources import gopath
from confgen.resources.keyspace import Keyspace, Pairs, Strings
from pilotfish.catalog.gotemplate.values import Slice, go_type, octets

MAX_SEQUENCE = 1_000_000
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_HALVES = re.compile("[\ud800-\udfff]")
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}


class Ints(Slice):
    """[]int."""

    go_type: ClassVar[str] = "[]int"


class PairSlice(Slice):
    """[]memkv.KVPair: what `sortKVByLength` gives, and the one kind of pairs that `reverse` turns round.

    Attributes:
        origin: what was sorted; in Go the two are the same memory.
    """

    go_type: ClassVar[str] = "[]memkv.KVPair"
    origin: Slice | None = None

    def write_through(self) -> None:
        """What happened to this happens to its origin."""
        if self.origin is not None:
            self.origin[:] = self
        if isinstance(self.origin, PairSlice):
            self.origin.write_through()


class World(NamedTuple):
    """Functions that ask the world, by name; all of them are in `WORLDLY`."""

    functions: Mapping[str, Callable[..., object]]


WORLDLY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "datetime": (),
        "fileExists": ("string",),
        "getenv": ("string", "...string"),
        "hostname": (),
        "lookupIP": ("string",),
        "lookupIPV4": ("string",),
        "lookupIPV6": ("string",),
        "lookupIfaceIPV4": ("string",),
        "lookupIfaceIPV6": ("string",),
        "lookupSRV": ("string", "string", "string"),
    }
)
KEYED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "exists": ("string",),
        "get": ("string",),
        "gets": ("string",),
        "getv": ("string", "...string"),
        "getvs": ("string",),
        "ls": ("string",),
        "lsdir": ("string",),
    }
)


def names() -> frozenset[str]:
    """The names of all functions."""
    return frozenset((*_TABLE, *KEYED, *WORLDLY))


def functions(keys: Keyspace, world: World) -> dict[str, Callable[..., object]]:
    """All functions by name, over some keys.

    Args:
        keys: what `get` and its like look at.
        world: what the others ask.
    """
    return {
        **{name: _typed(name, takes, function) for name, (takes, function) in _TABLE.items()},
        **{name: _typed(name, takes, keys.functions[name]) for name, takes in KEYED.items()},
        **{name: _typed(name, takes, world.functions[name]) for name, takes in WORLDLY.items()},
    }


def _typed(name: str, takes: tuple[str, ...], function: Callable[..., object]) -> Callable[..., object]:
    rest = takes[-1].removeprefix("...") if takes and takes[-1].startswith("...") else ""
    fixed = takes[:-1] if rest else takes

    def call(*values: object) -> object:
        if len(values) < len(fixed) or (len(values) > len(fixed) and not rest):
            raise TypeError(f"wrong number of args for {name}: want {len(fixed)} got {len(values)}")
        kinds = (*fixed, *[rest] * (len(values) - len(fixed)))
        for value, kind in zip(values, kinds, strict=True):
            if not _fits(value, kind):
                raise TypeError(_refusal(value, kind))
        return function(
            *(
                _NIL[kind]() if value is None and kind in _NIL else value
                for value, kind in zip(values, kinds, strict=True)
            )
        )

    return call


def _fits(value: object, kind: str) -> bool:
    found = go_type(value)
    if value is None and kind in _NIL:
        return True
    if kind == "[]memkv.KVPair" and found == "memkv.KVPairs":
        return True
    return kind in {"any", found}


def _refusal(value: object, kind: str) -> str:
    if value is None:
        return f"invalid value; expected {kind}"
    return f"wrong type for value; expected {kind}; got {go_type(value)}"


# A slice may be nil, which is an empty one.
_NIL: Mapping[str, Callable[[], Slice]] = MappingProxyType({"[]string": Strings, "[]memkv.KVPair": PairSlice})


def _int64(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise ZeroDivisionError("runtime error: integer divide by zero")
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _modulo(a: int, b: int) -> int:
    return a - b * _divide(a, b)


def _seq(first: int, last: int) -> Ints:
    if last - first >= MAX_SEQUENCE:
        raise ValueError(f"seq gives at most {MAX_SEQUENCE} numbers")
    return Ints(range(first, last + 1))


def _atoi(text: str) -> int:
    if not _INTEGER.match(text):
        raise ValueError(f'strconv.Atoi: parsing "{text}": invalid syntax')
    digits = text.lstrip("+-0") or "0"
    value = int(digits) if len(digits) < 20 else 2**64
    value = -value if text.startswith("-") else value
    if not -(2**63) <= value < 2**63:
        raise ValueError(f'strconv.Atoi: parsing "{text}": value out of range')
    return value


def _parse_bool(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def _split(text: str, separator: str) -> Strings:
    return Strings(text.split(separator) if separator else text)


def _join(parts: list[str], separator: str) -> str:
    return separator.join(parts)


def _upper(text: str) -> str:
    """Letter by letter, as Go does: no letter becomes two."""
    return "".join(map(_upper_letter, text))


def _upper_letter(char: str) -> str:
    return next((one for one in (char.upper(), char.title()) if len(one) == 1), char)


def _lower(text: str) -> str:
    return "".join(char.lower()[:1] for char in text)


def _encode(text: str) -> str:
    return base64.b64encode(octets(text)).decode("ascii")


def _decode(text: str) -> str:
    kept = text.replace("\n", "").replace("\r", "")
    if not _BASE64.match(kept):
        raise ValueError("illegal base64 data")
    return base64.b64decode(kept).decode("utf-8", "surrogateescape")


def _map(*values: object) -> dict[str, object]:
    if len(values) % 2:
        raise ValueError("invalid map call")
    found: dict[str, object] = {}
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not isinstance(key, str):
            raise TypeError("map keys must be strings")
        found[key] = value
    return found


def _reverse(values: object) -> object:
    """Turn a []string or []KVPair round, where it stands; all else stays as it is."""
    if isinstance(values, Strings | PairSlice):
        values.reverse()
    if isinstance(values, PairSlice):
        values.write_through()
    return values


def _sort_strings(values: Strings) -> Strings:
    values.sort(key=lambda text: len(octets(str(text))))
    return values


def _sort_pairs(values: Pairs | PairSlice) -> PairSlice:
    """Sort pairs where they stand."""
    values.sort(key=lambda pair: len(octets(str(pair.fields["Key"]))))  # type: ignore[attr-defined]  # pairs
    found = PairSlice(values)
    found.origin = values
    return found


def _json(text: str) -> object:
    return _loads(text, dict, "map[string]interface {}")


def _json_array(text: str) -> object:
    return _loads(text, list, "[]interface {}")


def _loads(text: str, kind: type, wanted: str) -> object:
    try:
        found = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("json: exceeded max depth") from None
    if found is None:
        return kind()
    if not isinstance(found, kind):
        what = {dict: "object", list: "array", str: "string", bool: "bool", float: "number"}[type(found)]
        raise TypeError(f"json: cannot unmarshal {what} into Go value of type {wanted}")
    return _whole(found)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"invalid character {text[0]!r} looking for beginning of value")


def _whole(value: object) -> object:
    """Half of a surrogate pair is replaced, as in Go: it could not be written out."""
    if isinstance(value, str):
        return _HALVES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {str(_whole(key)): _whole(item) for key, item in value.items()}
    return value


_TABLE: Mapping[str, tuple[tuple[str, ...], Callable[..., object]]] = MappingProxyType(
    {
        "add": (("int", "int"), lambda a, b: _int64(a + b)),
        "atoi": (("string",), _atoi),
        "base": (("string",), gopath.base),
        "base64Decode": (("string",), _decode),
        "base64Encode": (("string",), _encode),
        "contains": (("string", "string"), lambda text, part: part in text),
        "dir": (("string",), gopath.directory),
        "div": (("int", "int"), lambda a, b: _int64(_divide(a, b))),
        "join": (("[]string", "string"), _join),
        "json": (("string",), _json),
        "jsonArray": (("string",), _json_array),
        "map": (("...any",), _map),
        "mod": (("int", "int"), _modulo),
        "mul": (("int", "int"), lambda a, b: _int64(a * b)),
        "parseBool": (("string",), _parse_bool),
        "replace": (("string", "string", "string", "int"), lambda s, old, new, n: s.replace(old, new, max(n, -1))),
        "reverse": (("any",), _reverse),
        "seq": (("int", "int"), _seq),
        "sortByLength": (("[]string",), _sort_strings),
        "sortKVByLength": (("[]memkv.KVPair",), _sort_pairs),
        "split": (("string", "string"), _split),
        "sub": (("int", "int"), lambda a, b: _int64(a - b)),
        "toLower": (("string",), _lower),
        "toUpper": (("string",), _upper),
        "trimSuffix": (("string", "string"), str.removesuffix),
    }
)
