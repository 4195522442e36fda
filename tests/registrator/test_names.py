"""Names, ids, tags and attributes: the registrator's own vectors, and where we decide otherwise.

Host h at 192.168.0.1, container c. Differences from the original are in docs/decisions/0011-names-and-ports.md.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest

from registrator.rules.naming import default_of, label_of, to_label
from registrator.rules.tags import split_escaped
from tests.registrator.builders import decide, given, reasons

TWO = {"443/tcp": 4443, "80/tcp": 8000}
DNS = {"53/tcp": 5353, "53/udp": 5353}


class Row(NamedTuple):
    """A container and what becomes of it: (name, id, address, port, tags, attrs) of each endpoint."""

    title: str
    container: dict
    expected: list
    flags: Mapping = MappingProxyType({})
    left_out: Mapping = MappingProxyType({})


def one(service, id_, port, tags=(), address="192.168.0.1", **attrs):
    return (service, id_, address, port, tuple(tags), attrs)


VECTORS = [
    Row("one published port", {"ports": {"6379/tcp": 10000}}, [one("redis", "h:c:6379", 10000)]),
    Row(
        "name, tags and an attribute",
        {
            "ports": {"6379/tcp": 10000},
            "env": ["SERVICE_NAME=db", "SERVICE_TAGS=master,backups", "SERVICE_REGION=us2"],
        },
        # The original gives the tags in reverse order, which its own test hides.
        [one("db", "h:c:6379", 10000, ["master", "backups"], region="us2")],
    ),
    Row(
        "two ports get their number behind the default name",
        {"image": "nginx", "ports": TWO},
        [one("nginx-80", "h:c:80", 8000), one("nginx-443", "h:c:443", 4443)],
    ),
    Row(
        "tags of one port",
        {
            "image": "nginx",
            "ports": TWO,
            "env": [
                "SERVICE_443_NAME=https",
                "SERVICE_443_ID=https.12345",
                "SERVICE_443_SNI=enabled",
                "SERVICE_80_NAME=http",
                "SERVICE_TAGS=www",
            ],
        },
        [one("http", "h:c:80", 8000, ["www"]), one("https", "https.12345", 4443, ["www"], sni="enabled")],
    ),
    Row(
        # registrator 7 says web-80 and web-443; compose files of 2014 need the older rule.
        "an explicit name gets no number",
        {"ports": TWO, "env": ["SERVICE_NAME=web"]},
        [one("web", "h:c:80", 8000), one("web", "h:c:443", 4443)],
    ),
    Row(
        "an explicit name, by registrator 7's rule",
        {"ports": TWO, "env": ["SERVICE_NAME=web"]},
        [one("web-80", "h:c:80", 8000), one("web-443", "h:c:443", 4443)],
        flags={"name_suffix": "auto"},
    ),
    Row(
        # registrator 7 says web and web-443.
        "an explicit name, and one for a port",
        {"ports": TWO, "env": ["SERVICE_NAME=web", "SERVICE_80_NAME=web"]},
        [one("web", "h:c:80", 8000), one("web", "h:c:443", 4443)],
    ),
    Row(
        "an explicit name, and one for a port, by registrator 7's rule",
        {"ports": TWO, "env": ["SERVICE_NAME=web", "SERVICE_80_NAME=web"]},
        [one("web", "h:c:80", 8000), one("web-443", "h:c:443", 4443)],
        flags={"name_suffix": "auto"},
    ),
    Row(
        "port beats container, whatever the source",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_80_NAME=a"], "labels": {"SERVICE_NAME": "b"}},
        [one("a", "h:c:80", 8000)],
    ),
    Row(
        "label beats environment, on one port",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_80_NAME=a"], "labels": {"SERVICE_80_NAME": "b"}},
        [one("b", "h:c:80", 8000)],
    ),
    Row(
        "label beats environment, for the container",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_NAME=a"], "labels": {"SERVICE_NAME": "b"}},
        [one("b", "h:c:80", 8000)],
    ),
    Row(
        "two exposed, one published",
        {"image": "nginx", "ports": {"80/tcp": 8000}, "expose": ["443/tcp"]},
        [one("nginx", "h:c:80", 8000)],
        left_out={"443/tcp": "unpublished"},
    ),
    Row(
        "an ignored port does not rename the other",
        {"image": "x", "ports": TWO, "env": ["SERVICE_443_IGNORE=1"]},
        [one("x-80", "h:c:80", 8000)],
        left_out={"443/tcp": "ignored"},
    ),
    Row(
        "an empty IGNORE of a port beats the container's",
        {"image": "x", "ports": TWO, "env": ["SERVICE_IGNORE=true", "SERVICE_80_IGNORE="]},
        [one("x-80", "h:c:80", 8000)],
        left_out={"443/tcp": "ignored"},
    ),
    Row(
        # The original ignores at any value, "false" too.
        "IGNORE=false does not ignore",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IGNORE=false"]},
        [one("redis", "h:c:80", 8000)],
    ),
    Row(
        # Who writes IGNORE wants it hidden, whatever was mistyped.
        "IGNORE that is neither yes nor no",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_IGNORE=please"]},
        [],
        left_out={"80/tcp": "tag"},
    ),
    Row(
        # registrator 7 says dns-53 twice. `dns` is reserved under a domain (SkyDNS has ns.dns and local.dns there):
        # it is registered, and not answered for.
        "tcp and udp of one number",
        {"ports": DNS, "env": ["SERVICE_NAME=dns"]},
        [one("dns", "h:c:53", 5353), one("dns", "h:c:53:udp", 5353, ["udp"])],
    ),
    Row(
        "tcp and udp of one number, by registrator 7's rule",
        {"ports": DNS, "env": ["SERVICE_NAME=dns"]},
        [one("dns-53", "h:c:53", 5353), one("dns-53", "h:c:53:udp", 5353, ["udp"])],
        flags={"name_suffix": "auto"},
    ),
    Row(
        "--internal takes what is exposed",
        {"image": "x", "expose": ["80/tcp", "443/tcp"]},
        [one("x-80", "h:c:80", 80, address="172.17.0.2"), one("x-443", "h:c:443", 443, address="172.17.0.2")],
        flags={"internal": True},
    ),
    Row(
        "nothing published",
        {"image": "x", "expose": ["80/tcp", "443/tcp"]},
        [],
        left_out={"80/tcp": "unpublished", "443/tcp": "unpublished"},
    ),
    Row(
        "the host's network takes what is exposed",
        {"image": "x", "expose": ["80/tcp", "443/tcp"], "mode": "host"},
        [one("x-80", "h:c:80", 80), one("x-443", "h:c:443", 443)],
    ),
    Row(
        "--explicit without NAME",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_REGION=us2"]},
        [],
        flags={"explicit": True},
        left_out={"80/tcp": "explicit"},
    ),
    Row(
        "--explicit with NAME",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_NAME=db"]},
        [one("db", "h:c:80", 8000)],
        flags={"explicit": True},
    ),
    Row(
        "--use-ip-from-label",
        {"ports": {"80/tcp": 8000}, "labels": {"ipaddr": "10.1.2.3/24"}},
        [one("redis", "h:c:80", 8000, address="10.1.2.3")],
        flags={"use_ip_from_label": "ipaddr"},
    ),
    Row(
        "an image with registry, port and digest",
        {"image": "r.io:5000/x/y@sha256:ab12", "ports": {"80/tcp": 8000}},
        [one("y", "h:c:80", 8000)],
    ),
    Row(
        "an escaped comma in TAGS",
        {"ports": {"80/tcp": 8000}, "env": [r"SERVICE_TAGS=foo,bar\,baz"]},
        [one("redis", "h:c:80", 8000, ["foo", "bar,baz"])],
    ),
    Row(
        "--tags come behind TAGS, udp last",
        {"ports": {"80/udp": 8000}, "env": ["SERVICE_TAGS=own,both"]},
        [one("redis", "h:c:80:udp", 8000, ["own", "both", "all", "udp"])],
        flags={"tags": ("both", "all")},
    ),
    Row(
        "--name-suffix always",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_NAME=web"]},
        [one("web-80", "h:c:80", 8000)],
        flags={"name_suffix": "always"},
    ),
    Row(
        "--name-suffix never",
        {"image": "nginx", "ports": TWO},
        [one("nginx", "h:c:80", 8000), one("nginx", "h:c:443", 4443)],
        flags={"name_suffix": "never"},
    ),
    Row(
        "080 is not 80",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_080_NAME=a", "SERVICE_NAME=b"]},
        [one("b", "h:c:80", 8000)],
    ),
    Row(
        "a number alone is an attribute",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_80=x"]},
        [one("redis", "h:c:80", 8000, **{"80": "x"})],
    ),
    Row(
        "keys count in any case, the prefix does not",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_80_name=a", "service_name=b", "SERVICE_Region=c"]},
        [one("a", "h:c:80", 8000, region="c")],
    ),
    Row(
        "an empty NAME is none",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_NAME="]},
        [one("redis", "h:c:80", 8000)],
    ),
    Row(
        "an empty NAME of a port takes the number away",
        {"ports": TWO, "env": ["SERVICE_80_NAME="]},
        [one("redis", "h:c:80", 8000), one("redis-443", "h:c:443", 4443)],
    ),
    Row(
        # Several containers with one SERVICE_ID on all ports overwrote each other's keys.
        "one ID on several ports",
        {"ports": {**TWO, "80/udp": 8000}, "env": ["SERVICE_ID=x", "SERVICE_NAME=web"]},
        [
            one("web", "x:80", 8000),
            one("web", "x:80:udp", 8000, ["udp"]),
            one("web", "x:443", 4443),
        ],
    ),
    Row(
        "one ID on one port is taken whole",
        {"ports": {"53/udp": 5353}, "env": ["SERVICE_ID=x"]},
        [one("redis", "x", 5353, ["udp"])],
    ),
    Row(
        "an ID that is another port's",
        {"ports": TWO, "env": ["SERVICE_80_ID=h:c:443", "SERVICE_NAME=web"]},
        [one("web", "h:c:80", 8000), one("web", "h:c:443", 4443)],
    ),
    Row(
        "ids that leave nothing for the last",
        {
            "ports": {**TWO, "444/tcp": 4444},
            "env": ["SERVICE_80_ID=h:c:443", "SERVICE_443_ID=h:c:444", "SERVICE_NAME=web"],
        },
        [one("web", "h:c:443", 8000), one("web", "h:c:444", 4444)],
        left_out={"443/tcp": "id"},
    ),
    Row(
        "a default name that is none",
        {"image": "-", "ports": {"80/tcp": 8000}},
        [],
        left_out={"80/tcp": "name"},
    ),
    Row(
        "no image at all",
        {"image": "", "ports": {"80/tcp": 8000}},
        [],
        left_out={"80/tcp": "name"},
    ),
    Row(
        "a suffix that makes the name too long",
        {"image": "w" * 62, "ports": TWO},
        [],
        left_out={"80/tcp": "name", "443/tcp": "name"},
    ),
    Row(
        "a compose service",
        {
            "ports": {"80/tcp": 8000},
            "labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
        },
        [one("web.shop", "h:c:80", 8000)],
    ),
    Row(
        "a compose service with several ports",
        {"ports": TWO, "labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web.v2"}},
        [one("web-v2-80.shop", "h:c:80", 8000), one("web-v2-443.shop", "h:c:443", 4443)],
    ),
    Row(
        "a name with dots has its number behind it",
        {"image": "my.app", "ports": TWO},
        [one("my.app-80", "h:c:80", 8000), one("my.app-443", "h:c:443", 4443)],
    ),
    Row(
        "an explicit name merges over projects",
        {
            "ports": {"80/tcp": 8000},
            "env": ["SERVICE_NAME=web"],
            "labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
        },
        [one("web", "h:c:80", 8000)],
    ),
    Row(
        # The original calls all of them "sha256".
        "an image known by its id only",
        {"image": "sha256:" + "ab" * 32, "ports": {"80/tcp": 8000}},
        [one("c", "h:c:80", 8000)],
    ),
    Row(
        "sctp is left out by name, and renames no other",
        {"ports": {"80/tcp": 8000, "9/sctp": 9}},
        [one("redis-80", "h:c:80", 8000)],
        left_out={"9/sctp": "protocol"},
    ),
    Row(
        "the host's network, ports chosen by tags",
        {"mode": "host", "env": ["SERVICE_8080_NAME=api"]},
        [one("api", "h:c:8080", 8080)],
    ),
    Row(
        "a tag for a port that is not there",
        {"ports": {"80/tcp": 8000}, "env": ["SERVICE_8080_NAME=api"]},
        [one("redis", "h:c:80", 8000)],
        left_out={"8080/tcp": "unpublished"},
    ),
]


def made(decided):
    return [
        (
            each.service,
            each.id,
            next(one.ip for one in each.addresses if one.scope == "lan"),
            next(one.port for one in each.addresses if one.scope == "lan"),
            each.tags,
            each.attrs,
        )
        for each in decided.container.endpoints
    ]


@pytest.mark.parametrize("row", VECTORS, ids=lambda row: row.title)
def test_names(row):
    """Each container becomes what its row says, and every port that is left out says by which rule."""
    decided = decide(row.flags, **row.container)

    assert made(decided) == row.expected
    assert reasons(decided) == dict(row.left_out)


SAID = [
    ("no port", {}, {}, "no port is exposed, published or named by a tag"),
    (
        "--use-ip-from-label without the label",
        {"ports": {"80/tcp": 1}},
        {"use_ip_from_label": "ip"},
        "label 'ip' is missing: --use-ip-from-label has no effect",
    ),
    (
        "--use-ip-from-label with no address",
        {"ports": {"80/tcp": 1}, "labels": {"ip": "here/24"}},
        {"use_ip_from_label": "ip"},
        "label 'ip': 'here' is no IP address; --use-ip-from-label has no effect",
    ),
    (
        "an id that is taken",
        {"ports": TWO, "env": ["SERVICE_80_ID=h:c:443"]},
        {},
        "80/tcp: another port has the id 'h:c:443' already; the default is used",
    ),
    (
        "a reserved name",
        {"ports": {"80/tcp": 1}, "env": ["SERVICE_NAME=dns"]},
        {},
        "'dns' is a reserved name, which is not answered for: name it by a DNS tag",
    ),
    (
        "a name that asks to be sorted",
        {"ports": {"80/tcp": 1}, "env": ["SERVICE_NAME=nearest.shop"]},
        {},
        "'nearest.shop' is a reserved name, which is not answered for: name it by a DNS tag",
    ),
]


@pytest.mark.parametrize(("container", "flags", "notice"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
def test_notices(container, flags, notice):
    """What is not as it was asked for is said."""
    assert notice in decide(flags, **container).notices


def test_no_name_says_what_to_do():
    [left] = decide(image="-", ports={"80/tcp": 1}).left_out

    assert left.reason == (
        "'-' is no name: labels of letters, digits, '-' and '_' that begin and end with a letter or digit, joined by "
        "dots; name it with SERVICE_NAME or SERVICE_80_NAME"
    )


ESCAPED = [
    ("nothing", "", ()),
    ("one", "foobar", ("foobar",)),
    ("two", "foo,bar", ("foo", "bar")),
    ("escaped", r"foo\,bar", ("foo,bar",)),
    ("both", r"foo,bar\,baz", ("foo", "bar,baz")),
    ("escaped at the ends", r"\,foobar\,", (",foobar,",)),
    ("empty items", ",,,,foo,,,bar,,,", ("foo", "bar")),
    ("only commas", ",,,,", ()),
    ("an escaped one among them", r",,\,,", (",",)),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in ESCAPED], ids=[row[0] for row in ESCAPED])
def test_escaped_commas(text, expected):
    r"""The nine rows of the original's own test, in the order written."""
    assert split_escaped(text) == expected


