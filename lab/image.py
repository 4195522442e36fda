"""Container images without a registry: packed from this machine's own busybox and Python, imported into each engine.

An image holds a shell with the usual commands, the interpreter that runs the lab, exactly those of its modules and
shared libraries that the sample application loads, and the application. The archive is packed once and kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.tools import default_base
from lab.waiting import LabError

LAYOUT = 1  # of the archive; a change packs anew
APP = Path(__file__).with_name("app.py")
PYTHON = "/usr/bin/python3"
COMMAND = [PYTHON, "-I", "-S", "-B", "/app/app.py"]

# Loaded late: when a name or a text is first encoded, and for TLS.
LATE_MODULES = (
    *("encodings.idna", "encodings.ascii", "encodings.latin_1", "stringprep", "unicodedata", "traceback"),
    "ssl",
)

LIST_FILES = """
import importlib, json, sys
sys.path.append({folder!r})
importlib.import_module({module!r})
for name in {late!r}:
    importlib.import_module(name)
pairs = [(getattr(module, "__file__", None), getattr(module, "__cached__", None)) for module in sys.modules.values()]
files = [pair for pair in pairs if pair[0] not in (None, {path!r})]
print(json.dumps({{"executable": sys.executable, "files": files}}))
"""


@dataclass(frozen=True)
class Image:
    """A name for the sample application with some ports and settings."""

    name: str
    ports: tuple[int, ...]
    health: bool = False

    @property
    def dockerfile(self) -> str:
        """What the image adds to the imported archive."""
        lines = [
            f"FROM {BASE_NAME}",
            f"ENV PORTS={','.join(str(port) for port in self.ports)}",
            f"EXPOSE {' '.join(str(port) for port in self.ports)}",
        ]
        if self.health:
            lines.append(f"HEALTHCHECK --interval=1s --timeout=2s --retries=2 CMD {json.dumps([*COMMAND, 'health'])}")
        return "\n".join(lines) + "\n"


BASE_NAME = "pilotfish-lab/base:1"
APP_IMAGE = Image("pilotfish-lab/app:1", ports=(9200, 9300))
WEB_IMAGE = Image("pilotfish-lab/web:1", ports=(80,))
HEALTH_IMAGE = Image("pilotfish-lab/health:1", ports=(80,), health=True)
IMAGES = (APP_IMAGE, WEB_IMAGE, HEALTH_IMAGE)


def archive(busybox: Path) -> Path:
    """The base image's file system as a tar archive, packed now unless that was done before.

    Args:
        busybox: a statically linked busybox.
    """
    key = hashlib.sha256(f"{LAYOUT} {sys.version} {sys.base_prefix}".encode() + APP.read_bytes()).hexdigest()[:12]
    packed = default_base() / f"app-{key}.tar"
    if not packed.exists():
        packed.parent.mkdir(parents=True, exist_ok=True)
        staged = packed.with_name(f"{packed.name}.{os.getpid()}")
        with tarfile.open(staged, "w", dereference=True) as tar:
            _pack(tar, busybox)
        staged.rename(packed)
    return packed


def load(docker: Callable[..., subprocess.CompletedProcess[str]], packed: Path) -> None:
    """Import the archive and build every image of `IMAGES` from it.

    Args:
        docker: runs the engine's command line: ``docker(arguments, input_text=...)``.
        packed: what `archive` returned.
    """
    docker(
        ["import", "--change", f"CMD {json.dumps(COMMAND)}", "--change", "ENV PATH=/usr/bin:/bin", packed, BASE_NAME]
    )
    for image in IMAGES:
        docker(["build", "-q", "-t", image.name, "-"], input_text=image.dockerfile, env={"DOCKER_BUILDKIT": "0"})


def _pack(tar: tarfile.TarFile, busybox: Path) -> None:
    binary = _elf_of(busybox)
    tar.add(binary, "bin/busybox")
    for applet in _output([str(binary), "--list"]).split():
        if applet != "busybox":
            _add_link(tar, f"bin/{applet}", "busybox")
    question = LIST_FILES.format(folder=str(APP.parent), module=APP.stem, path=str(APP), late=LATE_MODULES)
    facts = json.loads(_output([_base_python(), "-I", "-S", "-B", "-c", question]))
    executable = os.path.realpath(facts["executable"])
    for file in sorted(set(_python_files(executable, facts))):
        tar.add(file, file.lstrip("/"))
    _add_link(tar, PYTHON.lstrip("/"), executable)
    for folder in ("tmp", "proc", "sys", "dev", "etc", "run"):
        _add_folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
    _add_text(tar, "etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    tar.add(APP, "app/app.py")


def _python_files(executable: str, facts: dict[str, object]) -> Iterator[str]:
    """The interpreter, the modules it loaded with their compiled form, and all shared libraries behind them."""
    loaded = facts["files"]
    if not isinstance(loaded, list):
        raise LabError("the interpreter did not list its modules")
    yield executable
    for source, cached in loaded:
        yield source
        if cached and Path(cached).exists():
            yield cached
    binaries = [executable, *(source for source, _ in loaded if source.endswith(".so"))]
    for binary in binaries:
        yield from libraries(binary)


def libraries(binary: str) -> Iterator[str]:
    """What ldd(1) lists: ``name => /path (address)`` or ``/loader (address)``."""
    for line in _output(["ldd", binary], check=False).splitlines():
        path = line.rpartition("=>")[2].strip().split(" ")[0]
        if path.startswith("/"):
            yield path


def _base_python() -> str:
    """The interpreter behind a virtual environment, which has its library beside it."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _elf_of(program: Path) -> Path:
    """The program behind a launcher script."""
    if program.read_bytes()[:4] == b"\x7fELF":
        return program
    behind = sorted(program.parent.parent.glob(f"root/**/bin/{program.name}"))
    if not behind:
        raise LabError(f"{program} is a script, and no program stands behind it")
    return behind[0]


def _output(command: list[str], *, check: bool = True) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=60).stdout


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    tar.addfile(entry, io.BytesIO(text.encode("ascii")))
