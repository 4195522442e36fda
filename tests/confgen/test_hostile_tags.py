"""Hostile values in every tag of a route, all the way from the tag to the configuration: none leaves its place.

A value is either refused, and then nothing of it is there, or it is printed as one word where a harmless one stands:
the tree of directives is that of a harmless value, and what the neighbours have is the same to the byte.
"""

from __future__ import annotations

import crossplane
import msgspec
import pytest

from confgen.nginx.extras import Extras
from confgen.nginx.policy import Around
from confgen.nginx.view import Views
from pilotfish.catalog import keys
from pilotfish.catalog.record import encode
from pilotfish.catalog.route import places_of
from pilotfish.catalog.store import Entry
from tests.confgen.kit import DOMAIN, Catalog, claim, container, endpoint, put, tree_of
from tests.confgen.test_render import PLAIN
from tests.registrator.builders import decide

BREAKS = frozenset(";{}\"'\\$#`|<>\n\r\0")  # no value that holds one of these has any effect
# What breaks out of a word, a quote, a directive, a block, a file or a template; what nginx, shells, terminals act on.
FRAGMENTS = [
    *";{}\"'\\$#`|&<>()[]*?!%^~,=:@+ \t\n\r\v\f\0\x1b\x7f",
    *("\\;", "${host}", "$(id)", "$remote_user", "{{7*7}}", "{% raw %}", "{#", "#}", "\r\n", ";}", "};", "}\n}"),
    *(";\n", "\n#", "; include /etc/passwd;", "; return 1;", "} server { listen 1;", '"; deny all; "', "'; allow all;"),
    *("/../", "..", "//", "%0a", "%00", "%24", "\u2028", "\u2029", "\u0085", "\u00a0", "\u202e", "\ufeff", "\ufffd"),
    *("\u00e9", "\u00df", "\u0130", "\u0661", "\uff1b", "\uff5b", "\U0001d7cf", "\U0001f600", "\ud7ff", "unix:/tmp/x"),
    *("~^(a+)+$", "0x10", "1e9", "-1", "00", "1_0", "A" * 300, "9" * 300, "a." * 200, "/a" * 600, "10.0.0.0/8," * 300),
]  # fmt: skip

# Tag -> a harmless value. Each fragment is put in front of, behind, inside and in the place of it, and between commas.
TAGS = {
    "PROXY": "http",
    "PROXY_BACKEND": "https",
    "PROXY_HOST": "www.example.com",
    "PROXY_PATH": "/shop",
    "PROXY_STRIP": "yes",
    "PROXY_DEST": "/shop",
    "PROXYDNS": "shop",
    "PROXY_STICKY": "yes",
    "PROXY_TIMEOUT": "5m",
    "PROXY_BODY": "10m",
    "PROXY_AUTH": "staff",
    "PROXY_ALLOW": "10.0.0.0/8",
    "PROXY_RATE": "10/s,burst=20,connections=5",
    "PROXY_REDIRECT": "301:https://www.example.com/new",
    "PROXY_COMPRESS": "yes",
    "PROXY_SECURITY": "yes",
    "PROXY_MAINTENANCE": "yes",
    "WEIGHT": "7",
    "VERSION": "v1",
}


BESIDE = {"PROXY_DEST": {"80_PROXY_PATH": "/p"}}  # what a tag goes with


def variants(good):
    middle = len(good) // 2
    for fragment in FRAGMENTS:
        yield from (fragment + good, good + fragment, good[:middle] + fragment + good[middle:], fragment)
        yield from (f"{good},{fragment}", f"{fragment},{good}")


CORPUS = {tag: sorted(set(variants(good))) for tag, good in TAGS.items()}


class Door:
    """What a tag makes of the configuration, remembered by the record that it leads to."""

    def __init__(self):
        self._known = {}

    def through(self, tag, value):
        """The route as the record has it, and the tree."""
        tags = {"NAME": "web", "80_PROXY": "http", f"80_{tag}": value, **BESIDE.get(tag, {})}
        return self.of(f"SERVICE_{name}={text}" for name, text in tags.items())

    def of(self, env):
        """The same of an environment."""
        decided = decide(ports={"80/tcp": 8000}, env=env)
        record = encode(decided.container)
        plain = encode(msgspec.structs.replace(decided.container, observed=0.0))
        if plain not in self._known:
            self._known[plain] = self._tree(decided.container, record)
        return decided, self._known[plain]

    @staticmethod
    def _tree(record, text):
        catalog = Catalog(node=record.node)
        around = Around(htpasswd="/srv/users", extras=Extras(users=frozenset({"staff"})))
        catalog.views = Views(msgspec.structs.replace(catalog.views._settings, around=around))
        entries = [Entry(keys.container_key(record.node, record.id), text, 1, 1)]
        for one in record.endpoints:
            if one.route is not None:
                entries += [claim("web", *place) for place in places_of(one.route, "web", one.proxydns, (DOMAIN,))]
        entries += [put(container("neighbour", endpoint("neighbour"))), claim("neighbour", f"neighbour.{DOMAIN}")]
        catalog.feed(*entries)
        return tree_of(catalog)


