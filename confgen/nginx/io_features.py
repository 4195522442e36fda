"""Asks the nginx program what it can do."""

from __future__ import annotations

from pathlib import Path

from confgen.io_command import run
from confgen.nginx.features import Features, NotNginx, modules_folder, read

ASK_TIMEOUT_S = 10.0


async def probe(program: str, folder: str = "") -> Features:
    """What a program can do.

    Args:
        program: the nginx binary.
        folder: of its loadable modules; empty: the one that it was built for.

    Raises:
        CannotRun: it cannot be started.
        NotNginx: it is something else, or says nothing in time.
    """
    outcome = await run([program, "-V"], timeout_s=ASK_TIMEOUT_S)
    if outcome.code != 0:
        raise NotNginx(f"{program} -V: {outcome.output.strip()[:200] or f'ended with code {outcome.code}'}")
    folder = folder or modules_folder(outcome.output)
    return read(outcome.output, folder, _files(folder))


def _files(folder: str) -> list[str]:
    try:
        return [one.name for one in Path(folder).iterdir()] if folder else []
    except OSError:  # no module is installed; that is as usual as the contrary
        return []
