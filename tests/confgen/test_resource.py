"""Template resources: what is read out of them, what is refused and how, and what files they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confgen.resources import resource
from confgen.resources.io_keys import folders
from confgen.resources.keyspace import under
from confgen.resources.resource import BadResource, Item, Resource, Wait

LEAST = '[template]\nsrc = "a.tmpl"\ndest = "/etc/a"\n'


def read(more="", **given):
    return resource.parse("a.toml", LEAST + more, **given)


READ = [
    ("least", "", {"src": "a.tmpl", "dest": "/etc/a", "keys": (), "prefix": "/", "mode": None}),
    ("keys", 'keys = ["/a", "b"]', {"keys": ("/a", "b")}),
    ("prefix", 'prefix = "reg/"', {"prefix": "/reg/"}),
    ("mode", 'mode = "0640"', {"mode": 0o640}),
    ("mode without a zero", 'mode = "640"', {"mode": 0o640}),
    ("mode as Python writes it", 'mode = "0o640"', {"mode": 0o640}),
    ("setuid", 'mode = "04755"', {"mode": 0o4755}),
    ("numbers of owners", "uid = 0\ngid = 33", {"uid": 0, "gid": 33}),
    ("not given, in confd's words", "uid = -1\ngid = -1", {"uid": None, "gid": None}),
    ("names of owners", 'owner = "www-data"\ngroup = "adm"', {"owner": "www-data", "group": "adm"}),
    ("commands", 'check_cmd = "a {{.src}}"\nreload_cmd = "b"', {"check_cmd": "a {{.src}}", "reload_cmd": "b"}),
    ("commands without a shell", 'reload_cmd = ["nginx", "-s", "reload"]', {"reload_cmd": ("nginx", "-s", "reload")}),
    ("empty command", 'check_cmd = ""', {"check_cmd": None}),
    ("timeout", 'timeout = "30s"', {"timeout_s": 30.0}),
    ("timeout as a number", "timeout = 5", {"timeout_s": 5.0}),
    ("wait", 'wait = "500ms:2s"', {"wait": Wait(0.5, 2.0)}),
    ("wait, one time", 'wait = "1s"', {"wait": Wait(1.0, 4.0)}),
    ("capitals", 'Keys = ["/a"]\nReload_Cmd = "x"', {"keys": ("/a",), "reload_cmd": "x"}),
]


@pytest.mark.parametrize(("more", "expected"), [row[1:] for row in READ], ids=[row[0] for row in READ])
def test_what_is_read(more, expected):
    found = read(more)

    assert {name: getattr(found, name) for name in expected} == expected
    assert found.notices == ()


REFUSED = [
    ("no TOML", "[template", "a.toml: "),
    ("no table", 'src = "a"', "no table [template]"),
    ("no src", '[template]\ndest = "/a"', "src is missing"),
    ("no dest", '[template]\nsrc = "a"', "dest is missing"),
    ("both", "[template]\n", "src is missing; dest is missing"),
    ("keys is text", LEAST + 'keys = "/a"', "keys must be a list"),
    ("keys of numbers", LEAST + "keys = [1]", "keys must be a list"),
    ("mode is a number", LEAST + "mode = 644", "mode: must be octal"),
    ("mode is none", LEAST + 'mode = "rw"', "mode: must be octal"),
    ("mode with an eight", LEAST + 'mode = "0848"', "mode: must be octal"),
    ("uid is a name", LEAST + 'uid = "nginx"', "a name goes into owner"),
    ("uid below zero", LEAST + "uid = -2", "uid must be a number"),
    ("uid is true", LEAST + "uid = true", "uid must be a number"),
    ("command is a number", LEAST + "check_cmd = 1", "check_cmd must be text"),
    ("command is an empty list", LEAST + "check_cmd = []", "check_cmd must be text"),
    ("check is no template", LEAST + 'check_cmd = "nginx {{.src"', "check_cmd"),
    ("timeout", LEAST + 'timeout = "soon"', "timeout: "),
    ("timeout of nothing", LEAST + 'timeout = "0s"', "timeout: "),
    ("wait", LEAST + 'wait = "2s:1s"', "the longest wait is shorter"),
    ("dest is a template", '[template]\nsrc = "a"\ndest = "/a/{{.name}}"', "needs for_each"),
    ("for_each into one file", LEAST + 'for_each = "/a/*"', "must have {{.name}}"),
    ("for_each in a folder", '[template]\nsrc="a"\ndest="/{{.name}}/{{.name}}"\nfor_each="/a/*"', "last part only"),
    ("for_each with a key in dest", '[template]\nsrc="a"\ndest="/a/{{.key}}"\nfor_each="/a/*"', "of several parts"),
    ("for_each without a slash", '[template]\nsrc="a"\ndest="/{{.name}}"\nfor_each="a/*"', "begin with a slash"),
    ("for_each is no pattern", '[template]\nsrc="a"\ndest="/{{.name}}"\nfor_each="/[]a]"', "syntax error in pattern"),
    ("a NUL in dest", '[template]\nsrc = "a"\ndest = "/a\\u0000b"', "without control characters"),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused(text, said):
    with pytest.raises(BadResource) as caught:
        resource.parse("a.toml", text)

    assert str(caught.value).startswith("a.toml: ")
    assert said in str(caught.value)


def test_a_src_with_a_slash_in_front_stands_below_templates_too():
    assert resource.parse("a.toml", '[template]\nsrc = "//t/a.tmpl"\ndest = "/etc/a"').src == "t/a.tmpl"


def test_unknown_keys_are_told_and_harm_nothing():
    assert read('chek_cmd = "x"\n').notices == ("'chek_cmd' is not known and has no effect; is check_cmd meant?",)


PREFIXES = [
    ("own", "/reg", "", False, "/reg"),
    ("of all", "", "/prod", False, "/prod"),
    ("of all replaces", "/reg", "/prod", False, "/prod"),
    ("joined", "/reg", "/prod", True, "/prod/reg"),
    ("none", "", "", True, "/"),
]


@pytest.mark.parametrize(
    ("own", "whole", "joins", "expected"), [row[1:] for row in PREFIXES], ids=[row[0] for row in PREFIXES]
)
def test_prefixes(own, whole, joins, expected):
    assert read(f'prefix = "{own}"\n', prefix=whole, joins=joins).prefix == expected


SITES = Resource(name="s.toml", src="s", dest="/etc/{{.name}}.conf", keys=("/",), for_each="/proxy/*")


def test_items_are_keys_and_folders():
    keys = ["/proxy/a/1", "/proxy/a/2", "/proxy/b", "/other/c", "/proxyx/d/1"]

    found, left_out = resource.items(SITES, keys)

    assert found == [Item("/proxy/a", "a"), Item("/proxy/b", "b")]
    assert [resource.destination(SITES, item) for item in found] == ["/etc/a.conf", "/etc/b.conf"]
    assert left_out == []


@pytest.mark.parametrize("name", ["..", ".x", "a b", "a;b", "$x", "-rf", "a\nb", "x" * 300, "", "`id`", "a'b"])
def test_names_that_cannot_be_a_file_are_left_out(name):
    found, left_out = resource.items(SITES, [f"/proxy/{name}/1", "/proxy/good/1"])

    assert found == [Item("/proxy/good", "good")]
    assert len(left_out) == 1


def test_no_part_of_a_key_can_be_anything_else():
    """`{{.key}}` may stand in a command, so its other parts are looked at too."""
    one = Resource(name="s.toml", src="s", dest="/etc/{{.name}}", keys=("/",), for_each="/a/*/x")

    found, left_out = resource.items(one, ["/a/$(id)/x", "/a/b/x"])

    assert (found, len(left_out)) == ([Item("/a/b/x", "x")], 1)


COMMANDS = [
    ("check", "check_cmd", "nginx -t -c {{.src}} # {{ .dest }}", "nginx -t -c /s # /d"),
    ("reload", "reload_cmd", "kill {{.dest}} {{ .src }}", "kill /d /d"),
    ("braces of others", "reload_cmd", "docker inspect -f '{{.State.Pid}}' x", "docker inspect -f '{{.State.Pid}}' x"),
    ("words", "check_cmd", ("t", "{{.src}}"), ("t", "/s")),
    ("none", "reload_cmd", None, None),
]


@pytest.mark.parametrize(
    ("key", "command", "expected"), [row[1:] for row in COMMANDS], ids=[row[0] for row in COMMANDS]
)
def test_commands(key, command, expected):
    one = Resource(name="a", src="a", dest="/d", **{key: command})
    made = resource.checked(one, "/s", "/d", Item()) if key == "check_cmd" else resource.reloading(one, "/d", Item())

    assert made == expected


PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PATHS, max_size=6))
def test_what_is_followed_covers_everything(paths):
    """Every path stands under just one that is read, and under what is followed in the store."""
    covered = resource.covering(paths)

    assert all(sum(under(path, other) for other in covered) == 1 for path in paths)
    assert all(any((path + "/").startswith(prefix) for prefix in folders(paths)) for path in paths)


VALUES = st.recursive(
    st.text(max_size=5) | st.integers() | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else "x" for char in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return "inf" if value in (float("inf"), float("-inf")) else repr(value)


@given(st.dictionaries(st.sampled_from([*resource.KNOWN, "other"]), VALUES, max_size=6))
def test_any_table(table):
    """Whatever stands in the file, it is read or refused with a message that names the file."""
    text = "[template]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
    try:
        found = resource.parse("a.toml", text)
    except BadResource as error:
        outcome = str(error)
    else:
        outcome = f"a.toml: {found.src}"

    assert outcome.startswith("a.toml: ")


@given(st.text())
def test_any_text(text):
    try:
        resource.parse("a.toml", text)
    except BadResource:
        return
