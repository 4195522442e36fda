"""Whose fault a refusal is when nginx names no service, and whose besides: a bounded search. Pure.

Most culprits are refused by themselves as well, beside the files that belong to nobody. So nginx is asked about
configurations that hold the changed services alone (`part`, `guilty`): among a thousand others that is most of the time
saved. Whoever is refused only together with those that did not change is found by leaving out (`search`).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from confgen.applying.blame import Blame
from confgen.nginx.render import Tree, generation_of, parts_in
from confgen.nginx.shapes import PARTS, SERVICES


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


def part(tree: Tree, members: Collection[str]) -> Tree:
    """A configuration that says of the services no more than these, and is as the whole one else.

    Others' locations at hosts that they lead are empty; streams stand as they are.

    Args:
        tree: the whole one.
        members: services.
    """
    services = tree.services
    files = {
        name: text
        for name, text in tree.files.items()
        if services.get(name) in members or not name.startswith((SERVICES, PARTS))
    }
    led = {one for name in services for one in parts_in(files.get(name, b""))}
    files |= {name: b"" for name in led if name not in files and name in tree.files}
    return Tree(files, generation_of(files), services)


Asking = Generator[frozenset[str], Blame | None, None]


def guilty(suspects: Sequence[str], said: Blame | None, found: list[Blame]) -> Asking:
    """Find all culprits by asking: is a configuration with these alone refused?

    It yields sets of services and is sent nginx's refusal or None.
    It asks about halves, so that to find one takes questions about three times as many services as there are suspects.

    Args:
        suspects: services, without double ones.
        said: the refusal of all of them together; None: they pass.
        found: a refusal for each culprit is put here as soon as it is known: a search may be cut short.

    >>> asking = guilty(["a", "b", "c"], Blame("", "", 0, "no"), [])
    >>> next(asking)
    frozenset({'a'})
    """
    left = list(suspects)
    while said is not None and left:
        if said.service in left:
            found.append(said)
            left.remove(said.service)
        elif len(left) == 1:
            found.append(said._replace(service=left.pop()))
        else:
            yield from _halves(left, said, found)
            return
        said = (yield frozenset(left)) if left else None


def _halves(suspects: Sequence[str], said: Blame, found: list[Blame]) -> Asking:
    middle, refused = len(suspects) // 2, False
    for half in (suspects[:middle], suspects[middle:]):
        answer = yield frozenset(half)
        refused |= answer is not None
        yield from guilty(half, answer, found)
    if refused:
        return
    passes, fails = middle, len(suspects)  # the first `passes` of them pass, the first `fails` do not
    while fails - passes > 1:
        middle = (passes + fails) // 2
        answer = yield frozenset(suspects[:middle])
        passes, fails, said = (middle, fails, said) if answer is None else (passes, middle, answer)
    found.append(said._replace(service=suspects[fails - 1]))
