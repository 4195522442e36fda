"""Killed at every step, out of space at every step: all of it happened or nothing, and nothing lies about."""

import errno
import os
import re

import pytest

from pilotfish.catalog.failure import CannotStart
from pilotfish.resolver.io_apply import Failed, Steps
from pilotfish.resolver.plan import Command, write
from pilotfish.resolver.service import Options
from tests.resolver.kit import ALL, HOST, Counter, facts, killed_at, make, resolver, tree

RECORD = "/var/lib/pilotfish/resolver.json"
EVERYTHING = Options()


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """What a host looks like when every kind is installed."""
    root = make(tmp_path_factory.mktemp("wired"))
    resolver(root).install(ALL)
    return tree(root)


def test_kill_at_every_step_of_install(place, wired):
    """Whoever looks next finds the host as it was, or wired as a whole; remove then gives every octet back."""
    step, outcomes = 0, []
    while True:
        root = make(place / str(step))
        before = tree(root)
        killed = killed_at(step, lambda gate, root=root: resolver(root, gate).install(ALL))
        resolver(root).repaired(EVERYTHING)
        found = tree(root)
        assert found in (before, wired), f"step {step}"
        outcomes.append(found == wired)
        resolver(root).remove(EVERYTHING)
        assert tree(root) == before, f"step {step}"
        if not killed:
            break
        step += 1

    assert step > 20  # it did bite
    assert outcomes == sorted(outcomes)  # nothing, nothing, ..., everything: one step decides
    assert not outcomes[0]


def test_kill_at_every_step_of_remove(place, wired):
    """The same on the way back."""
    step = 0
    while True:
        root = make(place / str(step))
        before = tree(root)
        resolver(root).install(ALL)
        killed = killed_at(step, lambda gate, root=root: resolver(root, gate).remove(EVERYTHING))
        resolver(root).repaired(EVERYTHING)
        assert tree(root) in (before, wired), f"step {step}"
        resolver(root).install(ALL)
        assert tree(root) == wired, f"step {step}"
        if not killed:
            break
        step += 1

    assert step > 20


@pytest.mark.parametrize("first", [3, 9, 15, 20, 24])
def test_kill_at_every_step_of_the_repair(place, first):
    """Killed while it takes back what was interrupted: the next one goes on with that."""
    step = 0
    while True:
        root = make(place / str(step))
        before = tree(root)
        assert killed_at(first, lambda gate, root=root: resolver(root, gate).install(ALL))
        killed = killed_at(step, lambda gate, root=root: resolver(root, gate).repaired(EVERYTHING))
        resolver(root).repaired(EVERYTHING)
        assert tree(root) == before, f"step {step}"
        if not killed:
            break
        step += 1

    assert step > 0


@pytest.mark.parametrize("work", ["install", "remove"])
def test_no_space_at_every_step(place, work):
    """A step that fails takes everything back; the message names the path, and the exit code will be 1."""

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    step = 0
    while True:
        root = make(place / str(step))
        if work == "remove":
            resolver(root).install(ALL)
        before, said, gate = tree(root), [], Counter(step, full)
        failed = ""
        try:
            getattr(resolver(root, gate, said), work)(ALL)
        except CannotStart as error:
            failed = str(error)
        resolver(root).repaired(EVERYTHING)
        if failed:
            assert (tree(root), "No space left on device" in failed) == (before, True), f"{gate.seen[-1]}: {failed}"
        else:
            assert tree(root) != before  # only tidying up may fail without harm
        if len(gate.seen) <= step:
            break
        step += 1

    assert step > 20


def test_a_failing_program_takes_everything_back(place):
    """A check or a reload that fails: files as before, and the programs are told once more."""
    root = make(place / "root")
    before, told = tree(root), place / "told"
    reload = Command(("sh", "-c", f"echo told >> {told}; test $(wc -l < {told}) -gt 1"), "be told")
    one = resolver(root)
    _apply(one, Steps(reloads=(reload,)), "failed with 1: it said nothing; everything was put back")

    assert tree(root) == before
    assert told.read_text() == "told\ntold\n"


