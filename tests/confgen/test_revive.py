"""An nginx that has ended is started again on what a former process left."""

from __future__ import annotations

import pytest

from confgen.applying.io_apply import Applier
from confgen.applying.io_files import Folder
from confgen.nginx.render import Tree, generation_of


class Ended:
    """Stands for an nginx that does not run, and keeps how much time it was given."""

    pid = 0

    def __init__(self):
        self.given = []

    async def reload(self, patience):
        self.given.append(patience)

    async def prove(self, generation, *, timeout_s):
        self.given.append((generation, timeout_s))


@pytest.mark.parametrize(("services", "longer"), [(10, 1.0), (1999, 2.0)], ids=["usual", "large"])
async def test_a_large_configuration_of_a_former_process_has_longer_to_start(tmp_path, services, longer):
    """Also while the store is away, when nothing was rendered or proved by this process."""
    files = {f"services/s{number}.conf": b"" for number in range(services)} | {"nginx.conf": b""}
    tree = Tree(files, generation_of(files), {})
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
