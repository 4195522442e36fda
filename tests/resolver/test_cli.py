"""`pilotfish resolver` as it is typed: exit codes, messages, JSON."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import NamedTuple

import pytest

from pilotfish.cli import run
from tests.parts.small_dns import SmallDns
from tests.resolver.kit import HOST, make, tree

AT = ("--server", "10.0.0.1:53")


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def resolver(monkeypatch, capsys):
    """Run the command line to its end, in this process; nobody is at its keyboard."""
    for name in [*os.environ]:
        if name.startswith(("PILOTFISH_", "SKYDNS_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    def ran(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            run(["resolver", *arguments])
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return ran


@pytest.mark.parametrize("command", [[], ["install"], ["remove"], ["status"]])
def test_help(resolver, command):
    """Every command explains itself."""
    done = resolver(*command, "--help")

    assert (done.returncode, done.stdout.startswith("Usage: pilotfish resolver")) == (0, True)


BAD = {
    "a server that is none": (["install", "--server", "here"], 2, "--server: 'here' is no name server"),
    "a kind that is none": (["install", "--kind", "nscd"], 2, "'nscd' is not one of"),
    "a command for no kind": (["remove", "--reload-with", "nscd=x"], 2, "--reload-with: 'nscd' is none of"),
    "no command": (["remove", "--reload-with", "unbound="], 2, "--reload-with: give KIND=COMMAND"),
    "a quote that does not end": (["remove", "--reload-with", "unbound='x"], 2, "No closing quotation"),
    "an outside that is no name": (["status", "--outside", "a..b"], 2, "--outside: 'a..b'"),
    "a name that is none": (["install", "--name", "ä"], 2, "--name: '"),
    "a domain that is none": (["status", "--domain", "a b"], 2, "--domain: 'a b'"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), BAD.values(), ids=BAD)
def test_bad_use(resolver, arguments, code, message):
    """What is wrong is named, before anything is looked at."""
    done = resolver(*arguments)

    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_there_and_back(resolver, place):
    """Install, status, remove on another system's tree: exit codes 0, 0, 0, and 1 for a status that is not wired."""
    root = ("--root", str(make(place)))
    before = tree(place)
    assert resolver("status", *root).returncode == 1
    installed = resolver("install", *root, *AT, "--yes")
    assert (installed.returncode, installed.stderr) == (0, "")
    assert "done: systemd-resolved, docker" in installed.stdout
    shown = resolver("status", *root, "--json")
    kinds = {kind["kind"]: kind for kind in json.loads(shown.stdout)["kinds"]}
    assert (shown.returncode, sorted(kinds)) == (0, ["docker", "systemd-resolved"])
    assert resolver("remove", *root, "--yes").returncode == 0
    assert tree(place) == before


def test_nobody_to_ask(resolver, place):
    """Without a terminal and without --yes nothing is changed, and that is a failure."""
    before = tree(make(place))
    done = resolver("install", "--root", str(place), *AT)

    assert (done.returncode, "--yes goes on without asking" in done.stderr) == (1, True)
    assert tree(place) == before


def test_a_dry_run_needs_no_root(resolver):
    """Looking is free: also what it would ask of a server that is there."""
    with SmallDns(outside="forwards") as server:
        at = f"{server.address[0]}:{server.address[1]}"
        done = resolver("install", "--dry-run", "--kind", "resolv.conf", "--server", at)

    assert (done.returncode, "has no ports" in done.stderr) == (1, True)


def test_a_server_that_is_away(resolver):
    """A dependency that cannot be reached is exit code 3."""
    with SmallDns() as server:
        at = f"{server.address[0]}:{server.address[1]}"
    done = resolver("install", "--dry-run", "--kind", "resolv.conf", "--server", at)

    assert (done.returncode, "nothing answers there" in done.stderr) == (3, True)


def test_a_file_that_is_no_text(resolver, place):
    """Octets that are no UTF-8 are shown as such, and kept."""
    root = make(place, HOST | {"/etc/docker/daemon.json": b'{"label\xff": 1}'})
    before = tree(root)
    done = resolver("install", "--root", str(root), *AT, "--yes", "--kind", "docker")

    assert (done.returncode, "label\\xff" in done.stdout) == (0, True), done.stderr
    assert b"label\xff" in (root / "etc/docker/daemon.json").read_bytes()
    assert resolver("remove", "--root", str(root), "--yes").returncode == 0
    assert tree(root) == before
