"""`inspect`: the JSON that tools read, and the text that people read."""

import json

import pytest

from pilotfish.catalog.settings import BadSettings
from registrator.explaining.inspect import finder, inspect, report
from registrator.rules.address import Host
from registrator.settings import RegistratorSettings
from tests.registrator.builders import ID, IP, document, given

HOST = Host("Docker01", (IP,))
PROXIED = '{"host":"proxy.svc.internal","port":80,"pilotfish":"Docker01"}'
BOUND = "it is published on the host; bound to 0.0.0.0:{}; 192.168.0.1 is this host's"
UNPUBLISHED = "exposed, but not published on the host: publish it, or tag it with PROXY or INTERNAL"
ESTEST = document(
    name="estest_1",
    image="elasticsearch",
    ports={"9200/tcp": 49153, "9300/tcp": 49154},
    expose=["9400/tcp"],
    env=[
        "SERVICE_NAME=estest",
        "SERVICE_9200_PROXY=http",
        "SERVICE_9200_PROXYDNS=estest",
        "SERVICE_REGION=us2",
        "SERVICE_TAGS=a",
    ],
)


def run(*documents, **flags):
    return inspect(list(documents), HOST, RegistratorSettings(**flags))


def test_shape():
    """The whole result for one container, as tools rely on it."""
    assert run(ESTEST) == {
        "containers": [
            {
                "id": ID,
                "name": "estest_1",
                "endpoints": [
                    {
                        "service": "estest",
                        "id": "Docker01:estest_1:9200",
                        "label": "docker01-estest-1-9200-69ebcdb4",
                        "address": IP,
                        "addresses": [
                            {"ip": IP, "port": 49153, "scope": "lan"},
                            {"ip": "172.17.0.2", "port": 9200, "scope": "node"},
                        ],
                        "port": 49153,
                        "protocol": "tcp",
                        "container_port": "9200/tcp",
                        "tags": ["a"],
                        "attrs": {"region": "us2"},
                        "weight": 100,
                        "exports": {
                            "/reg/all/estest/Docker01:estest_1:9200": f"{IP}:49153",
                            "/reg/proxy/http/estest/Docker01:estest_1:9200": f"{IP}:49153",
                            "/skydns/internal/svc/estest/docker01-estest-1-9200-69ebcdb4": PROXIED,
                        },
                        "why": [
                            {"about": "service", "rule": "tag", "reason": "SERVICE_NAME='estest' (env)"},
                            {"about": "id", "rule": "default", "reason": "node:container:port"},
                            {"about": "address", "rule": "published", "reason": BOUND.format(49153)},
                            {
                                "about": "names",
                                "rule": "service",
                                "reason": "no DNS tag: the service's name finds it",
                            },
                            {"about": "route", "rule": "tag", "reason": "SERVICE_9200_PROXY='http' (env)"},
                            {"about": "proxydns", "rule": "tag", "reason": "SERVICE_9200_PROXYDNS='estest' (env)"},
                            {"about": "tags", "rule": "tag", "reason": "SERVICE_TAGS='a' (env)"},
                        ],
                    },
                    {
                        "service": "estest",
                        "id": "Docker01:estest_1:9300",
                        "label": "docker01-estest-1-9300-d84d179e",
                        "address": IP,
                        "addresses": [
                            {"ip": IP, "port": 49154, "scope": "lan"},
                            {"ip": "172.17.0.2", "port": 9300, "scope": "node"},
                        ],
                        "port": 49154,
                        "protocol": "tcp",
                        "container_port": "9300/tcp",
                        "tags": ["a"],
                        "attrs": {"region": "us2"},
                        "weight": 100,
                        "exports": {"/reg/all/estest/Docker01:estest_1:9300": f"{IP}:49154"},
                        "why": [
                            {"about": "service", "rule": "tag", "reason": "SERVICE_NAME='estest' (env)"},
                            {"about": "id", "rule": "default", "reason": "node:container:port"},
                            {"about": "address", "rule": "published", "reason": BOUND.format(49154)},
                            {
                                "about": "names",
                                "rule": "service",
                                "reason": "no DNS tag: the service's name finds it",
                            },
                            {"about": "tags", "rule": "tag", "reason": "SERVICE_TAGS='a' (env)"},
                        ],
                    },
                ],
                "left_out": [
                    {
                        "port": "9400/tcp",
                        "rule": "unpublished",
                        "reason": UNPUBLISHED,
                    }
                ],
                "notices": ["SERVICE_REGION: no tag of ours, kept for templates as 'region'"],
            }
        ]
    }


