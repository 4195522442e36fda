"""The lab from the command line: ``python -m lab up|show|enter|down|clean``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from lab import cgroup, state
from lab.debian import PackagesUnavailable
from lab.lab import Lab, require_root
from lab.namespace import entered
from lab.process import is_same, signal_recorded
from lab.tools import ToolMissing
from lab.waiting import LabError, wait_until

DOWN_WITHIN_S = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed, 2 bad usage."""
    options = _parser().parse_args(arguments)
    try:
        require_root()
        return COMMANDS[options.command](options)
    except (LabError, ToolMissing, PackagesUnavailable) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _up(options: argparse.Namespace) -> int:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with Lab(hosts=options.hosts, etcd=options.etcd) as lab:
        for found in state.living():
            if found.id == lab.id:
                _print(found)
        print("Ctrl-C ends it.", flush=True)
        stopped.wait()
    return 0


def _show(_: argparse.Namespace) -> int:
    labs = state.living()
    for found in labs:
        _print(found)
    if not labs:
        print("no lab is up; python -m lab up starts one")
    return 0


def _enter(options: argparse.Namespace) -> int:
    found = _chosen(options.lab)
    host = next((host for host in found.hosts if host.name == options.host), None)
    if host is None:
        raise LabError(
            f"lab {found.id} has no host {options.host}; it has {' '.join(host.name for host in found.hosts)}"
        )
    if not is_same(host.holder, host.holder_started):
        raise LabError(f"{host.name} is down")
    group = cgroup.of_lab(found.id).child(host.name).child("programs")
    command = entered(host.holder, group, options.program or [os.environ.get("SHELL", "/bin/sh")], Path.cwd())
    os.execvpe(command[0], command, {**os.environ, **found.env})  # noqa: S606  the point of this command


def _down(options: argparse.Namespace) -> int:
    labs = [_chosen(options.lab)] if options.lab else state.living()
    for found in labs:
        signal_recorded(found.owner, found.owner_started, signal.SIGTERM)
        gone = functools.partial(_is_gone, Path(found.folder))
        wait_until(gone, within_s=DOWN_WITHIN_S, what=f"lab {found.id} to end")
        print(f"lab {found.id} is down")
    return _clean(options)


def _clean(_: argparse.Namespace) -> int:
    for lab_id in state.sweep():
        print(f"cleaned lab {lab_id}, whose owner was gone")
    return 0


def _is_gone(folder: Path) -> bool:
    return not folder.exists()


def _chosen(lab_id: str | None) -> state.LabFacts:
    labs = state.living()
    matching = [found for found in labs if lab_id in (None, found.id)]
    if len(matching) == 1:
        return matching[0]
    if not labs:
        raise LabError("no lab is up; python -m lab up starts one")
    raise LabError(f"say which lab with --lab: {' '.join(found.id for found in labs)}")


def _print(found: state.LabFacts) -> None:
    print(f"lab {found.id}: {found.folder}")
    for host in found.hosts:
        up = "" if is_same(host.holder, host.holder_started) else "  (changed since the start: crashed or booted)"
        print(f"  {host.name:10} {host.address:12} {host.address6:9} {host.docker_socket}{up}")
    if found.etcd:
        print(f"  etcd       {found.etcd}")
    print(f"  python -m lab enter {found.hosts[0].name} docker ps", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="Docker hosts in network namespaces. Needs root."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a lab and keep it until Ctrl-C")
    up.add_argument("--hosts", type=int, default=3, help="how many (default: 3)")
    up.add_argument("--etcd", type=int, default=3, help="etcd members, on the first hosts (default: 3)")
    commands.add_parser("show", help="the labs that are up: hosts, addresses, sockets")
    enter = commands.add_parser("enter", help="a shell, or a command, on a host")
    enter.add_argument("host", metavar="HOST")
    enter.add_argument("program", metavar="COMMAND", nargs=argparse.REMAINDER)
    down = commands.add_parser("down", help="end labs that others keep up")
    for command in (enter, down):
        command.add_argument("--lab", metavar="ID", help="which one, if several are up")
    commands.add_parser("clean", help="remove what killed labs left")
    return parser


COMMANDS = {"up": _up, "show": _show, "enter": _enter, "down": _down, "clean": _clean}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
