"""Records: what was written is read, what is hostile is refused, and fields of others survive."""

import json
import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilotfish.catalog import record, values
from pilotfish.catalog.record import (
    Address,
    BadRecord,
    Claim,
    Container,
    Endpoint,
    Node,
    Proxy,
    decode,
    encode,
    same,
)
from pilotfish.catalog.route import Route

names = st.from_regex(values.NAME.pattern)
some_names = st.lists(names, max_size=3).map(tuple)
nodes = st.from_regex(values.NODE.pattern)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
times = st.floats(0, 1e11)
ports = st.integers(1, 65535)
ips = st.ip_addresses().map(str)
addresses = st.builds(Address, ips, ports, st.sampled_from(["lan", "node"]))
routes = st.builds(
    Route,
    scheme=st.sampled_from(["http", "https", "grpc", "tcp", "udp"]),
    hosts=st.lists(st.from_regex(values.HOST.pattern), max_size=2).map(tuple),
    path=st.from_regex(values.PATH.pattern),
    strip=st.booleans(),
    port=ports | st.just(0),
    backend=st.sampled_from(["http", "https", "grpc", "grpcs"]),
)
endpoints = st.builds(
    Endpoint,
    service=names,
    id=st.from_regex(values.ID.pattern),
    label=st.from_regex(values.LABEL_PATTERN),
    port=ports,
    protocol=st.sampled_from(["tcp", "udp"]),
    addresses=st.lists(addresses, max_size=2).map(tuple),
    dns=st.none() | some_names,
    proxydns=some_names,
    route=st.none() | routes,
    version=texts,
    tags=st.lists(texts, max_size=2).map(tuple),
    attrs=st.dictionaries(texts, texts, max_size=2),
    state=st.sampled_from(["starting", "passing", "failing", "draining"]),
    deadline=times,
    weight=st.integers(0, 65535),
    priority=st.integers(0, 65535),
    ttl=st.integers(0, 2**31 - 1),
)
containers = st.builds(
    Container,
    node=nodes,
    id=st.from_regex(r"^[0-9a-f]{12,64}\Z"),
    name=st.from_regex(r"^[A-Za-z0-9][A-Za-z0-9_.-]*\Z").filter(lambda name: len(name) < 256),
    image=texts,
    started=times,
    observed=times,
    endpoints=st.lists(endpoints, max_size=3).map(tuple),
    exports=st.lists(texts, max_size=3).map(tuple),
    project=texts,
    compose_service=texts,
)
alpns = st.lists(st.sampled_from(["h2", "h3", "http/1.1"]), max_size=3).map(tuple)
some_ips = st.lists(ips, max_size=3).map(tuple)
records = st.one_of(
    containers,
    st.builds(Node, nodes, some_ips, texts, texts, texts, texts, st.booleans()),
    st.builds(
        Proxy, nodes, some_ips, ports | st.just(0), ports | st.just(0), texts, st.integers(0, 2**62), texts, alpns
    ),
    st.builds(Claim, names, times, times),
)

CLAIM = Claim(service="web", since=1.0)
CONTAINER = Container(
    node="h1",
    id="0123456789ab",
    name="web_1",
    image="nginx",
    started=1.0,
    observed=2.0,
    endpoints=(
        Endpoint(
            service="web",
            id="h1:web_1:80",
            label="h1-web_1-80",
            port=80,
            addresses=(Address("192.0.2.1", 8080, "lan"),),
            route=Route(scheme="http", hosts=("www.example.com",), path="/a"),
        ),
    ),
)


@given(records)
def test_a_record_is_read_as_it_was_written(written):
    assert decode(type(written), encode(written)) == written


@given(records)
def test_a_record_is_json_with_sorted_keys_and_a_format(written):
    found = json.loads(encode(written))

    assert found["format"] == 1
    assert list(found) == sorted(found)


@pytest.mark.parametrize("kind", [Container, Node, Proxy, Claim])
@given(
    value=st.binary(max_size=200) | st.recursive(st.none() | texts, st.lists).map(lambda one: json.dumps(one).encode())
)
@example(value=b"")
@example(value=b"{}")
@example(value=b"[" * 100_000)
@example(value=b'{"format":1,"x":' + b"[" * 100_000)
@example(value=b'{"format":1,"\xff":1}')
def test_any_other_bytes_are_a_bad_record(kind, value):
    with pytest.raises(BadRecord):
        decode(kind, value)


@given(records, st.data())
def test_a_damaged_record_is_a_record_or_a_bad_record(written, data):
    """Whatever comes, nothing but BadRecord rises; and what is read can be written again."""
    value = bytearray(encode(written))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(type(written), bytes(value))
    except BadRecord:
        return
    assert decode(type(written), encode(found)) == found


def changed(path, value):
    """CONTAINER as JSON with one field changed: `path` is dotted, numbers are places in a list."""
    whole = json.loads(encode(CONTAINER))
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = whole
    for part in above:
        inner = inner[part]
    inner[last] = value
    return json.dumps(whole).encode()


