"""What building the suite's image without a network needs: a Debian base made here, and wheels fetched beforehand.

Both are kept under the tools' folder. The base holds the Debian packages that the Dockerfile names, so that its
`apt-get install` finds them there; everything else in the Dockerfile runs as it does for everybody.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from lab.debian import architecture
from lab.host import Host
from lab.tools import Tools, default_base
from lab.waiting import LabError

CHECKOUT = Path(__file__).parent.parent
LAYOUT = 2  # of the base; a change makes it anew
DEBIAN = "bookworm"
BASE_NAME = f"debian:{DEBIAN}-slim"
MIRROR = "http://deb.debian.org/debian"
PYTHON = "3.11"  # Debian 12's
PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")  # its C library is 2.36
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
MAKE_TIMEOUT_S = 900


def base_archive(tools: Tools) -> Path:
    """The base image's file system as a tar archive, made with debootstrap unless that was done before.

    It runs in process and mount namespaces of its own, so that nothing a package starts or mounts outlives it.

    Raises:
        LabError: debootstrap failed, with what it said.
    """
    packages = debian_packages((CHECKOUT / "Dockerfile").read_text(encoding="utf-8"))
    key = hashlib.sha256(f"{LAYOUT} {DEBIAN} {packages}".encode()).hexdigest()[:12]
    packed = default_base() / f"{DEBIAN}-{architecture()}-{key}.tar"
    if packed.exists():
        return packed
    tree = packed.with_suffix(f".{os.getpid()}")
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    make = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", DEBIAN, str(tree), MIRROR]
    staged = packed.with_suffix(f".tar.{os.getpid()}")
    pack = ["tar", "-C", str(tree), "--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*",
            "-cf", str(staged), "."]  # fmt: skip
    try:
        _run([*unshare, *make], tools)
        # Without a network, apt-get update would try again for seconds each time.
        (tree / "etc/apt/apt.conf.d/99no-retries").write_text('Acquire::Retries "0";\n', encoding="ascii")
        _run(pack, tools)
        staged.rename(packed)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        staged.unlink(missing_ok=True)
    return packed


def debian_packages(dockerfile: str) -> list[str]:
    """The packages that a Dockerfile installs.

    >>> debian_packages("RUN apt-get install -y --no-install-recommends python3 nginx && rm x")
    ['nginx', 'python3']
    """
    lists = re.findall(r"apt-get install -y --no-install-recommends ([a-z0-9.+ -]+)", dockerfile)
    return sorted({name for listed in lists for name in listed.split()})


def wheels(tools: Tools) -> Path:
    """A folder with wheels of everything the project needs at run time and to be built, for the image's Python.

    Raises:
        LabError: pip failed, with what it said.
    """
    wanted = requirements()
    folder = default_base() / f"wheels-{hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    machine = MACHINES.get(architecture(), os.uname().machine)
    platforms = [f"--platform={name}_{machine}" for name in PLATFORMS]
    staged = folder.with_suffix(f".{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(staged), "--only-binary=:all:"]
    _run([*pip, f"--python-version={PYTHON}", "--implementation=cp", *platforms, *wanted], tools)
    staged.rename(folder)
    return folder


def requirements() -> list[str]:
    """What setup.cfg and pyproject.toml ask for, at run time and to be built."""
    metadata = configparser.ConfigParser()
    metadata.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    build = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    return [*metadata["options"]["install_requires"].split("\n")[1:], *build]


def context(into: Path, with_wheels: Path) -> Path:
    """A copy of the checkout as the Dockerfile sees it, with wheels: the folder to run compose in."""
    names = [line[1:] for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").split() if line[0] == "!"]
    for name in [*names, "Dockerfile", ".dockerignore", "fig.yml", "fig"]:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, into / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        elif source.exists():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into / name)
    shutil.copytree(with_wheels, into / "wheels")
    return into


def compose(host: Host, tools: Tools, folder: Path, *arguments: str, within_s: float = 300) -> str:
    """Run docker-compose on a host, in a folder; returns what it printed."""
    command: list[str | Path] = ["env", "-C", folder, tools.find("docker-compose"), *arguments]
    env = {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    answer = host.run(command, within_s=within_s, env=env)
    return answer.stdout + answer.stderr


def _run(command: list[str], tools: Tools) -> None:
    answer = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=tools.env(), timeout=MAKE_TIMEOUT_S, check=False
    )
    if answer.returncode != 0:
        raise LabError(
            f"{' '.join(command)}: exit code {answer.returncode}:\n{(answer.stdout + answer.stderr)[-2000:]}"
        )
