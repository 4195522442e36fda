"""What is known of culprits when their search does not come to its end."""

from __future__ import annotations

import pytest

from confgen.applying import io_culprits
from confgen.applying.blame import Blame
from confgen.applying.io_apply import Result
from confgen.applying.io_culprits import Culprits
from confgen.applying.io_files import Folder
from confgen.applying.pipeline import Action, State
from confgen.nginx.render import Tree, generation_of

SERVICES = [f"s{number:02}" for number in range(20)]
FILES = {f"services/{name}.conf": b"server { }" for name in SERVICES}
TREE = Tree(FILES, generation_of(FILES), {f"services/{name}.conf": name for name in SERVICES})


class Asked:
    """Stands for nginx: it names the first of the services that it has something against, until it cannot be asked."""

    def __init__(self, bad, most, then):
        self.bad, self.left, self.then = bad, most, then

    async def refusal(self, tree):
        self.left -= 1
        if self.left < 0:
            self.then()
        return next((Blame(one, "", 0, "no") for one in self.bad if f"services/{one}.conf" in tree.files), None)


def full_disk():
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("end", ["nginx cannot be asked any more", "its time is over"])
async def test_who_was_found_goes_out_though_the_search_was_cut_short(tmp_path, monkeypatch, end):
    """Ten are refused, six questions are answered: one each, after one whether it is anybody's fault."""
    folder = Folder(tmp_path, 3)
    folder.open()
    over = (lambda: monkeypatch.setattr(io_culprits, "time", Late)) if "time" in end else full_disk
    nginx = Asked(SERVICES[:10], 6, over)
    culprits = Culprits(nginx, folder, lambda _: TREE)
    said = Blame(SERVICES[0], "", 0, "no")
    try:
        found = await culprits.find(TREE, Result(Action.REFUSE, said, State.CHECKING, refused=True), ())
    finally:
        folder.close()
    assert [one.service for one in found] == SERVICES[: 7 if "time" in end else 6]


class Late:
    """A clock that says that all time is over."""

    @staticmethod
    def monotonic():
        return float("inf")
