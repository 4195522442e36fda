"""What is installed: the wheel in a fresh environment, and the checkout as it is installed here."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"registrator", "dnsserver", "confgen", "pilotfish"}
SCRIPTS = {"pilotfish", "registrator", "dnsserver", "confgen"}
NOT_KEPT = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist"
)

FIND_TEMPLATES = """
import importlib.resources, json
found = importlib.resources.files("confgen.templates").iterdir()
print(json.dumps({one.name: one.read_text() for one in found if one.name.endswith(".j2")}))
"""


def ran(*command, cwd):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy, so that building leaves nothing in the checkout."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "copy", ignore=NOT_KEPT))


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, checkout, cwd=out)
    [found] = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel in it, which borrows the requirements of this one."""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, with_pip=False)
    [packages] = place.glob("lib/python*/site-packages")
    before = set(packages.iterdir())
    python = place / "bin" / "python"
    ran(
        *(sys.executable, "-m", "pip", "--python", python),
        *("install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel),
        cwd=place,
    )
    gained = {path.name for path in set(packages.iterdir()) - before}
    # A plain line: the folder is searched, and its own .pth files (the checkout's) are not read.
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place, gained


def test_site_packages_gains_our_packages_and_nothing_else(installed):
    _, gained = installed
    [metadata] = [name for name in gained if name.endswith(".dist-info")]

    assert gained - {metadata} == PACKAGES
    assert metadata.startswith("pilotfish-")


def test_the_wheel_holds_every_module_and_nothing_beside(wheel, checkout):
    """A package that setup.cfg does not name would be missing; a test or a note would be too much."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    kept = {
        path.relative_to(checkout).as_posix() for package in PACKAGES for path in (checkout / package).rglob("*.py")
    }
    kept |= {f"{package}/py.typed" for package in PACKAGES}
    kept |= {
        f"confgen/templates/{path.name}" for path in (checkout / "templates").iterdir() if path.suffix in {".py", ".j2"}
    }

    assert names == kept


def test_the_scripts_start(installed):
    """Each is there, runs from the wheel, and tells its use."""
    place, _ = installed
    there = {path.name for path in (place / "bin").iterdir() if path.name in SCRIPTS}

    assert there == SCRIPTS
    for script in sorted(SCRIPTS):
        assert "usage" in ran(place / "bin" / script, "--help", cwd=place).lower()


def test_the_scripts_are_those_of_the_settings():
    """The table above and setup.cfg name the same."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options.entry_points"]["console_scripts"].split("\n")

    assert {line.partition("=")[0].strip() for line in lines if line} == SCRIPTS


def test_the_wheel_is_what_runs(installed):
    """The borrowed folder does not bring the checkout in."""
    place, _ = installed
    shown = "import pilotfish, confgen.templates; print(pilotfish.__file__, confgen.templates.__path__[0])"

    assert all(str(place) in path for path in ran(place / "bin" / "python", "-c", shown, cwd=place).split())


@pytest.mark.parametrize("of", ["wheel", "checkout"])
def test_templates_are_found(of, installed, tmp_path):
    """The same files, wherever they are installed from."""
    python = installed[0] / "bin" / "python" if of == "wheel" else sys.executable
    kept = {path.name: path.read_text() for path in (ROOT / "templates").glob("*.j2")}

    assert "nginx.conf.j2" in kept
    assert json.loads(ran(python, "-c", FIND_TEMPLATES, cwd=tmp_path)) == kept