def test_report():
    """The same for human eyes."""
    assert report(run(ESTEST)).splitlines() == [
        "estest_1 (0123456789ab)",
        f"  estest  tcp {IP}:49153, 172.17.0.2:9200 (this host only)  id Docker01:estest_1:9200  weight 100",
        f"      /reg/all/estest/Docker01:estest_1:9200 = {IP}:49153",
        f"      /reg/proxy/http/estest/Docker01:estest_1:9200 = {IP}:49153",
        f"      /skydns/internal/svc/estest/docker01-estest-1-9200-69ebcdb4 = {PROXIED}",
        "      service: tag: SERVICE_NAME='estest' (env)",
        "      id: default: node:container:port",
        f"      address: published: {BOUND.format(49153)}",
        "      names: service: no DNS tag: the service's name finds it",
        "      route: tag: SERVICE_9200_PROXY='http' (env)",
        "      proxydns: tag: SERVICE_9200_PROXYDNS='estest' (env)",
        "      tags: tag: SERVICE_TAGS='a' (env)",
        f"  estest  tcp {IP}:49154, 172.17.0.2:9300 (this host only)  id Docker01:estest_1:9300  weight 100",
        f"      /reg/all/estest/Docker01:estest_1:9300 = {IP}:49154",
        "      service: tag: SERVICE_NAME='estest' (env)",
        "      id: default: node:container:port",
        f"      address: published: {BOUND.format(49154)}",
        "      names: service: no DNS tag: the service's name finds it",
        "      tags: tag: SERVICE_TAGS='a' (env)",
        f"  left out 9400/tcp: unpublished: {UNPUBLISHED}",
        "  note: SERVICE_REGION: no tag of ours, kept for templates as 'region'",
    ]


