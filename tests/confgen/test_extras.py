"""The admin's folders and flags: what is read, what is left out by name, what keeps confgen from starting."""

from __future__ import annotations

import dataclasses

import pytest

from confgen.nginx.extras import MAX_PAGE, MAX_SNIPPET, Extras, Files, extras, place_of
from confgen.nginx.features import LEAST, read
from confgen.nginx.io_folders import look
from confgen.nginx.io_setup import machine, misfit
from confgen.nginx.shapes import snippet_file
from confgen.settings import ConfgenSettings
from pilotfish.catalog.failure import CannotStart
from pilotfish.catalog.route import Place

PLACES = [
    ("a host", "www.test.conf", Place("www.test", "")),
    ("a wildcard", "*.test.conf", Place("*.test", "")),
    ("its root", "www.test@.conf", Place("www.test", "/")),
    ("a path", "www.test@api@v1.conf", Place("www.test", "/api/v1")),
    ("a path with a slash behind", "www.test@api@.conf", Place("www.test", "/api/")),
    ("another ending", "www.test.txt", None),
    ("no host", "a b.conf", None),
    ("upper case", "WWW.test.conf", None),
    ("a way out", "www.test@..@x.conf", None),
]


@pytest.mark.parametrize(("name", "place"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_what_a_snippet_is_for(name, place):
    assert place_of(name) == place


def test_files_are_sorted_and_what_is_unfit_is_named():
    big, page = b"#" * (MAX_SNIPPET + 1), b"x" * (MAX_PAGE + 1)
    found = extras(
        Files(
            frozenset({"staff"}),
            {"a.test.conf": b"1", "a.test@.conf": b"2", "x;.conf": b"3", "b.test.conf": big, "c.test.conf": None},
            {"a.test.html": b"4", "a.test": b"5", "b.test.html": page},
        )
    )
    assert found == Extras(
        frozenset({"staff"}),
        {"a.test": b"1"},
        {Place("a.test", "/"): b"2"},
        {"a.test": b"4"},
        found.problems,
    )
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "snippet 'b.test.conf'",
        "snippet 'c.test.conf'",
        "snippet 'x;.conf'",
        "page 'a.test'",
        "page 'b.test.html'",
    ]


def test_places_never_share_a_file():
    """Also where case and marks are all that tells them apart."""
    places = [Place("a.test", path) for path in ("", "/", "/A", "/a", "/a@b", "/a/b", "/(a)", "/" + "p" * 1000)]
    assert len({snippet_file(place).text for place in places}) == len(places)
    assert max(len(snippet_file(place).text) for place in places) < 200


def test_folders_are_read_without_hidden_files(tmp_path):
    for folder, name in [("users", "staff"), ("users", ".swp"), ("snippets", "a.test.conf"), ("pages", "a.test.html")]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("x", encoding="utf-8")
    (tmp_path / "snippets" / "b.test.conf").mkdir()
    found = look(*(str(tmp_path / folder) for folder in ("users", "snippets", "pages")))

    assert found == Extras(frozenset({"staff"}), {"a.test": b"x"}, {}, {"a.test": b"x"})
    assert look("", "", "") == Extras()


BARE = read("nginx version: nginx/1.31.3\nconfigure arguments: --without-http_gzip_module")
MISFITS = [
    ("fits", {}, LEAST, ""),
    ("all fits", {"trusted": ("10.0.0.0/8",), "proxy_protocol": True, "h2c_port": 81}, LEAST, ""),
    ("nobody sends it", {"proxy_protocol": True}, LEAST, "--proxy-protocol: name the balancers that send it"),
    ("no realip", {"trusted": ("10.0.0.0/8",)}, BARE, "--trusted-proxies: nginx 1.31.3 is built without http_realip"),
    ("no HTTP/2", {"h2c_port": 81}, BARE, "--h2c-port: nginx 1.31.3 is built without http_v2"),
    ("one port for two", {"h2c_port": 80}, LEAST, "--h2c-port: it is that of --http-port"),
    ("no folder", {"snippets": "/nonexistent"}, LEAST, "--snippets /nonexistent: no such folder"),
]


@pytest.mark.parametrize(("flags", "can", "why"), [row[1:] for row in MISFITS], ids=[row[0] for row in MISFITS])
def test_flags_that_this_nginx_cannot_follow(flags, can, why):
    problem = misfit(dataclasses.replace(ConfgenSettings(), **flags), can)
    assert problem.startswith(why)
    assert bool(problem) is bool(why)


def test_a_folder_of_users_whose_name_nginx_would_need_quoted(tmp_path):
    odd = tmp_path / "a b"
    odd.mkdir()
    assert misfit(ConfgenSettings(htpasswd=str(odd)), LEAST).startswith("--htpasswd: ")


async def test_what_the_program_can_do_decides(nginx, tmp_path):
    (tmp_path / "nginx").mkdir()
    found = await machine(ConfgenSettings(nginx_bin=str(nginx), h2c_port=81), tmp_path / "nginx", ())
    assert (found.can.version >= (1, 25, 1), found.h2c) == (found.can.http2 == "directive", True)
    with pytest.raises(CannotStart, match="--proxy-protocol"):
        await machine(ConfgenSettings(nginx_bin=str(nginx), proxy_protocol=True), tmp_path / "nginx", ())


async def test_a_program_that_is_not_there_can_do_the_least(tmp_path):
    assert (await machine(ConfgenSettings(nginx_bin="/nonexistent"), tmp_path, ())).can == LEAST
