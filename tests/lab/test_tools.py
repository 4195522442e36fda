"""Fetched programs: what apt says is read rightly, launchers run what they should, and two fetches do not meet."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lab import debian, suite_image, tools
from lab.tools import GROUPS, Group, ToolMissing, Tools

EXACT = [
    pytest.param("nginx_1.22.1-9+deb12u10_amd64.deb", "nginx:amd64=1.22.1-9+deb12u10", id="plain"),
    pytest.param("busybox-static_1%3a1.35.0-4_arm64.deb", "busybox-static:arm64=1:1.35.0-4", id="epoch"),
    pytest.param("nginx-common_1.22.1-9_all.deb", "nginx-common=1.22.1-9", id="for all machines"),
    pytest.param("liburcu8_0.13.2-1_amd64.deb", "liburcu8:amd64=0.13.2-1", id="library"),
]


@pytest.mark.parametrize(("file", "package"), EXACT)
def test_file_names_become_exact_packages(file, package):
    """A file that apt would fetch is asked for by name, machine and version."""
    assert debian._exact(file) == package


def test_lines_of_print_uris():
    """One line a file; what else apt prints is passed over."""
    said = (
        "Reading package lists...\n"
        "'http://deb.debian.org/debian/pool/main/r/runc/runc_1.1.5%2bds1-1_amd64.deb' runc_1.1.5+ds1-1_amd64.deb 27"
        " SHA256:4ff7\n"
    )
    found = [match["file"] for line in said.splitlines() if (match := debian._URI_LINE.match(line))]
    assert found == ["runc_1.1.5+ds1-1_amd64.deb"]


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> str:
    """A group whose one package is unpacked by a stand-in for apt, which counts how often it was asked."""
    unpacked = []

    def unpack(self, packages, into: Path, *, say) -> list[str]:
        unpacked.append(packages)
        program = into / "usr/sbin/hello-daemon"
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/sh\necho "$0" "$@" "$LD_LIBRARY_PATH"\n')
        program.chmod(0o755)
        (into / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
        (into / "usr/lib/nginx/modules").mkdir(parents=True)
        return ["hello_1_all.deb"]

    monkeypatch.setattr(debian.Apt, "unpack", unpack)
    monkeypatch.setattr(debian, "architecture", lambda: "amd64")
    monkeypatch.setattr(tools, "release", lambda: ("debian", "12"))
    monkeypatch.setitem(GROUPS, "hello", Group(packages=("hello",), programs=("hello-daemon",)))
    monkeypatch.setattr(tools, "_unpacked", unpacked, raising=False)
    return "hello"


def test_a_launcher_runs_the_unpacked_program_with_its_libraries(group, tmp_path):
    """The launcher works from anywhere with nothing set, and passes arguments and libraries on."""
    found = Tools([group], base=tmp_path / "it's here", say=str)
    program = found.find("hello-daemon")
    said = subprocess.run([program, "a b", "c"], env={}, capture_output=True, text=True, check=True, cwd="/").stdout
    root = program.parent.parent / "root"

    assert program.is_absolute()
    assert said == f"{root}/usr/sbin/hello-daemon a b c {root}/usr/lib/x86_64-linux-gnu\n"
    assert found.nginx_modules == program.parent.parent / "lib/nginx/modules"
    assert found.env()["PATH"].startswith(f"{program.parent}:")


def test_a_group_is_fetched_once_also_by_two_at_once(group, tmp_path):
    """Who comes second waits for the first, and takes what it fetched."""
    threads = [threading.Thread(target=Tools, args=([group],), kwargs={"base": tmp_path, "say": str}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tools._unpacked == [["hello"]]


def test_a_half_fetched_group_is_fetched_again(group, tmp_path):
    """A fetch that was killed leaves nothing that is taken for a group."""
    root = Tools([group], base=tmp_path, say=str).roots[0]
    (root / tools.FETCHED).unlink()
    Tools([group], base=tmp_path, say=str)

    assert tools._unpacked == [["hello"], ["hello"]]
    assert json.loads((root / tools.FETCHED).read_text())["files"] == ["hello_1_all.deb"]


def test_missing_programs_are_named(group, tmp_path, monkeypatch):
    """A program that nobody has, and a group whose packages lack one, are errors that say which."""
    with pytest.raises(ToolMissing, match="no-such-program is not on PATH"):
        Tools([group], base=tmp_path, say=str).find("no-such-program")
    monkeypatch.setitem(GROUPS, group, Group(packages=("hello",), programs=("hello-daemon", "bye")))
    with pytest.raises(ToolMissing, match="group hello do not contain: bye"):
        Tools([group], base=tmp_path, say=str)


def test_unknown_group_on_the_command_line():
    """Bad usage is exit code 2 with the names that there are."""
    answer = subprocess.run(
        [sys.executable, "-m", "lab.tools", "fetch", "nope"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2], env={**os.environ, "PILOTFISH_TOOLS": "/nonexistent"},
    )  # fmt: skip
    assert (answer.returncode, answer.stderr) == (
        2,
        f"tools: no such group: nope; there are {' '.join(GROUPS)}\n",
    )


def test_packages_of_the_dockerfile():
    """The lab's base image holds exactly what the Dockerfile installs."""
    found = suite_image.debian_packages((suite_image.CHECKOUT / "Dockerfile").read_text())
    assert {"etcd-client", "etcd-server", "nginx", "python3", "python3-venv"} <= set(found)
    assert all(name == name.lower() and " " not in name for name in found)


def test_a_system_without_apt_uses_what_it_has(group, tmp_path, monkeypatch):
    """No apt: the machine's own programs serve if they are all there; else the error says which system this is."""

    def no_apt() -> tuple[str, str]:
        raise debian.PackagesUnavailable("Fedora has no apt-get and dpkg")

    monkeypatch.setattr(tools, "release", no_apt)
    with pytest.raises(debian.PackagesUnavailable, match="Fedora"):
        Tools([group], base=tmp_path, say=str)
    own = tmp_path / "hello-daemon"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert Tools([group], base=tmp_path, say=str).find("hello-daemon") == own
    assert tools._unpacked == []
