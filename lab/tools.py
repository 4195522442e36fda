"""The programs that the lab, the tests and the benches drive: where they are, fetched first if need be.

Contract: nothing is installed and no daemon starts. Each group of packages is unpacked once into a folder of its own
under ``$LAB_TOOLS`` (default ``~/.cache/pilotfish/tools``); a program is a launcher in that folder's ``bin/``,
which gives the program, and only that program, its unpacked libraries. A launcher is an absolute path that works
from anywhere without any environment. Standard library only.

    python3 -m lab.tools fetch lab bench image     fetch the groups named (default: lab)
    python3 -m lab.tools find nginx                print where a program is
    python3 -m lab.tools env                       print the PATH that has them all
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.debian import Apt, PackagesUnavailable, architecture, release

LAYOUT = 1  # of the folders below; a change of layout fetches anew
FETCHED = "fetched.json"


@dataclass(frozen=True)
class Group:
    """Packages that are wanted together, and the programs they must give."""

    packages: tuple[str, ...]
    programs: tuple[str, ...]


GROUPS = {
    "lab": Group(
        packages=("docker.io", "containerd", "runc", "etcd-server", "etcd-client", "nginx", "libnginx-mod-stream",
                  "iptables", "busybox-static", "iproute2", "util-linux", "curl"),
        programs=("dockerd", "docker", "containerd", "runc", "docker-proxy", "etcd", "etcdctl", "nginx", "iptables",
                  "ip6tables", "busybox", "ip", "unshare", "nsenter", "curl"),
    ),
    "bench": Group(
        packages=("knot", "knot-dnsutils", "bind9-dnsutils", "dnsperf", "unbound"),
        programs=("knotd", "knotc", "kdig", "dig", "dnsperf", "unbound"),
    ),
    "load": Group(packages=("wrk",), programs=("wrk",)),
    "image": Group(
        packages=("debootstrap", "docker-compose", "wget", "debian-archive-keyring"),
        programs=("debootstrap", "docker-compose", "wget"),
    ),
    "podman": Group(
        packages=("podman", "conmon", "crun", "golang-github-containers-common", "netavark", "aardvark-dns"),
        programs=("podman", "conmon", "crun"),
    ),
    "resolvers": Group(
        packages=("unbound", "dnsmasq-base", "systemd-resolved", "bind9-host"),
        programs=("unbound", "unbound-checkconf", "dnsmasq", "resolvectl", "systemd-resolved", "host"),
    ),
    "lua": Group(packages=("nginx-core", "libnginx-mod-http-lua", "lua-resty-core"), programs=("nginx",)),
    "clock": Group(packages=("faketime", "libfaketime"), programs=("faketime",)),
}  # fmt: skip

# Folders of an unpacked tree that hold programs, in the order of a usual PATH.
PROGRAM_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin", "usr/lib/systemd", "lib/systemd")

# Debian's own choice between two programs (update-alternatives) is made by installing, which we do not do.
# The lab says which one the kernel can do; nft is what Debian chooses.
ALTERNATIVES = {"iptables": "iptables-${LAB_IPTABLES:-nft}", "ip6tables": "ip6tables-${LAB_IPTABLES:-nft}"}

# Programs that must be told where their own files are, since they were not installed under /usr.
SETTINGS = {
    "nginx": 'LUA_PATH="$root/usr/share/lua/5.1/?.lua;;"; export LUA_PATH',
    "debootstrap": 'DEBOOTSTRAP_DIR="$root/usr/share/debootstrap"; export DEBOOTSTRAP_DIR',
    "docker-compose": 'PYTHONPATH="$root/usr/lib/python3/dist-packages"; export PYTHONPATH',
}

LAUNCHER = """\
#!/bin/sh
root='{root}'
LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"; export LD_LIBRARY_PATH
XTABLES_LIBDIR="{xtables}"; export XTABLES_LIBDIR
{settings}
exec {interpreter}"$root/{program}" "$@"
"""


class ToolMissing(Exception):
    """A program is neither on this machine nor fetched."""


class Tools:
    """The programs of some groups, fetched when first asked for.

    Args:
        groups: names from `GROUPS`.
        base: where the unpacked folders are kept; default ``$LAB_TOOLS`` or ``~/.cache/pilotfish/tools``.
        say: receives one line for every step that takes time.
    """

    def __init__(
        self, groups: Iterable[str] = ("lab",), *, base: Path | None = None, say: Callable[[str], None] = print
    ) -> None:
        self._base = base or default_base()
        self._say = say
        self.roots = [root for name in groups if (root := self._root_of(name))]

    def find(self, program: str) -> Path:
        """The absolute path of `program`: fetched, or of this machine.

        Raises:
            ToolMissing: it is in no group that was asked for and not on PATH.
        """
        found = _search(program, self.roots)
        if found is None:
            raise ToolMissing(f"{program} is not on PATH and in none of the fetched groups; known: {_known(program)}")
        return found

    def env(self) -> dict[str, str]:
        """This process's environment, with every fetched program first on PATH."""
        return {**os.environ, "PATH": self.path()}

    def path(self) -> str:
        """The PATH value of `env`; /usr/sbin is on it, where Debian keeps daemons."""
        usual = [folder for folder in ("/usr/sbin", "/sbin") if folder not in os.environ.get("PATH", "").split(":")]
        return ":".join([*(f"{root}/bin" for root in self.roots), os.environ.get("PATH", "/usr/bin:/bin"), *usual])

    @property
    def nginx_modules(self) -> Path:
        """The folder of nginx's loadable modules (``ngx_stream_module.so``)."""
        unpacked = [root / "lib/nginx/modules" for root in self.roots]
        return next((folder for folder in unpacked if folder.is_dir()), Path("/usr/lib/nginx/modules"))

    def _root_of(self, name: str) -> Path | None:
        """The group's folder, fetched if need be; None on a system without apt that has all the programs itself."""
        try:
            root = self._base / _folder_name(name)
        except PackagesUnavailable:
            if all(_search(program, []) for program in GROUPS[name].programs):
                return None
            raise
        if _complete(name, root):
            return root
        self._base.mkdir(parents=True, exist_ok=True)
        with _locked(self._base / ".lock"):
            if not _complete(name, root):  # another process may have fetched it while we waited
                self._fetch(name, root)
        return root

    def _fetch(self, name: str, root: Path) -> None:
        """Unpack aside and rename: a reader sees a whole group or none."""
        self._say(f"tools: fetching group {name} into {root}")
        staged = root.with_name(f"{root.name}.new")
        for leftover in (staged, root):
            shutil.rmtree(leftover, ignore_errors=True)
        files = Apt(self._base / "apt").unpack(list(GROUPS[name].packages), staged / "root", say=self._say)
        (staged / "root").mkdir(parents=True, exist_ok=True)
        _write_launchers(staged, root)
        (staged / FETCHED).write_text(json.dumps({"group": name, "files": sorted(files)}, indent=1), encoding="utf-8")
        staged.rename(root)
        missing = [program for program in GROUPS[name].programs if _search(program, [root]) is None]
        if missing:
            shutil.rmtree(root)
            raise ToolMissing(f"the packages of group {name} do not contain: {' '.join(missing)}")
        self._say(f"tools: group {name} is ready: {len(files)} packages unpacked")


