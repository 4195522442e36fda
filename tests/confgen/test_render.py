"""What is rendered: stable, only anew where something changed, and of one shape whatever the records hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import quote

import crossplane
import msgspec
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from confgen.applying.io_files import Folder
from confgen.nginx.render import GENERATION_FILE, Renderer, RenderFailed, builtin_templates
from pilotfish.catalog import keys
from pilotfish.catalog.record import encode
from pilotfish.catalog.route import Place
from pilotfish.catalog.store import Entry
from tests.confgen.kit import DOMAIN, Catalog, claim, container, endpoint, machine, put, tree_of
from tests.confgen.test_quote import PAYLOADS
from tests.parts.ports import free_port

WEB, NEIGHBOUR = f"web.{DOMAIN}", f"neighbour.{DOMAIN}"


def catalog_of(*names):
    catalog = Catalog()
    catalog.feed(
        *(put(container(name, endpoint(name))) for name in names), *(claim(name, f"{name}.{DOMAIN}") for name in names)
    )
    return catalog


def test_equal_catalogs_give_equal_bytes_in_any_order():
    one, other = catalog_of("a", "b", "c"), catalog_of("c", "b", "a")
    assert tree_of(one).files == tree_of(other).files
    assert tree_of(one).generation == tree_of(other).generation


def test_the_generation_names_every_byte_but_its_own_file():
    tree, other = tree_of(catalog_of("a")), tree_of(catalog_of("a"), port=8081)
    assert tree.generation != other.generation
    assert tree.files[GENERATION_FILE] == f'return 200 "{tree.generation} $pid\\n";\n'.encode()


def test_every_directive_has_its_reason_in_the_docs():
    """By its whole name, in backticks; `default` and the like in a map are no directives."""
    page = (Path(__file__).parents[2] / "docs/nginx.md").read_text(encoding="utf-8")
    explained = {word for quoted in re.findall(r"`([^`]+)`", page) for word in re.findall(r"[a-z0-9_]+", quoted)}
    text = b"\n".join(tree_of(catalog_of("a", "b")).files.values()).decode()
    written = set(re.findall(r"^\s*([a-z][a-z0-9_]+) .*[;{]$", text, re.MULTILINE))
    assert "proxy_next_upstream_tries" in written
    assert written - explained <= {"http", "server", "location", "map", "default", "upstream", "server_name"}


def test_only_what_was_touched_is_rendered_again():
    catalog = catalog_of("a", "b")
    renderer = Renderer(machine(), builtin_templates())
    first = renderer.render(catalog.views.services, {"a", "b"}, 2, 10)
    changed = catalog.feed(put(container("b", endpoint("b", weight=3))))
    second = renderer.render(catalog.views.services, changed, 2, 10)
    assert second.files["services/a.conf"] is first.files["services/a.conf"]
    assert b"weight=3 " in second.files["services/b.conf"]


def test_a_service_that_goes_takes_its_files_with_it():
    catalog = catalog_of("a", "b")
    renderer = Renderer(machine(), builtin_templates())
    renderer.render(catalog.views.services, {"a", "b"}, 2, 10)
    changed = catalog.feed(deletes=[claim("b", f"b.{DOMAIN}").key, keys.container_key("h1", container("b").id)])
    assert "services/b.conf" not in renderer.render(catalog.views.services, changed, 1, 10).files


BROKEN = [
    ("syntax", "{% for %}", "template service.conf.j2"),
    ("undefined name", "{{ nobody }}", "template service.conf.j2"),
    ("undefined attribute", "{{ service.nobody }}", "template service.conf.j2"),
    ("bare string", "{{ service.name }}", "which is no token"),
    ("glued string", "{{ service.file ~ 'x' }}", "which is no token"),
    ("way out of the sandbox", "{{ service.__class__.__mro__ }}", "template service.conf.j2"),
    ("missing part", '{% include "nobody.j2" %}', "nobody.j2"),
]


@pytest.mark.parametrize(("text", "reason"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_broken_template_is_named_and_nothing_is_rendered(text, reason):
    catalog = catalog_of("a")
    with pytest.raises(RenderFailed, match=reason):
        tree_of(catalog, templates=builtin_templates() | {"service.conf.j2": text})


# Hostile values: what a record of someone who may write to the store, or a tag that slipped through, could hold.

FIELDS = {
    "container id": lambda record, value: record.update(id=value),
    "container name": lambda record, value: record.update(name=value),
    "container node": lambda record, value: record.update(node=value),
    "image": lambda record, value: record.update(image=value),
    "project": lambda record, value: record.update(project=value),
    "service": lambda record, value: record["endpoints"][0].update(service=value),
    "endpoint id": lambda record, value: record["endpoints"][0].update(id=value),
    "label": lambda record, value: record["endpoints"][0].update(label=value),
    "ip": lambda record, value: record["endpoints"][0]["addresses"][0].update(ip=value),
    "port": lambda record, value: record["endpoints"][0]["addresses"][0].update(port=value),
    "scope": lambda record, value: record["endpoints"][0]["addresses"][0].update(scope=value),
    "weight": lambda record, value: record["endpoints"][0].update(weight=value),
    "proxydns": lambda record, value: record["endpoints"][0].update(proxydns=[value]),
    "tags": lambda record, value: record["endpoints"][0].update(tags=[value]),
    "attribute": lambda record, value: record["endpoints"][0].update(attrs={"x": value}),
    "attribute name": lambda record, value: record["endpoints"][0].update(attrs={value: "x"}),
    "version": lambda record, value: record["endpoints"][0].update(version=value),
    "scheme": lambda record, value: record["endpoints"][0]["route"].update(scheme=value),
    "host": lambda record, value: record["endpoints"][0]["route"].update(hosts=[value]),
    "path": lambda record, value: record["endpoints"][0]["route"].update(path=value),
    "backend": lambda record, value: record["endpoints"][0]["route"].update(backend=value),
    "strip": lambda record, value: record["endpoints"][0]["route"].update(strip=value),
    "dest": lambda record, value: record["endpoints"][0]["route"].update(strip=True, dest=value),
}


def hostile(fields, owner="web", host=WEB, path="/"):
    """The tree of a catalog with one doctored record, one doctored claim, and an innocent neighbour."""
    catalog = catalog_of("neighbour")
    record = msgspec.to_builtins(container("web", endpoint("web")))
    for field, value in fields.items():
        FIELDS[field](record, value)
    key = keys.container_key("h1", container("web").id)
    asked = [claim("web", WEB)]
    route = record["endpoints"][0]["route"]
    for wanted in [*route.get("hosts", ()), f"{record['endpoints'][0]['service']}.{DOMAIN}", host]:
        text = msgspec.json.encode({"format": 1, "service": owner, "since": 1.0})
        asked.append(Entry(f"{keys.CLAIMS}{wanted}/{quote(str(route.get('path', path)), safe='')}", text, 1, 1))
    catalog.feed(Entry(key, msgspec.json.encode(record), 1, 1), *asked)
    return tree_of(catalog)


def skeleton(text):
    """Which directives stand in which, without what they say; how many of the same stand in a row does not count."""
    found = []
    for directive in text:
        shape = (directive["directive"], skeleton(directive["block"]) if "block" in directive else None)
        if not found or found[-1] != shape:
            found.append(shape)
    return tuple(found)


def parsed(tmp, text):
    tmp.write_bytes(text)
    payload = crossplane.parse(str(tmp), single=True, strict=False, check_ctx=False, check_args=False)
    assert payload["status"] == "ok", payload["errors"]
    return payload["config"][0]["parsed"]


def blocks(directives):
    return {(one["directive"], skeleton(one["block"])) for one in directives}


@pytest.fixture(scope="module")
def benign(tmp_path_factory):
    """Every shape that honest records give: served and not, alone and shared, whole host and path, stripped and not."""
    tmp = tmp_path_factory.mktemp("shapes") / "x.conf"
    catalog = Catalog()
    catalog.feed(
        put(container("one", endpoint("one"), endpoint("two"), endpoint("two", 81))),
        put(container("p", endpoint("p", path="/p"), endpoint("s", path="/s", strip=True), endpoint("t", path="/t/"))),
        put(container("u", endpoint("u", path="/u/", strip=True))),
        put(container("v", endpoint("v", 80, proxydns=("v", "w")), endpoint("v", 81, proxydns=("w",)))),
        put(container("d", endpoint("d", path="/d", state="draining"), endpoint("e", path="/e/", state="draining"))),
        *(claim(name, f"{name}.{DOMAIN}") for name in ("one", "two", "gone", "v", "w")),
        *(claim(name, f"{name}.{DOMAIN}", f"/{name}") for name in ("p", "s", "d")),
        *(claim(name, f"{name}.{DOMAIN}", f"/{name}/") for name in ("t", "u", "e")),
    )
    tree = tree_of(catalog)
    shapes = set()
    for name, text in tree.files.items():
        if name.startswith("services/"):
            shapes |= blocks(parsed(tmp, text))
    return shapes


PLAIN = tree_of(catalog_of("neighbour"))


def assert_harmless(tree, benign, tmp):
    plain = PLAIN
    assert tree.files["services/neighbour.conf"] == plain.files["services/neighbour.conf"]
    assert tree.files["unknown.conf"] == plain.files["unknown.conf"]
    main, plain_main = (parsed(tmp, one.files["nginx.conf"]) for one in (tree, plain))
    assert skeleton(main) == skeleton(plain_main)
    for name, text in tree.files.items():
        if name.startswith("services/"):
            assert blocks(parsed(tmp, text)) <= benign, text.decode()
        assert text.isascii()
        assert not any(char < 32 and char != 10 for char in text)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_value_changes_nothing_but_its_own_words(benign, tmp_path, field, payload):
    assert_harmless(hostile({field: PAYLOADS[payload]}), benign, tmp_path / "x.conf")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_claim_changes_nothing_but_its_own_words(benign, tmp_path, payload):
    text = PAYLOADS[payload]
    for tree in (
        hostile({}, owner=text),
        hostile({}, host=text),
        hostile({}, path=f"/{text}"),
        hostile({}, text, text, text),
    ):
        assert_harmless(tree, benign, tmp_path / "x.conf")


NASTY = st.text(alphabet=st.sampled_from(list("ab.-_*/~^$;{}#'\"\\ \n\t\0%`|&<>:[]()@1é\u2028"))) | st.sampled_from(
    [*PAYLOADS.values(), "*.a", "a.b", "/a", "/a/", "fd00::1", "10.0.0.1", 0, 1, 65536, -1, 1e9, None, True, [], {}]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    fields=st.dictionaries(st.sampled_from(sorted(FIELDS)), NASTY, max_size=4),
    claimed=st.tuples(NASTY.map(str), NASTY.map(str), NASTY.map(str)),
)
def test_no_mixture_of_hostile_values_changes_the_shape(benign, tmp_path, fields, claimed):
    try:
        tree = hostile(fields, *claimed)
    except (TypeError, UnicodeEncodeError):  # it cannot even be written down as JSON
        reject()
    assert_harmless(tree, benign, tmp_path / "x.conf")


def test_the_corpus_is_not_refused_wholesale(benign, tmp_path):
    """The harness itself works: an honest record through the same door is served."""
    tree = hostile({"host": "www.example.com", "path": "/shop", "weight": 7})
    text = tree.files["services/web.conf"].decode()
    assert "server_name www.example.com;" in text
    assert "location = /shop {" in text
    assert "weight=7 " in text
    assert_harmless(tree, benign, tmp_path / "x.conf")


def test_a_claim_for_a_place_survives_its_key():
    place = Place("a.test", "/x,(y)")
    assert keys.parse(claim("web", *place).key).place == place
    assert encode(container("a"))


def test_values_that_are_odd_but_allowed_are_accepted_by_nginx(nginx, folder):
    """What passes our types, nginx takes: otherwise one such container would hold up everybody's changes."""
    odd_paths = [
        "/a=b",
        "/~x",
        "/(a)",
        "/*",
        "/@",
        "/a,b",
        "/!&+:",
        "/.hidden",
        "/" + "p" * 1023,
        "/a//"[:3],
        "/if",
        "/end/",
    ]
    odd_hosts = [
        "*.test",
        "a_b.test",
        "1.test",
        "xn--bcher-kva.test",
        "a--b.test",
        f"{'l' * 63}.test",
        "default",
    ]
    catalog = Catalog(domains=("test",))
    for turn, path in enumerate(odd_paths):
        catalog.feed(
            put(container(f"p{turn}", endpoint(f"p{turn}", path=path, strip=bool(turn % 2), weight=65535))),
            claim(f"p{turn}", f"p{turn}.test", path),
        )
    for turn, host in enumerate(odd_hosts):
        catalog.feed(put(container(f"h{turn}", endpoint(f"h{turn}", hosts=(host,)))))
        catalog.feed(claim(f"h{turn}", host if "." in host else f"{host}.test"))
    catalog.feed(put(container("six", endpoint("six", ip="fd00::1"), endpoint("six", 81, ip="::ffff:10.0.0.1"))))
    catalog.feed(claim("six", "six.test"))
    assert not [view.notes for view in catalog.views.services.values() if view.notes]
    opened = Folder(folder, keep=1)
    opened.open()
    tree = tree_of(catalog, folder, free_port(), ipv6=True, reserved=("console.test",))
    opened.stage(tree)
    config = opened.config(tree.generation)
    said = subprocess.run(
        [str(nginx), "-p", f"{folder}/", "-e", "stderr", "-t", "-c", str(config)],
        check=False,
        capture_output=True,
        text=True,
    )
    opened.close()
    assert said.stderr.splitlines() == [
        f"nginx: the configuration file {config} syntax is ok",
        f"nginx: configuration file {config} test is successful",
    ]
