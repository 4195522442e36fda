"""Whose fault a refusal is when nginx names no service: whoever listens on the port, else a bounded search. Pure."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence

from confgen.applying.blame import Blame

_BIND = re.compile(r"bind\(\) to (\S+):(\d+) failed")


def listener(blame: Blame, files: Mapping[str, bytes], services: Mapping[str, str]) -> str:
    """The service whose own file listens on the port that nginx could not have; empty when it is everybody's.

    Args:
        blame: without a service.
        files: of the configuration.
        services: file -> service.
    """
    found = _BIND.search(blame.message)
    if found is None:
        return ""
    listens = re.compile(rb"(?:^|[\s{;])listen\s+(?:\S*:)?%s[\s;]" % found.group(2).encode())
    if any(listens.search(text) for name, text in files.items() if name not in services):
        return ""
    owners = {services[name] for name, text in files.items() if listens.search(text)}
    return min(owners, default="") if len(owners) == 1 else ""


def search(suspects: Sequence[str]) -> Generator[frozenset[str], bool, str]:
    """Find one culprit by asking: would it pass without these?

    It yields sets of services to leave out, is sent whether that passed, and returns a culprit; "" when it does not
    pass without any of them either, so that the fault is not theirs. It asks at most 2 + log2(suspects) times.

    >>> asking, passed = search(["a", "b", "c", "d"]), []
    >>> out = next(asking)
    >>> try:
    ...     while True:
    ...         out = asking.send("c" in out)
    ... except StopIteration as end:
    ...     print(end.value)
    c
    """
    if not suspects or not (yield frozenset(suspects)):
        return ""
    fails, passes = 0, len(suspects)  # without the first `fails` of them it is refused, without the first `passes` not
    while passes - fails > 1:
        middle = (fails + passes) // 2
        if (yield frozenset(suspects[:middle])):
            passes = middle
        else:
            fails = middle
    return suspects[passes - 1]
