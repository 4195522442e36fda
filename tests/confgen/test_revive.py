"""How long nginx may take to read what a former process left, and what is gone back to."""

from __future__ import annotations

import pytest

from confgen.applying.io_apply import Applier
from confgen.applying.io_files import Folder
from confgen.applying.io_nginx import NotServing
from confgen.io_command import Outcome
from confgen.nginx.render import Tree, generation_of


class Ended:
    """Stands for an nginx that does not run, and keeps how much time it was given."""

    pid, ours = 0, True

    def __init__(self):
        self.given = []

    async def reload(self, patience):
        self.given.append(patience)

    async def prove(self, generation, *, timeout_s):
        self.given.append((generation, timeout_s))


class Unmoved(Ended):
    """Stands for an nginx that runs, and never serves what it is told."""

    pid = 1

    async def check(self, config, patience):
        return Outcome(0, "")

    async def prove(self, generation, *, timeout_s):
        await super().prove(generation, timeout_s=timeout_s)
        if len(self.given) < 3:
            raise NotServing("it serves another")


def tree_of(services):
    files = {f"services/s{number}.conf": b"" for number in range(services)} | {"nginx.conf": b""}
    return Tree(files, generation_of(files), {})


async def test_what_is_gone_back_to_has_its_own_time(tmp_path):
    """A small configuration fails after a large one was proved."""
    large, small, folder, nginx = tree_of(1999), tree_of(1), Folder(tmp_path, 3), Unmoved()
    folder.open()
    try:
        for step in (
            folder.stage,
            lambda tree: folder.swap(tree.generation),
            lambda tree: folder.accept(tree.generation),
        ):
            step(large)
        result = await Applier(folder, nginx, proof_s=5.0).apply(small)
    finally:
        folder.close()
    assert result.refused is False
    assert nginx.given == [1.0, (small.generation, 5.0), 2.0, (large.generation, 10.0)]


@pytest.mark.parametrize(("services", "longer"), [(10, 1.0), (1999, 2.0)], ids=["usual", "large"])
async def test_a_large_configuration_of_a_former_process_has_longer_to_start(tmp_path, services, longer):
    """Also while the store is away, when nothing was rendered or proved by this process."""
    tree = tree_of(services)
    former, folder, nginx = Folder(tmp_path, 3), Folder(tmp_path, 3), Ended()
    former.open()
    former.stage(tree)
    former.swap(tree.generation)
    former.close()
    folder.open()
    try:
        await Applier(folder, nginx, proof_s=5.0).revive()
    finally:
        folder.close()
    assert nginx.given == [longer, (tree.generation, 5.0 * longer)]
