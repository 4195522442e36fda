"""The project speaks of itself alone, and leaves nothing for later: read from every file that is kept."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each is put together here, so that this file may be read with the others.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.-])/(?:" + r"work|root|home/[a-z]\w*|Users" + r")/(?!\*)",
    "a path of somebody's notes": r"/tmp/p" + r"f\w*[-.]",
    "work left for later": r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b",
    "a page that is not here": "DESIGN" + r"\.md|seed-" + r"semantics|lab-" + r"notes\.md",
}


def kept_files() -> list[Path]:
    """What is kept, or would be when everything is added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=30,
    ).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def text_of(path: Path) -> str:
    """A file as text; "" for one that is gone or is none."""
    data = path.read_bytes() if path.is_file() else b""
    return "" if b"\0" in data else data.decode(errors="replace")


def found_in(pattern: str, text: str) -> list[str]:
    return [f"{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}" for hit in re.finditer(pattern, text)]


@pytest.mark.parametrize("pattern", FORBIDDEN.values(), ids=FORBIDDEN)
def test_no_kept_file_says(pattern):
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: nothing says what is kept")
    files = kept_files()

    assert Path(__file__) in files
    assert [f"{path.relative_to(ROOT)}:{hit}" for path in files for hit in found_in(pattern, text_of(path))] == []


SAID = {
    "a checkout": ("a path of somebody's machine", "see /wo" + "rk/main/x.py"),
    "a home": ("a path of somebody's machine", "'/ho" + "me/jane/x'"),
    "the superuser's home": ("a path of somebody's machine", "/ro" + "ot/.pyenv"),
    "notes": ("a path of somebody's notes", "/tm" + "p/pf-brief.md"),
    "later": ("work left for later", "# TO" + "DO: more"),
    "broken": ("work left for later", "FIX" + "ME"),
    "a page": ("a page that is not here", "see DESI" + "GN.md"),
}


@pytest.mark.parametrize(("what", "text"), SAID.values(), ids=SAID)
def test_a_forbidden_word_is_found(what, text):
    assert len(found_in(FORBIDDEN[what], f"line 1\n{text}")) == 1


LET_PASS = {
    "a folder of a container": ("a path of somebody's machine", "/srv/network/ and /var/run/docker.sock"),
    "part of a longer path": ("a path of somebody's machine", "debian/ro" + "ot/etc"),
    "a longer word": ("work left for later", "TO" + "DOS"),
}


@pytest.mark.parametrize(("what", "text"), LET_PASS.values(), ids=LET_PASS)
def test_what_only_looks_alike_is_let_pass(what, text):
    assert found_in(FORBIDDEN[what], text) == []
