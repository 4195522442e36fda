"""The keys that one template sees, with confd's seven ways of asking for them.

Everything comes out sorted, so that equal keys render equal bytes. Look-ups by prefix cost what they find, not what
there is: a template that asks once for each of a thousand services stays linear.

Source: confd's memkv, its quirks included: `ls "/"` shows only keys that stand right below the root.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from confgen.resources import gopath
from pilotfish.catalog.gotemplate.values import Slice, Struct


class MissingKey(LookupError):
    """A template asks for a key that is not there, and gives no default."""

    def __str__(self) -> str:
        return f"key does not exist: {self.args[0]}"


class Strings(Slice):
    """[]string."""

    go_type: ClassVar[str] = "[]string"


class Pair(Struct):
    """A key and its value, as `.Key` and `.Value`."""

    go_type: ClassVar[str] = "memkv.KVPair"

    def __init__(self, key: str, value: str) -> None:
        super().__init__({"Key": key, "Value": value})


class Pairs(Slice):
    """memkv.KVPairs: what `gets` gives."""

    go_type: ClassVar[str] = "memkv.KVPairs"


def under(key: str, parent: str) -> bool:
    """True when `key` is `parent` or stands below it.

    >>> under("/a/b", "/a"), under("/ab", "/a"), under("/a", "/")
    (True, False, True)
    """
    return parent in {key, "/"} or key.startswith(parent.rstrip("/") + "/")


class Keyspace:
    """Keys and values of one revision.

    Args:
        values: by key, each of which begins with a slash.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._sorted = sorted(values)

    @property
    def functions(self) -> dict[str, Callable[..., object]]:
        """The functions of confd that ask for keys."""
        return {
            "exists": self.exists,
            "get": self.get,
            "gets": self.gets,
            "getv": self.getv,
            "getvs": self.getvs,
            "ls": self.ls,
            "lsdir": self.lsdir,
        }

    def _starting(self, text: str) -> Iterator[str]:
        at = bisect_left(self._sorted, text)
        while at < len(self._sorted) and self._sorted[at].startswith(text):
            yield self._sorted[at]
            at += 1

    def _matching(self, pattern: str) -> list[str]:
        if not self._sorted:
            return []  # a bad pattern is found when it is compared with a key, and not before
        matches = gopath.matcher(pattern)
        return [key for key in self._starting(gopath.literal(pattern)) if matches(key)]

    def exists(self, key: str) -> bool:
        """True when there is a value at exactly this key; a directory has none."""
        return key in self._values

    def get(self, key: str) -> Pair:
        """The pair at a key.

        Raises:
            MissingKey: there is none.
        """
        return Pair(key, self.getv(key))

    def getv(self, key: str, *default: str) -> str:
        """The value at a key, or the first default.

        Raises:
            MissingKey: there is no value and no default.
        """
        if key in self._values:
            return self._values[key]
        if default:
            return default[0]
        raise MissingKey(key)

    def gets(self, pattern: str) -> Pairs:
        """Pairs whose keys match a glob, sorted by key.

        Raises:
            BadPattern: it is none.
        """
        return Pairs(Pair(key, self._values[key]) for key in self._matching(pattern))

    def getvs(self, pattern: str) -> Strings:
        """Values whose keys match a glob, sorted.

        Raises:
            BadPattern: it is none.
        """
        return Strings(sorted(self._values[key] for key in self._matching(pattern)))

    def ls(self, path: str) -> Strings:
        """Names right below a path, sorted; of a key without anything below: its own last element."""
        wanted = _terms(path)
        found = {gopath.base(path)} if path in self._values else set()
        for key in self._starting(gopath.clean(path)):
            if key != path and _terms(gopath.directory(key))[: len(wanted)] == wanted:
                found.add(key.removeprefix(path).removeprefix("/").partition("/")[0])
        return Strings(sorted(found))

    def lsdir(self, path: str) -> Strings:
        """Names right below a path that have something below them, sorted."""
        wanted = _terms(path)
        found: set[str] = set()
        for key in self._starting(path):
            parents = _terms(gopath.directory(key))
            if len(parents) > len(wanted) and parents[: len(wanted)] == wanted:
                found.add(parents[len(wanted)])
        return Strings(sorted(found))


def _terms(path: str) -> list[str]:
    return gopath.clean(path).split("/")