def default_base() -> Path:
    """Where unpacked folders are kept unless told otherwise."""
    return Path(os.environ.get("LAB_TOOLS") or Path.home() / ".cache/pilotfish/tools").absolute()


def _folder_name(name: str) -> str:
    """Keyed by what decides the content, so that another system or list never meets an older folder."""
    system, version = release()
    wanted = json.dumps([LAYOUT, GROUPS[name].packages, GROUPS[name].programs])
    return f"{system}-{version}-{architecture()}/{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:10]}"


def _complete(name: str, root: Path) -> bool:
    """A package that was installed at the time of the fetch may be gone now, so the programs are looked for again."""
    return (root / FETCHED).exists() and all(_search(program, [root]) for program in GROUPS[name].programs)


def _search(program: str, roots: list[Path]) -> Path | None:
    folders = [*(str(root / "bin") for root in roots), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    found = shutil.which(program, path=":".join(folders))
    return Path(found).absolute() if found else None


def _known(program: str) -> str:
    return next((f"group {name}" for name, group in GROUPS.items() if program in group.programs), "no group has it")


def _write_launchers(staged: Path, final: Path) -> None:
    """``bin/`` with one launcher a program, and ``lib`` beside it, where nginx's modules are looked for."""
    (staged / "lib").symlink_to("root/usr/lib")
    (staged / "bin").mkdir()
    tree = staged / "root"
    programs = {file.name: f"{folder}/{file.name}" for folder in reversed(PROGRAM_FOLDERS)
                for file in (tree / folder).glob("*") if file.is_file() or file.is_symlink()}  # fmt: skip
    for name, target in ALTERNATIVES.items():
        if f"{name}-nft" in programs:
            programs[name] = f"usr/sbin/{target}"
    for name, program in sorted(programs.items()):
        launcher = staged / "bin" / name
        launcher.write_text(_launcher(name, program, tree, final / "root"), encoding="utf-8")
        launcher.chmod(0o755)


def _launcher(name: str, program: str, tree: Path, root: Path) -> str:
    places = ("usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/systemd")
    libraries = [folder for pattern in places for folder in tree.glob(pattern)]
    xtables = list(tree.glob("usr/lib/*/xtables")) or [Path("/usr/lib/xtables")]
    python = (tree / program).is_file() and (tree / program).read_bytes()[:40].startswith(b"#!/usr/bin/python3")
    # Python modules from Debian fit Debian's own python3, which may not be the first on PATH.
    own_python = '"$root/usr/bin/python3" ' if (tree / "usr/bin/python3").exists() else "/usr/bin/python3 "
    return LAUNCHER.format(
        root=str(root).replace("'", r"'\''"),
        libraries=":".join(str(root / folder.relative_to(tree)) for folder in libraries),
        xtables=root / xtables[0].relative_to(tree) if xtables[0].is_relative_to(tree) else xtables[0],
        settings=SETTINGS.get(name, ":"),
        interpreter=own_python if python else "",
        program=program,
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold `path` against every other process; the kernel lets go of it when we end, however we end."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m lab.tools", description="Programs for the lab, tests and benches."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="fetch groups of programs")
    fetch.add_argument("groups", nargs="*", metavar="GROUP", help=f"of: {' '.join(GROUPS)} (default: lab)")
    find = commands.add_parser("find", help="print where a program is")
    find.add_argument("program")
    commands.add_parser("env", help="print the PATH that has every fetched program")
    options = parser.parse_args(arguments)
    try:
        return _perform(options)
    except (ToolMissing, PackagesUnavailable) as error:
        print(f"tools: {error}", file=sys.stderr)
        return 3


def _perform(options: argparse.Namespace) -> int:
    if options.command == "fetch":
        unknown = sorted(set(options.groups) - set(GROUPS))
        if unknown:
            print(f"tools: no such group: {' '.join(unknown)}; there are {' '.join(GROUPS)}", file=sys.stderr)
            return 2
        Tools(options.groups or ["lab"])
        return 0
    if options.command == "find":
        group = next((name for name, group in GROUPS.items() if options.program in group.programs), "lab")
        print(Tools([group], say=_to_stderr).find(options.program))
        return 0
    print(f"PATH={Tools(GROUPS, say=_to_stderr).path()}")
    return 0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
