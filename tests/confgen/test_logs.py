"""nginx's logs: set aside when they are large, without a lost line, and never in the middle of a proof."""

from __future__ import annotations

import contextlib
import json

import pytest

from confgen import service
from confgen.applying.io_logs import KEPT, set_aside
from confgen.settings import ConfgenSettings
from pilotfish.catalog.options import parse_size
from tests.confgen.kit import Backend, Running, claim, get, until
from tests.confgen.test_faults import WEB, hold, web

SIZE = 4096


def test_large_ones_are_renamed_and_few_are_kept(tmp_path):
    log = tmp_path / "access.log"
    (tmp_path / "error.log").write_text("small")
    for turn in range(KEPT + 2):
        log.write_text(f"{turn}" * 10)
        assert set_aside(tmp_path, 10)
        assert not log.exists()
    assert [(tmp_path / f"access.log.{number}").read_text()[0] for number in range(1, KEPT + 1)] == ["5", "4", "3", "2"]
    assert sorted(one.name for one in tmp_path.iterdir()) == [*(f"access.log.{n}" for n in range(1, 5)), "error.log"]
    assert not set_aside(tmp_path, 10)


def test_what_is_no_file_is_left_alone(tmp_path):
    (tmp_path / "access.log").symlink_to("/dev/null")
    (tmp_path / "error.log").mkdir()
    assert not set_aside(tmp_path, 0)


def requests(folder):
    """How often each request stands in the logs, former ones too; what is just being written is left for later."""
    lines = []
    for one in folder.glob("logs/access.log*"):
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            lines += one.read_text().rpartition("\n")[0].splitlines()
    return sorted(json.loads(line)["uri"] for line in lines)


async def test_no_line_is_lost_when_logs_are_rotated(nginx, folder, monkeypatch):
    monkeypatch.setattr(service, "EDITS_LOOK_S", 0.2)
    async with Backend("one") as one, Running(folder, nginx, log_size=SIZE) as running:
        await running.settle(web(one.port), claim("web", WEB))
        asked = []
        while not list(folder.glob("logs/access.log.2")):
            asked.append(f"/{len(asked)}")
            assert (await get(running.port, WEB, asked[-1])).status == 200
            assert len(asked) < 5000
        await until(lambda: requests(folder) == sorted(asked), "all lines, flushed after a second")
        new = folder / "logs" / "access.log"
        await get(running.port, WEB, "/last")
        await until(lambda: new.exists() and "/last" in new.read_text(), "nginx writes into the new one")
        await running.settle(web(one.port, weight=3))  # and its own log is still read
        await until(lambda: running.telemetry.ready.missing == {}, "nothing is missing")


async def test_nothing_is_rotated_while_a_configuration_is_proved(one_nginx, folder):
    async with Backend("one") as one, Running(folder, one_nginx, log_size=0) as running:
        await running.settle(web(one.port), claim("web", WEB))
        (folder / "logs" / "big.log").write_bytes(b"x" * SIZE)
        applier = running.service._applier
        with hold(applier, "prove") as reached:
            await running.write(web(one.port, weight=2))
            await reached.wait()
            assert not await applier.rotate(SIZE)
            assert (folder / "logs" / "big.log").exists()
            await running.stop()
        assert await applier.rotate(SIZE)


@pytest.mark.parametrize("size", ["64m", "1g", "0"])
def test_sizes(size):
    assert parse_size(size) == {"64m": ConfgenSettings().log_size, "1g": 2**30, "0": 0}[size]
