"""Computed limits, the workers' account, and what /proc says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from confgen.applying.io_processes import PROC, look, orphans_of, still_accepting, workers_of
from confgen.nginx import io_machine, layout

BUCKETS = [(0, 64), (46, 64), (47, 128), (110, 128), (111, 256), (253, 512)]


@pytest.mark.parametrize(("longest", "bucket"), BUCKETS)
def test_the_longest_name_fits_its_bucket(longest, bucket):
    assert layout.names_bucket(longest) == bucket


@pytest.mark.parametrize(("hosts", "size"), [(0, 1024), (512, 1024), (513, 2048), (10_000, 32768)])
def test_the_hash_has_room_for_twice_the_names(hosts, size):
    assert layout.names_size(hosts) == size


@pytest.mark.parametrize(("limit", "connections"), [(256, 512), (1024, 896), (20_000, 19_872), (1_048_576, 65536)])
def test_connections_follow_the_limit_of_files(limit, connections):
    assert layout.connections(limit) == connections


@pytest.mark.skipif(os.geteuid() != 0, reason="only root chooses")
def test_workers_get_an_account_that_reaches_the_folder_or_its_owner(tmp_path):
    open_, closed = Path(tmp_path.root) / "tmp", tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert io_machine.account(open_)[0] in io_machine.ACCOUNTS
    assert io_machine.account(closed) == ("root", "root")


def test_a_process_is_seen_as_it_is_and_a_dead_one_not_at_all():
    assert look(os.getpid()).pid == os.getpid()
    assert look(os.getpid()).parent == os.getppid()
    child = subprocess.Popen(["true"])
    while (PROC / str(child.pid) / "stat").read_text().split()[2] != "Z":
        pass
    assert look(child.pid) is None
    child.returncode = 0  # `look` has collected it, as it must in a container
    assert workers_of(os.getpid()) == orphans_of(os.getpid()) == still_accepting([os.getpid()]) == frozenset()
