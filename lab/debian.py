"""Debian packages as plain folders: resolved and downloaded by apt, unpacked by dpkg, never installed.

Knows apt-get and dpkg; knows nothing of what the packages are for. No maintainer script runs, so no daemon starts, no
alternative is switched and nothing outside the given folder changes. Standard library only: this may run before the
project's own environment exists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

# The machine's own C library serves the unpacked programs: a second one beside the machine's loader would not start.
# Within one release of the distribution its symbols are the same.
NEVER_UNPACKED = frozenset({"libc6", "libc-bin", "libc-l10n", "locales", "dpkg", "apt", "base-files"})

# One line of `apt-get --print-uris`: 'http://host/path.deb' name_version_arch.deb size hash
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>[^ _]+_[^ _]+_[^ _]+\.deb) \d+ ")

DOWNLOAD_TIMEOUT_S = 900
UNPACK_TIMEOUT_S = 120
LIST_LOCK_TRIES = 30  # another apt on the machine (an upgrade in the background) holds the lock for seconds


class PackagesUnavailable(Exception):
    """The packages could not be resolved or downloaded."""


def release() -> tuple[str, str]:
    """The distribution and its version, from os-release(5): ``("debian", "12")``.

    Raises:
        PackagesUnavailable: not a Debian-like system, or one without apt-get and dpkg.
    """
    fields = {}
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        fields[key] = value.strip('"')
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        system = fields.get("PRETTY_NAME", "this system")
        raise PackagesUnavailable(f"{system} has no apt-get: install the programs yourself (lab/tools.py lists them)")
    return fields.get("ID", "unknown"), fields.get("VERSION_ID", "rolling")


def architecture() -> str:
    """Debian's name of this machine's architecture: ``amd64``, ``arm64``."""
    return _run(["dpkg", "--print-architecture"]).stdout.strip()


class Apt:
    """apt-get, asked for packages that are not on the machine yet.

    Args:
        scratch: a folder for this user's own package lists, used when not root (the machine's cannot be renewed then).
    """

    def __init__(self, scratch: Path) -> None:
        self._options = [] if os.geteuid() == 0 else _private_lists(scratch)

    def unpack(self, packages: list[str], into: Path, *, say: object = print) -> list[str]:
        """Download `packages` with everything they need and unpack all of it into `into`.

        What is installed on the machine already is left out. Package lists are renewed when they are missing, or name
        files that the mirror no longer has.

        Returns:
            The files that were unpacked, ``name_version_arch.deb``; empty when all is installed.

        Raises:
            PackagesUnavailable: with what apt said.
        """
        announce = say if callable(say) else print
        files = self._resolve(packages, announce)
        if not files:
            return []
        archives = into.parent / f"{into.name}.debs"
        archives.mkdir(parents=True, exist_ok=True)
        announce(f"tools: downloading {len(files)} packages: {' '.join(_short(name) for name in files)}")
        files = self._download(packages, files, archives, announce)
        into.mkdir(parents=True, exist_ok=True)
        for archive in sorted(archives.glob("*.deb")):
            _run(["dpkg", "-x", str(archive), str(into)], timeout=UNPACK_TIMEOUT_S)
        shutil.rmtree(archives)
        return files

    def _resolve(self, packages: list[str], announce: object) -> list[str]:
        """File names of the packages and their dependencies that are not installed."""
        answer = self._closure(packages)
        if answer.returncode != 0:
            self._update(announce)
            answer = self._closure(packages)
        if answer.returncode != 0:
            raise PackagesUnavailable(f"apt-get cannot resolve {' '.join(packages)}:\n{answer.stderr.strip()}")
        found = [match["file"] for line in answer.stdout.splitlines() if (match := _URI_LINE.match(line))]
        return [name for name in found if name.split("_", 1)[0] not in NEVER_UNPACKED]

    def _closure(self, packages: list[str]) -> subprocess.CompletedProcess[str]:
        command = ["apt-get", *self._options, "install", "--print-uris", "-qq", "-y", "--no-install-recommends"]
        return _run([*command, *packages], check=False)

    def _download(self, packages: list[str], files: list[str], archives: Path, announce: object) -> list[str]:
        answer = self._fetch(files, archives)
        if answer.returncode != 0:
            self._update(announce)
            files = self._resolve(packages, announce)
            answer = self._fetch(files, archives)
        if answer.returncode != 0:
            raise PackagesUnavailable(f"apt-get cannot download the packages:\n{answer.stderr.strip()}")
        return files

    def _fetch(self, files: list[str], archives: Path) -> subprocess.CompletedProcess[str]:
        """`apt-get download` verifies the archive's signature chain and the hashes, and needs no root."""
        for leftover in archives.glob("*.deb"):
            leftover.unlink()
        exact = [_exact(name) for name in files]
        command = ["apt-get", *self._options, "download", "-qq", "-o", "APT::Sandbox::User=root", *exact]
        return _run(command, check=False, cwd=archives, timeout=DOWNLOAD_TIMEOUT_S)

    def _update(self, announce: object) -> None:
        """Renew the package lists; one unreachable third-party source is no reason to stop."""
        if callable(announce):
            announce("tools: apt-get update")
        for _ in range(LIST_LOCK_TRIES):
            answer = _run(["apt-get", *self._options, "update", "-qq"], check=False, timeout=DOWNLOAD_TIMEOUT_S)
            if "Could not get lock" not in answer.stderr:
                return
            time.sleep(1)


def _private_lists(scratch: Path) -> list[str]:
    """Options that let a user without root keep package lists of their own."""
    lists, cache = scratch / "lists", scratch / "cache"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    (cache / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1"]


def _exact(file: str) -> str:
    """``name_1%3a2-3_amd64.deb`` as apt-get wants it: ``name:amd64=1:2-3``."""
    name, version, arch = unquote(file).removesuffix(".deb").split("_")
    return f"{name}={version}" if arch == "all" else f"{name}:{arch}={version}"


def _short(file: str) -> str:
    return file.split("_", 1)[0]


def _run(
    command: list[str], *, check: bool = True, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, check=False
    )
    if check and answer.returncode != 0:
        raise PackagesUnavailable(f"{' '.join(command)}: {answer.stderr.strip()}")
    return answer
