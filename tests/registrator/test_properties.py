"""Whatever a container says: a record that can be written and read, keys that are keys, labels that differ."""

from hypothesis import given as any_of
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pilotfish.catalog import keys
from pilotfish.catalog.record import Container, decode, encode
from pilotfish.catalog.verdict import Verdict
from registrator.rules.address import Host, usable
from registrator.rules.container import VIRTUAL
from registrator.rules.exports import judge_exports
from registrator.rules.naming import label_of
from registrator.rules.tags import ALL_KEYS
from registrator.rules.templates import parse
from registrator.rules.wanted import RULES, wanted
from registrator.settings import RegistratorSettings
from tests.registrator.builders import given

TEXT = st.text(max_size=30) | st.sampled_from(
    [
        "1",
        "0",
        "true",
        "none",
        "web",
        "a.b",
        "A_b",
        "http",
        "tcp",
        "/x",
        "a,b",
        "10.0.0.0/8",
        "10.1.1.1",
        "127.0.0.1",
        "*.x",
        "x" * 300,
        "h:c:80",
        "x y",
        "../..",
        "dns",
        "proxy",
    ]
)
PORTS = st.sampled_from(["53/tcp", "53/udp", "80/tcp", "443/tcp", "9/sctp", "65535/tcp", "1/udp"])
KEYS = st.sampled_from(sorted(ALL_KEYS)).map(str.upper) | st.text(max_size=12)
NAMES = st.builds(
    lambda port, key: f"SERVICE_{port}{key}", st.sampled_from(["", "53_", "80_", "443_", "8080_", "080_", "-1_"]), KEYS
)
ADDRESSES = st.sampled_from(["", "0.0.0.0", "::", "127.0.0.1", "10.0.0.9", "fd00::9", "172.17.0.1", "169.254.1.1"])
BOUND = st.lists(st.tuples(ADDRESSES, st.integers(0, 65535)), min_size=1, max_size=3)
CONTAINERS = st.fixed_dictionaries(
    {
        "env": st.lists(st.builds("{}={}".format, NAMES | st.sampled_from(sorted(VIRTUAL)), TEXT), max_size=8),
        "labels": st.dictionaries(
            NAMES | st.sampled_from(["com.docker.compose.project", "com.docker.compose.service"]), TEXT, max_size=4
        ),
        "image": TEXT,
        "ports": st.dictionaries(PORTS, BOUND, max_size=4),
        "expose": st.just(()),
        "mode": st.sampled_from(["default", "bridge", "host", "none", "shop", "container:c", "container:x"]),
        "networks": st.dictionaries(
            st.sampled_from(["bridge", "shop"]), st.sampled_from(["", "172.17.0.2"]), max_size=2
        ),
    }
)
FLAGS = st.fixed_dictionaries(
    {
        "internal": st.booleans(),
        "explicit": st.booleans(),
        "explicit_dns": st.booleans(),
        "publish_untagged": st.booleans(),
        "name_suffix": st.sampled_from(["seed", "auto", "always", "never"]),
        "ip": st.sampled_from([(), ("10.0.0.1",), ("10.0.0.1", "fd00::1")]),
        "etcd_tmpl": st.sampled_from([{}, {"ETCD_TMPL_A": "/t/{{.Attrs.dns}}/{{.Name}}/{{.ID}} {{.IP}}:{{.Port}}"}]),
    }
)
HOSTS = st.sampled_from([Host("h"), Host("Docker01", ("192.168.0.1", "fd00::1"))])


@hypothesis_settings(max_examples=300, deadline=None)
@any_of(CONTAINERS, FLAGS, HOSTS)
def test_any_container(container, flags, host):
    """`wanted` always answers; record, addresses, ids, keys and reasons keep their promises."""
    settings = RegistratorSettings(**flags)
    decided = wanted(given(**container), host, settings, lambda _: None)
    record = decided.container

    assert decode(Container, encode(record)) == record
    assert (
        len({one.label for one in record.endpoints})
        == len({one.id for one in record.endpoints})
        == len(record.endpoints)
    )
    assert all(one.label == label_of(one.id) for one in record.endpoints)
    assert [(one.port, one.protocol) for one in record.endpoints] == sorted(
        (one.port, one.protocol) for one in record.endpoints
    )
    assert all(usable(at.ip) for one in record.endpoints for at in one.addresses if at.scope == "lan")
    assert all(one.addresses and one.state == "starting" for one in record.endpoints)
    assert {left.rule for left in decided.left_out} <= set(RULES)
    assert all(text.isprintable() for text in (*decided.notices, *(left.reason for left in decided.left_out)))
    published = {f"{one.port}/{one.protocol}" for one in record.endpoints}
    assert published.isdisjoint(left.port for left in decided.left_out)
    assert published | {left.port for left in decided.left_out} >= set(container["ports"])

    made = judge_exports(
        record, lambda one: Verdict(one.weight, ""), lambda _: False, settings, parse(settings.etcd_tmpl)
    )
    for key, value in made.keys.items():
        assert keys.template_key(key) == key
        assert value.isprintable()
        if key.startswith("/skydns/"):
            assert keys.skydns_name("/skydns", key)[1:]


@any_of(CONTAINERS, FLAGS)
def test_deciding_twice_is_deciding_once(container, flags):
    """The same facts give the same record, whatever the order of labels in the document."""
    turned = {**container, "labels": dict(reversed(container["labels"].items()))}
    decided = [
        wanted(given(**one), Host("h"), RegistratorSettings(**flags), lambda _: None) for one in (container, turned)
    ]

    assert decided[0] == decided[1]
