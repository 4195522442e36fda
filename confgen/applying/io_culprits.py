"""Finds out, by asking `nginx -t`, which services a configuration was refused for.

nginx names one file at most, and for some faults none. A question is about a configuration aside, which is neither
synced to disk nor ever served. First come small ones, of the services that changed; then whole ones, without some.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from typing import TypeVar

from confgen.applying.blame import Blame
from confgen.applying.culprit import guilty, part, search
from confgen.applying.io_apply import Applier, Result
from confgen.applying.io_files import Folder, UnsafePath
from confgen.applying.io_nginx import NotServing
from confgen.applying.listeners import concerns, listener
from confgen.applying.pipeline import State
from confgen.io_command import CannotRun
from confgen.io_thread import in_thread
from confgen.nginx import tls
from confgen.nginx.render import RenderFailed, Tree

SEARCH_S = 20.0
A = TypeVar("A")  # an answer
T = TypeVar("T")


class Culprits:
    """Whose fault refusals are.

    Args:
        applier: asks nginx.
        folder: knows what was proved last.
        without: renders the whole configuration without some services, as those in quarantine are left out.
    """

    def __init__(self, applier: Applier, folder: Folder, without: Callable[[frozenset[str]], Tree]) -> None:
        self._applier, self._folder, self._without = applier, folder, without

    async def find(self, tree: Tree | None, result: Result, out: Collection[str]) -> list[Blame]:
        """A refusal for each service that is to blame; empty when it is nobody's fault.

        Args:
            tree: what was refused; None: it could not be rendered.
            result: how it ended.
            out: services in quarantine already.
        """
        said = result.blame
        if said is None or tree is None or not result.refused:
            return [said] if said and said.service else []
        if not said.service and (found := listener(said, tree.files, tree.services)):
            return [said._replace(service=found)]
        new = await in_thread(lambda: self._folder.differing(tree))
        suspects = sorted({tree.services[name] for name in new if name in tree.services} - set(out))
        if result.failed is State.CHECKING and not concerns(said):
            return await self._asked(tree, said, suspects)
        if said.service:
            return [said]
        alone = len(suspects) == 1 and all(name in tree.services or name == tree.own_file for name in new)
        return [said._replace(service=suspects[0])] if alone and self._folder.good else []

    async def _asked(self, tree: Tree, said: Blame, suspects: list[str]) -> list[Blame]:
        ends, known = time.monotonic() + SEARCH_S, [said] if said.service else []
        others = [one for one in suspects if one != said.service]

        async def among(members: frozenset[str]) -> Blame | None:
            answer = await self._applier.refusal(part(tree, members))
            return None if answer is None or _is_mended_elsewhere(answer) else answer

        try:
            if others and await self._applier.refusal(part(tree, ())) is None:
                await _led(guilty(others, await among(frozenset(others)), known), among, ends)
            if not known:
                known += await self._left_out(said, suspects, ends)
        except (NotServing, CannotRun, UnsafePath, OSError, RenderFailed):
            pass  # what is known so far goes out; the rest is for the next try
        return known

    async def _left_out(self, said: Blame, suspects: Sequence[str], ends: float) -> list[Blame]:
        async def passes(more: frozenset[str]) -> bool:
            return await self._applier.refusal(self._without(more)) is None

        service = await _led(search(suspects), passes, ends)
        return [said._replace(service=service)] if service else []


def _is_mended_elsewhere(said: Blame) -> bool:
    """True for what only the next whole try can mend: an admin's snippet, a certificate."""
    return said.file.startswith("snippets/") or bool(tls.blamed(said.message))


async def _led(
    asking: Generator[frozenset[str], A, T], ask: Callable[[frozenset[str]], Awaitable[A]], ends: float
) -> T | None:
    """What a search returns; None when its time is over."""
    try:
        question = next(asking)
        while time.monotonic() < ends:
            question = asking.send(await ask(question))
    except StopIteration as end:
        found: T = end.value
        return found
    return None