HOSTILE = {
    "another format": ("format", 2),
    "a node that is no label": ("node", "h1;"),
    "an id that is none": ("id", "0123456789aX"),
    "a short id": ("id", "0123"),
    "a name with a line end": ("name", "web\n"),
    "a long name": ("name", "a" * 256),
    "a long image": ("image", "a" * 4097),
    "a start that is no number": ("started", "yesterday"),
    "endpoints that are no list": ("endpoints", {}),
    "65 endpoints": ("endpoints", [json.loads(encode(CONTAINER))["endpoints"][0]] * 65),
    "a service with a brace": ("endpoints.0.service", "web}"),
    "an id with a quote": ("endpoints.0.id", 'h1:"'),
    "a label in capitals": ("endpoints.0.label", "H1"),
    "port 0": ("endpoints.0.port", 0),
    "port 65536": ("endpoints.0.port", 65536),
    "a port as text": ("endpoints.0.port", "80"),
    "a port with a fraction": ("endpoints.0.port", 80.5),
    "another protocol": ("endpoints.0.protocol", "sctp"),
    "an address that is none": ("endpoints.0.addresses.0.ip", "1.2.3"),
    "an address of colons": ("endpoints.0.addresses.0.ip", "::::"),
    "an address with a zone": ("endpoints.0.addresses.0.ip", "fe80::1%eth0"),
    "a name for an address": ("endpoints.0.addresses.0.ip", "localhost"),
    "another scope": ("endpoints.0.addresses.0.scope", "wan"),
    "a DNS name with a blank": ("endpoints.0.dns", ["a b"]),
    "a PROXYDNS name with a variable": ("endpoints.0.proxydns", ["$host"]),
    "another scheme": ("endpoints.0.route.scheme", "ftp"),
    "a host in capitals": ("endpoints.0.route.hosts", ["WWW"]),
    "a host that is an expression": ("endpoints.0.route.hosts", ["~.*"]),
    "a path that leaves": ("endpoints.0.route.path", "/a; return 200"),
    "a path that goes up": ("endpoints.0.route.path", "/../"),
    "another backend": ("endpoints.0.route.backend", "uwsgi"),
    "a stream port of -1": ("endpoints.0.route.port", -1),
    "another state": ("endpoints.0.state", "ready"),
    "a negative weight": ("endpoints.0.weight", -1),
    "a large weight": ("endpoints.0.weight", 65536),
    "a large priority": ("endpoints.0.priority", 65536),
    "a large ttl": ("endpoints.0.ttl", 2**31),
    "an attribute that is no text": ("endpoints.0.attrs", {"a": 1}),
    "a tag that is no text": ("endpoints.0.tags", [1]),
    "exports that are no text": ("exports", [1]),
}


@pytest.mark.parametrize(("path", "value"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_field_is_refused_and_named(path, value):
    with pytest.raises(BadRecord) as caught:
        decode(Container, changed(path, value))

    assert f"$.{path.split('.')[0]}" in str(caught.value)


def test_the_record_is_good_but_for_what_was_changed():
    """The control of the table above."""
    assert decode(Container, changed("name", "web_2")) == msgspec.structs.replace(CONTAINER, name="web_2")


@pytest.mark.parametrize("field", ["node", "id", "name", "image", "started", "observed"])
def test_a_missing_field_is_refused(field):
    whole = json.loads(encode(CONTAINER))
    del whole[field]

    with pytest.raises(BadRecord, match=f"missing required field `{field}`"):
        decode(Container, json.dumps(whole).encode())


def test_a_record_of_another_kind_is_refused():
    with pytest.raises(BadRecord):
        decode(Node, encode(CONTAINER))


OTHERS = st.dictionaries(
    texts, st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3))
)


@given(OTHERS)
def test_unknown_fields_survive_a_rewrite(others):
    """What a newer version wrote is kept; what we know is ours alone."""
    before = json.dumps(others | {"format": 9, "service": "old", "since": 0.0, "idle_since": 5.0}).encode()
    after = json.loads(encode(CLAIM, keeping=before))
    unknown = {key: value for key, value in others.items() if key not in {"format", "service", "since", "idle_since"}}

    assert after == unknown | {"format": 1, "service": "web", "since": 1.0}
    assert list(after) == sorted(after)


NOT_KEPT = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b'["a"]',
    "no UTF-8": b'{"a":"\xff"}',
    "too deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no number": b'{"a":1e999}',
}


@pytest.mark.parametrize("before", NOT_KEPT.values(), ids=NOT_KEPT)
def test_a_value_that_is_no_record_is_replaced(before):
    """Somebody else's bytes at our key do not keep us from writing."""
    assert encode(CLAIM, keeping=before) == encode(CLAIM)


def test_unknown_fields_are_no_reason_to_refuse():
    assert decode(Claim, b'{"format":1,"service":"web","since":1.0,"later":{"a":[1]}}') == CLAIM


SAME = {
    "observed later": (msgspec.structs.replace(CONTAINER, observed=math.pi), True),
    "another name": (msgspec.structs.replace(CONTAINER, name="web_2"), False),
    "no endpoints": (msgspec.structs.replace(CONTAINER, endpoints=()), False),
}


@pytest.mark.parametrize(("other", "expected"), SAME.values(), ids=SAME)
def test_when_it_was_observed_does_not_count(other, expected):
    assert same(CONTAINER, other) is expected
    assert same(other, CONTAINER) is expected


def test_a_record_of_all_endpoints_fits_a_commit():
    """64 endpoints with long names stay far below what a store takes in one value."""
    many = msgspec.structs.replace(CONTAINER.endpoints[0], attrs={"a": "x" * 1000})
    full = msgspec.structs.replace(CONTAINER, endpoints=(many,) * record.MAX_ENDPOINTS)

    assert len(encode(full)) < 256 * 1024
