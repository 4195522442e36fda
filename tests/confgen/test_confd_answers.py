"""Our templates beside confd's: every row of the table comes out equal, or says why not."""

from __future__ import annotations

import re
import subprocess

import pytest

from confgen.resources.functions import names
from confgen.resources.languages import BadTemplate
from confgen.resources.resource import BadResource
from tests.confgen.confd_kit import ANSWERS, render

NAMED = re.compile(r"calling (\w+)")
# What is wrong with the resource or with the folder, and not with the template: found elsewhere.
ELSEWHERE = {"resource: src is not there"}
ROWS = [row for row in ANSWERS if "differs" not in row and row["title"] not in ELSEWHERE]


@pytest.mark.parametrize("row", [row for row in ROWS if "output" in row], ids=lambda row: row["title"])
def test_what_confd_renders(row):
    assert render(row["template"], row["keys"], row.get("toml", ""), row.get("prefix", "")) == row["output"]


@pytest.mark.parametrize("row", [row for row in ROWS if "error" in row], ids=lambda row: row["title"])
def test_what_confd_refuses(row):
    """It is refused here too, and the message names the function that confd names."""
    with pytest.raises((BadTemplate, BadResource)) as caught:
        render(row["template"], row["keys"], row.get("toml", ""), row.get("prefix", ""))

    named = NAMED.search(row["error"])
    assert not named or named[1] in str(caught.value)


@pytest.mark.parametrize("row", [row for row in ANSWERS if "differs" in row], ids=lambda row: row["title"])
def test_what_differs_is_refused(row):
    with pytest.raises(BadTemplate):
        render(row["template"], row["keys"])


def test_the_table_has_every_function():
    """All functions of confd 0.16 that answer the same everywhere are in the table."""
    called = " ".join(row["template"] for row in ANSWERS)
    elsewhere = {"datetime", "hostname", "lookupSRV", "lookupIfaceIPV4", "lookupIfaceIPV6"}

    assert {name for name in names() if not re.search(rf"{{[^}}]*\b{name}\b", called)} == elsewhere
    assert len(ANSWERS) > 700


NGINX = (
    "events {{}}\nhttp {{\n    access_log off;\n"
    "    client_body_temp_path {folder}/t;\n    proxy_temp_path {folder}/t;\n"
    "    fastcgi_temp_path {folder}/t;\n    scgi_temp_path {folder}/t;\n    uwsgi_temp_path {folder}/t;\n"
    "    include {folder}/site;\n}}\n"
)
SEEDS = [row for row in ROWS if row["title"] in {"seed: two services", "seed: b is gone", "seed: nothing"}]


@pytest.mark.parametrize("row", SEEDS, ids=lambda row: row["title"])
def test_nginx_takes_what_the_seed_renders(row, one_nginx, tmp_path):
    """The seed's template over its own keys is a configuration, also when no service is left."""
    (tmp_path / "site").write_text(render(row["template"], row["keys"], row["toml"]))
    (tmp_path / "proxy_params").write_text("proxy_set_header Host $http_host;\n")
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path))
    checked = subprocess.run(
        [one_nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log",
         "-g", f"pid {tmp_path}/pid;"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stderr