def shape(tmp, tree):
    """Every file of the tree with its directives."""
    found = {}
    for name, text in tree.files.items():
        tmp.write_bytes(text)
        payload = crossplane.parse(str(tmp), single=True, strict=False, check_ctx=False, check_args=False)
        assert payload["status"] == "ok", payload["errors"]
        found[name] = skeleton(payload["config"][0]["parsed"])
    return found


def skeleton(directives):
    """Which directives stand in which, with how many words each; how many alike stand in a row does not count."""
    found = []
    for one in directives:
        words = 1 if one["directive"] == "server_name" else len(one["args"])
        form = (one["directive"], words, skeleton(one["block"]) if "block" in one else None)
        if not found or found[-1] != form:
            found.append(form)
    return tuple(found)


def is_clean(tree, plain):
    """What stands beside the service is as in a plain tree, and nothing is there that acts on terminals."""
    assert all(tree.files[name] == plain.files[name] for name in ("services/neighbour.conf", "nginx.conf"))
    for text in tree.files.values():
        assert text.isascii()
        assert not any(char < 32 and char != 10 for char in text)


# One of these shapes has what is printed for a value that is not refused.
SHAPES = {
    "PROXY": ["https", "grpc"],
    "PROXY_BACKEND": ["http", "grpc", "grpcs"],
    "PROXY_HOST": ["www"],
    "PROXY_PATH": ["/", "/shop/"],
    "PROXY_STRIP": ["no"],
    "PROXY_DEST": ["/"],
    "PROXY_STICKY": ["no"],
    "PROXY_BODY": ["0"],
    "PROXY_AUTH": ["other"],
    "PROXY_RATE": ["10/s", "10/s,burst=0", "connections=5", "10/s,burst=0,connections=5", "10/s,connections=5"],
    "PROXY_REDIRECT": ["www.example.com", "https://www.example.com"],
    "PROXY_COMPRESS": ["no"],
    "PROXY_SECURITY": ["no"],
    "PROXY_MAINTENANCE": ["no"],
    "WEIGHT": ["0"],
}  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_no_value_of_a_tag_leaves_its_place(tag, tmp_path):
    """Several hundred values each: none reaches nginx raw, and the neighbours do not see any."""
    door, tmp = Door(), tmp_path / "x.conf"
    refused = door.through("PROXY", "none of ours")[1]
    without = refused if tag.startswith("PROXY") else door.through(tag, "")[1]
    harmless = [shape(tmp, door.through(tag, value)[1]) for value in (TAGS[tag], *SHAPES.get(tag, ()))]
    allowed, seen, passed = [*harmless, shape(tmp, refused)], {}, 0
    assert len(CORPUS[tag]) > 300
    for value in CORPUS[tag]:
        decided, tree = door.through(tag, value)
        if id(tree) not in seen:
            assert shape(tmp, tree) in allowed, value
            is_clean(tree, refused)
            seen[id(tree)] = tree
        passed += decided.container.endpoints[0].route is not None
        if any(set(part.strip()) & BREAKS or not part.strip().isascii() for part in value.split(",")):
            assert tree.files == without.files, value
    assert passed > 0  # the door is not simply shut


def test_the_corpus_is_large():
    assert sum(map(len, CORPUS.values())) > 5000


# A record that somebody wrote past the tags.

RAW = [
    *(*FRAGMENTS, "a", 0, 1, -1, 1e300, 2**70, None, True, [], {}),
    *(["x;"], ["10.0.0.1/8"], ["10.0.0.0/33"], ["fd00::/129"], ["::/0"]),
]
# Field of the options -> whether anything of the above is fit for it and lets the route be served.
FIELDS = {
    "sticky": True, "timeout_s": True, "body": True, "auth": False, "allow": True, "rate": True, "redirect": True,
    "compress": True, "security": True, "maintenance": True, "unknown": True,
}  # fmt: skip
NESTED = {
    "allow": lambda value: [value],
    "rate": lambda value: {"requests": value, "burst": value},
    "redirect": lambda value: {"host": value},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_record_written_past_the_tags_costs_only_itself(field):
    """It is refused when it is decoded, or prints what a tag could have asked for; the neighbour stays the same."""
    innocent = PLAIN.files["services/neighbour.conf"]
    read = 0
    for value in RAW:
        for given in (value, NESTED.get(field, lambda same: same)(value)):
            record = msgspec.to_builtins(container("web", endpoint("web")))
            record["endpoints"][0]["route"]["options"] = {field: given}
            catalog = Catalog()
            catalog.feed(
                Entry(keys.container_key("h1", container("web").id), msgspec.json.encode(record), 1, 1),
                claim("web", f"web.{DOMAIN}"),
                put(container("neighbour", endpoint("neighbour"))),
                claim("neighbour", f"neighbour.{DOMAIN}"),
            )
            tree = tree_of(catalog)
            assert tree.files["services/neighbour.conf"] == innocent
            raw = [text for text in tree.files.values() if not text.isascii() or b"passwd" in text]
            assert raw == []
            read += bool(catalog.places()[f"web.{DOMAIN}/"][1])
    assert (read > 0) is FIELDS[field]
