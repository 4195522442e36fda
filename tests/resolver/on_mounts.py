"""What needs mounts, run as root in a mount namespace of its own: `unshare --mount python -m tests.resolver.on_mounts`.

A resolv.conf that is mounted, as in every container, cannot be renamed over: it is written in place, and killed in the
middle of that too. And a disk that is really full.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.catalog.failure import CannotStart
from pilotfish.resolver.service import Options
from tests.resolver.kit import ALL, HOST, folder, killed_at, make, resolver, tree

PLAIN = {**HOST, "/etc/resolv.conf": "nameserver 192.0.2.1\n" * 3}


def mount(*arguments: str) -> None:
    """Mount something."""
    subprocess.run(["mount", *arguments], check=True, timeout=10)


def mounted(place: Path) -> int:
    """Kill an install at every step, and its repair once in the middle; the number of steps that were tried."""
    step = 0
    while True:
        root = make(place / str(step), PLAIN)
        own = place / f"own-{step}"
        own.write_bytes((root / "etc/resolv.conf").read_bytes())
        mount("--bind", str(own), str(root / "etc/resolv.conf"))
        before = tree(root)
        killed = killed_at(step, lambda gate, root=root: resolver(root, gate).install(ALL))
        killed_at(2, lambda gate, root=root: resolver(root, gate).repaired(Options()))
        resolver(root).repaired(Options())
        now = own.read_text()
        assert (tree(root) == before) == (now == PLAIN["/etc/resolv.conf"]), step
        assert now in (PLAIN["/etc/resolv.conf"], (root / "etc/resolv.conf").read_text()), step
        resolver(root).remove(Options())
        assert tree(root) == before, step
        subprocess.run(["umount", str(root / "etc/resolv.conf")], check=True, timeout=10)
        if not killed:
            return step
        step += 1


def torn(place: Path) -> None:
    """Half a file in place: it is known to be ours, and made whole again."""
    root = make(place / "torn", PLAIN)
    mount("--bind", str(root / "etc/resolv.conf"), str(root / "etc/resolv.conf"))
    before, seen = tree(root), []

    def count(gate_at: str) -> None:
        seen.append(gate_at)

    resolver(root, count).install(ALL)
    resolver(root).remove(Options())
    step = seen.index("write /etc/resolv.conf in place")
    assert killed_at(step, lambda gate: resolver(root, gate).install(ALL))
    (root / "etc/resolv.conf").write_text("# Written by `pilotfi")
    resolver(root).repaired(Options())
    assert tree(root) == before


def full(place: Path) -> None:
    """No room for a single block: nothing has changed, there and back, and afterwards it works."""
    root = place / "full"
    (root / "etc").mkdir(parents=True)
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", str(root / "etc"))
    make(root, PLAIN)
    for work in ("install", "remove"):
        before, filler = tree(root), root / "etc" / ".filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
        except OSError:
            pass
        with pytest.raises(CannotStart, match="No space left on device"):
            getattr(resolver(root), work)(ALL)
        filler.unlink()
        assert tree(root) == before, work
        getattr(resolver(root), work)(ALL)
        assert tree(root) != before


def main() -> None:
    """Everything; prints how many steps were tried."""
    with folder() as place:
        mount("--bind", str(place), str(place))
        try:
            steps = mounted(place)
            torn(place)
            full(place)
        finally:
            subprocess.run(["umount", "--recursive", str(place)], check=True, timeout=10)
    print(f"killed at {steps} steps")


if __name__ == "__main__":
    sys.exit(main())
