"""The process that cleans up after a lab whose owner was killed.

Run as ``python -m lab.keeper FOLDER`` with a pipe from the owner as standard input: the pipe ends when the owner does,
however it ends. Then it waits for the folder's lock, and finds nothing to do if the owner cleaned up itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab import state


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the keeper of `folder`; close its standard input when the lab is gone."""
    return subprocess.Popen(
        [sys.executable, "-m", "lab.keeper", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent, start_new_session=True,
    )  # fmt: skip


def main() -> int:
    """Wait for the owner's end, then clean."""
    folder = Path(sys.argv[1])
    sys.stdin.buffer.read()
    stale = state.claim_stale(folder, wait=True)
    if stale is not None:
        with state.held(stale):
            stale.clean()
    return 0


if __name__ == "__main__":
    sys.exit(main())