@pytest.mark.parametrize("lasts", [True, False], ids=["a service", "a process that is gone"])
def test_killed_while_a_program_is_told(place, lasts):
    """Whoever takes it back tells it again, though it may not run any more, unless that made sense at the time only."""
    root, told = make(place / "root"), place / "told"
    before = tree(root)
    reload = Command(("sh", "-c", f"echo told >> {told}"), "be told", lasts=lasts)

    def install(gate):
        def killing(what):
            if what == "prove it":
                gate(what)

        _apply(resolver(root, killing), Steps(reloads=(reload,)), "it is killed")

    assert killed_at(0, install)
    assert told.read_text() == "told\n"
    resolver(root).repaired(EVERYTHING)

    assert tree(root) == before
    assert told.read_text() == ("told\ntold\n" if lasts else "told\n")


def test_killed_before_a_program_is_told(place):
    """Nobody has read the files: nobody is told when they are put back."""
    root, told = make(place / "root"), place / "told"
    before = tree(root)
    steps = Steps((Command(("true",), "see"),), (Command(("touch", str(told)), "be told"),))

    def install(gate):
        _apply(resolver(root, lambda what: gate(what) if what == "run true" else None), steps, "it is killed")

    assert killed_at(0, install)
    resolver(root).repaired(EVERYTHING)

    assert tree(root) == before
    assert not told.exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param(("sh", "-c", "echo wrong line >&2; exit 3"), "failed with 3: wrong line", id="says why"),
        pytest.param(("no-such-program",), "cannot run `no-such-program` to see: No such file", id="missing"),
    ],
)
def test_a_failing_check_says_why(place, argv, said):
    """What the program printed is in the message; nobody was told anything yet, so nobody is told again."""
    root = make(place / "root")
    before, told = tree(root), place / "told"
    steps = Steps((Command(argv, "see"),), (Command(("touch", str(told)), "be told"),))
    _apply(resolver(root), steps, said)

    assert tree(root) == before
    assert not told.exists()


def test_a_failing_proof_takes_everything_back(place):
    """Files and programs are as they should be, and still our names do not resolve: as before, then."""
    root = make(place / "root")
    before = tree(root)

    def prove():
        raise Failed("127.0.0.53:53 does not give our answer for svc.internal")

    _apply(resolver(root), Steps(prove=prove), "does not give our answer")

    assert tree(root) == before


def test_interrupted_by_the_keyboard(place):
    """Ctrl-C in the middle is a failure like any other."""
    root = make(place)
    before = tree(root)

    def prove():
        raise KeyboardInterrupt

    _apply(resolver(root), Steps(prove=prove), "interrupted; everything was put back")

    assert tree(root) == before


def _apply(one, steps, said):
    """Write two files of a host with steps that fail."""
    moves = (*write(facts(HOST), "/etc/docker/daemon.json", "{}"), *write(facts(HOST), "/etc/new/er/file", "x"))
    with one.file.locked(), pytest.raises(Failed, match=re.escape(said)):
        one._applier.apply(one.file.load(), moves, {}, steps)


def test_two_at_once(place):
    """The second one is told that another is at work, and changes nothing."""
    root = make(place)
    before = tree(root)
    with resolver(root).file.locked(), pytest.raises(CannotStart, match=r"another .* is at work"):
        resolver(root).install(ALL)

    assert tree(root) == before


def test_somebody_else_meanwhile(place):
    """A file that was edited between the crash and the repair is left as it is, and named."""
    root = make(place / "root")
    original = (root / "etc/dnsmasq.conf").read_bytes()
    assert killed_at(_last_save(place / "once"), lambda gate: resolver(root, gate).install(ALL))
    (root / "etc/docker/daemon.json").write_text('{"debug": true}')
    said: list[str] = []
    resolver(root, said=said).repaired(EVERYTHING)

    assert (root / "etc/docker/daemon.json").read_text() == '{"debug": true}'
    assert [line for line in said if "daemon.json was changed by somebody else" in line]
    assert (root / "etc/dnsmasq.conf").read_bytes() == original
    assert not (root / RECORD.lstrip("/")).exists()


def _last_save(root):
    """The step of an install before which everything is written, and nothing decided."""
    gate = Counter(10_000, lambda _: None)
    resolver(make(root), gate).install(ALL)
    return [at for at, seen in enumerate(gate.seen) if seen == "keep the record"][1]
