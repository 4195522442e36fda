"""Facts of this machine that nginx's configuration depends on."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import stat
from pathlib import Path

from confgen.nginx.layout import Machine

ACCOUNTS = ("nginx", "www-data", "nobody")  # the distributions' own, then the one that is everywhere
MOST_FILES = 1_048_576
MOST_WORKERS = 64


def machine(folder: Path, http_port: int, reserved: tuple[str, ...]) -> Machine:
    """Ask the machine.

    Args:
        folder: nginx's folder, absolute.
        http_port: where http is served.
        reserved: hosts that nobody gets.
    """
    user, group = account(folder)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return Machine(
        folder=str(folder),
        http_port=http_port,
        ipv6=has_ipv6(),
        workers=min(MOST_WORKERS, len(os.sched_getaffinity(0))),
        files_limit=MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard),
        user=user,
        group=group,
        reserved=reserved,
    )


def has_ipv6() -> bool:
    """True when the kernel has IPv6 on some interface of this network namespace."""
    try:
        return bool(Path("/proc/self/net/if_inet6").read_text(encoding="ascii").strip())
    except OSError:
        return False


def account(folder: Path) -> tuple[str, str]:
    """User and group of nginx's workers: the first common account that can reach its folder, else the folder's owner.

    Empty when we are not root: then everything runs as we do, and nginx takes no `user`.
    """
    if os.geteuid() != 0:
        return "", ""
    for name in ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if all(_may_pass(parent, found) for parent in (folder, *folder.parents)):
            return name, grp.getgrgid(found.pw_gid).gr_name
    owner = folder.stat()
    return pwd.getpwuid(owner.st_uid).pw_name, grp.getgrgid(owner.st_gid).gr_name


def _may_pass(folder: Path, who: pwd.struct_passwd) -> bool:
    facts = folder.stat()
    bit = stat.S_IXOTH
    if facts.st_uid == who.pw_uid:
        bit = stat.S_IXUSR
    elif facts.st_gid == who.pw_gid:
        bit = stat.S_IXGRP
    return bool(facts.st_mode & bit)