LABELS = [
    ("plain", "h1:web:80", "h1-web-80"),
    ("case and colons", "Docker01:Web:80:udp", "docker01-web-80-udp"),
    ("an underscore", "h1:web_1:80", "h1-web-1-80-"),
    ("a dot", "https.12345", "https-12345-"),
    ("63 octets", "h:" + "a" * 58 + ":80", "h-" + "a" * 58 + "-80"),
    ("64 octets", "h:" + "a" * 59 + ":80", "h-" + "a" * 52 + "-"),
    ("ends with a dash", "x-", "x--"),
]


@pytest.mark.parametrize(("given_id", "expected"), [row[1:] for row in LABELS], ids=[row[0] for row in LABELS])
def test_labels(given_id, expected):
    """An id becomes one DNS label; a trailing dash in the row stands for eight digits of a hash behind it."""
    hash_ = hashlib.sha256(given_id.encode()).hexdigest()[:8] if expected.endswith("-") else ""

    assert label_of(given_id) == expected + hash_
    assert len(expected + hash_) <= 63


def test_labels_of_alike_ids_differ():
    """What the characters hide, the hash tells apart."""
    assert label_of("h1:web_1:80") != label_of("h1:web.1:80")


DEFAULTS = [
    ("name and tag", "redis:3", "redis"),
    ("registry with a port", "reg:5000/a/foo:1", "foo"),
    ("digest", "foo@sha256:abcd", "foo"),
    ("tag and digest", "foo:1@sha256:abcd", "foo"),
    ("short id", "0123456789ab", "c"),
    ("id with its algorithm", "sha256:0123456789abcdef", "c"),
]


@pytest.mark.parametrize(("image", "expected"), [row[1:] for row in DEFAULTS], ids=[row[0] for row in DEFAULTS])
def test_default_name(image, expected):
    """The base name of the image; the container's own name where the image has none."""
    assert default_of(given(image=image)).name == expected


def test_to_label_keeps_what_may_stay():
    assert [to_label(text) for text in ("web", "my_app", "_x.y-", "é", "")] == ["web", "my_app", "x-y", "", ""]


ADVICE = {
    "on the bridge": ({}, "or tag it with PROXY or INTERNAL"),
    "on a network of its own": ({"networks": {"lan": "192.168.1.50"}, "mode": "lan"}, "or ROUTABLE where its network"),
}


@pytest.mark.parametrize(("where", "advice"), ADVICE.values(), ids=ADVICE)
def test_what_to_do_about_a_port_that_is_not_published(where, advice):
    """On macvlan nothing is published, and all the same others reach it."""
    [left] = decide(expose=["80/tcp"], env=["SERVICE_NAME=a"], **where).left_out
    assert advice in left.reason
    assert ("ROUTABLE" in left.reason) is ("ROUTABLE" in advice)