WHY = [
    ("a name of its own", {"env": ["SERVICE_80_NAME=x"]}, {}, "service", "tag", "SERVICE_80_NAME='x' (env)"),
    ("a label", {"labels": {"SERVICE_NAME": "x"}}, {}, "service", "tag", "SERVICE_NAME='x' (label)"),
    ("the image", {}, {}, "service", "image", "no NAME tag: the base name of its image 'a/redis:3'"),
    (
        "compose",
        {"labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}},
        {},
        "service",
        "compose",
        "no NAME tag: SERVICE.PROJECT of compose",
    ),
    (
        "an image without a name",
        {"image": "sha256:" + "ab" * 32},
        {},
        "service",
        "container",
        "no NAME tag, and its image is known by an id only: its own name",
    ),
    (
        "a suffix",
        {"image": "nginx", "expose": ["80/tcp", "81/tcp"], "mode": "host"},
        {},
        "service",
        "image",
        (
            "no NAME tag: the base name of its image 'nginx'; with -80 by --name-suffix seed; its container publishes "
            "several ports"
        ),
    ),
    (
        "a suffix that is asked for",
        {"env": ["SERVICE_NAME=x"]},
        {"name_suffix": "always"},
        "service",
        "tag",
        "SERVICE_NAME='x' (env); with -80 by --name-suffix always",
    ),
    ("an id", {"env": ["SERVICE_ID=x"]}, {}, "id", "tag", "SERVICE_ID='x' (env)"),
    (
        "an id for several",
        {"env": ["SERVICE_ID=x"], "ports": {"80/tcp": 1, "81/tcp": 2}},
        {},
        "id",
        "tag",
        "SERVICE_ID='x' (env); told apart from the other ports that have it",
    ),
    (
        "the host's network",
        {"mode": "host", "expose": ["80/tcp"]},
        {},
        "address",
        "host-network",
        "it is on the host's network; 192.168.0.1 is this host's",
    ),
    (
        "--ip",
        {},
        {"ip": ("10.0.0.1",)},
        "address",
        "published",
        "it is published on the host; bound to 0.0.0.0:80; 10.0.0.1 by --ip",
    ),
    (
        "one address",
        {"ports": {"80/tcp": ("10.9.9.9", 80)}},
        {},
        "address",
        "published",
        "it is published on the host; bound to 10.9.9.9:80; 10.9.9.9 is the binding's",
    ),
    (
        "a tag",
        {"env": ["SERVICE_IP=10.9.9.9"]},
        {},
        "address",
        "published",
        "it is published on the host; bound to 0.0.0.0:80; 10.9.9.9 by SERVICE_IP='10.9.9.9' (env)",
    ),
    (
        "a label's address",
        {"labels": {"a": "10.9.9.9/24"}},
        {"use_ip_from_label": "a"},
        "address",
        "published",
        "it is published on the host; bound to 0.0.0.0:80; 10.9.9.9 by --use-ip-from-label 'a'",
    ),
    (
        "--internal",
        {},
        {"internal": True},
        "address",
        "internal",
        (
            "the container's own address and port are asked for; bound to 0.0.0.0:80; --internal; 172.17.0.2 is the "
            "container's"
        ),
    ),
    (
        "a network",
        {"expose": ["80/tcp"], "env": ["SERVICE_ROUTABLE=1"]},
        {"network": ("bridge",)},
        "address",
        "routable",
        (
            "its network is routed between hosts, and the port is not published; SERVICE_ROUTABLE='1' (env); "
            "172.17.0.2 is the container's, on --network bridge"
        ),
    ),
    (
        "loopback",
        {"ports": {"80/tcp": ("127.0.0.1", 80)}},
        {},
        "address",
        "published",
        "it is published on the host; bound to 127.0.0.1:80; known to this host only",
    ),
    (
        "proxied here only",
        {"expose": ["80/tcp"], "env": ["SERVICE_80_PROXY=http"]},
        {},
        "address",
        "unpublished",
        "it is not published: only this host reaches it; known to this host only",
    ),
    (
        "DNS=none",
        {"env": ["SERVICE_DNS=none"]},
        {},
        "names",
        "tag",
        "SERVICE_DNS='none' (env)",
    ),
    ("no tag", {}, {}, "names", "none", "no name finds it: no SERVICE_ tag applies to it"),
    ("untagged", {}, {"publish_untagged": True}, "names", "service", "no DNS tag: the service's name finds it"),
    (
        "--explicit-dns",
        {"env": ["SERVICE_NAME=a"]},
        {"explicit_dns": True},
        "names",
        "none",
        "no name finds it: --explicit-dns asks for a DNS tag",
    ),
    (
        "a bad DNS tag",
        {"env": ["SERVICE_DNS=a;b"]},
        {},
        "names",
        "none",
        (
            "no name finds it: SERVICE_DNS (env): 'a;b' is no name: labels of letters, digits, '-' and '_' that "
            "begin and end with a letter or digit, joined by dots; it gets no names"
        ),
    ),
    (
        "a reserved name",
        {"env": ["SERVICE_NAME=dns"]},
        {},
        "names",
        "none",
        "no name finds it: its service's name is reserved",
    ),
    ("a weight", {"env": ["SERVICE_WEIGHT=7"]}, {}, "weight", "tag", "SERVICE_WEIGHT='7' (env)"),
]


@pytest.mark.parametrize("row", WHY, ids=[row[0] for row in WHY])
def test_why(row):
    """Which rule chose what, and where the value came from."""
    _, container, flags, about, *expected = row
    one = run(document(**{"ports": {} if "expose" in container else {"80/tcp": 80}, **container}), **flags)[
        "containers"
    ][0]

    found = next(why for why in one["endpoints"][0]["why"] if why["about"] == about)
    assert [found["rule"], found["reason"]] == expected


def test_several_documents_are_judged_together():
    """A name that one container proxies is the proxies' for the other too."""
    plain = document(id_="b" * 64, name="plain", ports={"80/tcp": 1}, env=["SERVICE_NAME=estest"])

    assert list(run(plain)["containers"][0]["endpoints"][0]["exports"]) == [
        "/reg/all/estest/Docker01:plain:80",
        "/skydns/internal/svc/estest/docker01-plain-80",
    ]
    assert list(run(ESTEST, plain)["containers"][1]["endpoints"][0]["exports"]) == ["/reg/all/estest/Docker01:plain:80"]


def test_shared_network_among_documents():
    """A container in another's network finds it in the same array, by id or name."""
    pause = document(id_="b" * 64, name="pause", ports={"80/tcp": 8000})
    web = document(name="web", mode=f"container:{'b' * 64}", expose=["80/tcp"], env=["SERVICE_NAME=web"])

    assert run(web, pause)["containers"][0]["endpoints"][0]["port"] == 8000


def test_one_id_for_two_containers_is_told():
    """Their keys would overwrite each other."""
    both = [document(id_=char * 64, name=char, ports={"80/tcp": 1}, env=["SERVICE_ID=x"]) for char in "ab"]

    notices = [one["notices"] for one in run(*both)["containers"]]
    assert notices == [["id 'x' is used by another container too"]] * 2


UNUSABLE = [
    ("a number", 7, "document 2 cannot be used: the document is a whole number, not an object"),
    ("null", None, "document 2 cannot be used: Id is '', which is none of a container"),
    ("no name", {"Id": ID}, "document 2 cannot be used: Name is '', which is none of a container"),
    ("neither", {}, "document 2 cannot be used: Name is '', which is none of a container"),
    (
        "a bad field",
        {"Id": ID, "Name": "/x", "State": 1},
        "document 2 cannot be used: State is a whole number, not an object",
    ),
]


@pytest.mark.parametrize(("bad", "notice"), [row[1:] for row in UNUSABLE], ids=[row[0] for row in UNUSABLE])
def test_unusable_documents(bad, notice):
    """One that cannot be used is named, its neighbours are shown."""
    result = run(ESTEST, bad, ESTEST)

    assert [len(one["endpoints"]) for one in result["containers"]] == [2, 0, 2]
    assert result["containers"][1]["notices"] == [notice]


def test_hand_written_document_without_an_id():
    """The id does not decide anything that inspect shows: another stands for it, and that is said."""
    [container] = run({**ESTEST, "Id": "web"})["containers"]

    assert len(container["endpoints"]) == 2
    assert container["notices"][0] == "Id is 'web', which is none of a container: another stands for it here"


def test_addresses_of_this_host_only():
    """`address` is what exports use: null where there are none."""
    [container] = run(document(ports={"80/tcp": ("127.0.0.1", 8000)}, env=["SERVICE_NAME=a"]))["containers"]

    [endpoint] = container["endpoints"]
    assert (endpoint["address"], endpoint["port"], endpoint["exports"]) == (None, 8000, {})


def test_template_problems_are_notices():
    [container] = run(ESTEST, etcd_tmpl={"ETCD_TMPL_X": "/k {{.Attrs.none}}"})["containers"]

    assert container["notices"][-1] == (
        "Docker01:estest_1:9300: template ETCD_TMPL_X, line 1, column 6: .Attrs.none is not set"
    )


def test_bad_template_is_a_bad_setting():
    with pytest.raises(BadSettings):
        run(ESTEST, etcd_tmpl={"ETCD_TMPL_X": "{{"})


def test_report_of_hostile_text_stays_in_its_lines():
    """Nothing from a document can forge a line or reach the terminal."""
    env = [
        "SERVICE_NAME=a",
        "SERVICE_80_PROXY_HOST=a\n  note: forged\x1b[2J",
        "SERVICE_\x1b[2J=x",
        "SERVICE_99\n_NAME=x",
    ]
    hostile = [
        document(ports={"80/tcp": 1}, env=env),
        {"Id": "\x1b[2J", "Name": "x\ny"},
        document(ports={"80/tcp": 1}, env=["SERVICE_A=\x1b\n"], name="t"),
    ]
    text = report(run(*hostile, etcd_tmpl={"ETCD_TMPL_X": "/k {{if .Attrs.a}}v{{.Attrs.a}}v{{end}}"}))

    assert all(line.isprintable() and line.isascii() for line in text.splitlines())
    assert "forged" not in [line.split()[1] for line in text.splitlines() if line.startswith("  note:")]


def test_result_is_json():
    assert json.loads(json.dumps(run(ESTEST))) == run(ESTEST)


def test_finder():
    """As the engine looks containers up."""
    known = [given(id_="ab" * 32, name="one"), given(id_="cd" * 32, name="abab")]
    find = finder(known)

    looked_up = {text: find(text) for text in ("ab" * 32, "one", "/one", "abab", "cdc", "none", "")}
    assert {text: found and found.name for text, found in looked_up.items()} == {
        "ab" * 32: "one",
        "one": "one",
        "/one": "one",
        "abab": "abab",
        "cdc": "abab",
        "none": None,
        "": None,
    }
