"""Sets nginx's log files aside when they are large. Blocking.

NAME.log becomes NAME.log.1, that one NAME.log.2, and so on; the last one goes. nginx writes on into the file that was
renamed until it is told to open its logs anew, so that no line is lost.
"""

from __future__ import annotations

import stat
from pathlib import Path

KEPT = 4  # former files of each log


def set_aside(folder: Path, most: int) -> bool:
    """Rename the logs of a folder that have grown to `most` octets; True when nginx is to open new ones.

    What is no plain file (a link to /dev/stdout) is left alone.

    Raises:
        OSError: no rights; what was renamed by then stays so.
    """
    large = [one for one in sorted(folder.glob("*.log")) if _is_large(one, most)]
    for log in large:
        for number in range(KEPT - 1, 0, -1):
            former = log.with_name(f"{log.name}.{number}")
            if former.exists():
                former.replace(log.with_name(f"{log.name}.{number + 1}"))
        log.replace(log.with_name(f"{log.name}.1"))
    return bool(large)


def _is_large(log: Path, most: int) -> bool:
    facts = log.lstat()
    return stat.S_ISREG(facts.st_mode) and facts.st_size >= most
