"""The key grammar: what is built is read back, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog import keys, values
from pilotfish.catalog.commit import key_bytes
from pilotfish.catalog.keys import BadKey, ClaimKey, ContainerKey, NodeKey, ProxyKey, WishKey
from pilotfish.catalog.route import Place

nodes = st.from_regex(values.NODE.pattern)
ids = st.from_regex(r"^[0-9a-f]{12,64}\Z")
hosts = st.from_regex(values.HOST.pattern)
paths = st.from_regex(values.PATH.pattern)
names = st.from_regex(values.NAME.pattern)
anything = st.text(max_size=20) | st.text(st.sampled_from("/.%2fF \0\x85\ud800aé"), max_size=8)


@given(nodes, ids)
def test_keys_of_hosts_and_containers_are_read_back(node, container):
    assert keys.parse(keys.node_key(node)) == NodeKey(node)
    assert keys.parse(keys.proxy_key(node)) == ProxyKey(node)
    assert keys.parse(keys.container_key(node, container)) == ContainerKey(node, container)
    assert keys.container_key(node, container).startswith(keys.containers_of(node))


@given(hosts, paths)
def test_keys_of_claims_are_read_back(host, path):
    assert keys.parse(keys.claim_key(Place(host, path))) == ClaimKey(Place(host, path))


@given(st.sampled_from(["drain", "shift"]), anything)
def test_keys_of_wishes_are_read_back(kind, name):
    try:
        key = keys.wish_key(kind, name)
    except BadKey:
        return
    assert keys.parse(key) == WishKey(kind, name)


BUILDERS = {
    "node": keys.node_key,
    "proxy": keys.proxy_key,
    "container": lambda part: keys.container_key("h1", part),
    "containers of": keys.containers_of,
    "skydns": lambda part: keys.skydns_key("/skydns", f"{part}.internal"),
    "proxied": lambda part: keys.registry_proxy_key("http", "web", part),
    "all": lambda part: keys.registry_all_key(part, "h1:c:80"),
    "template": lambda part: keys.template_key(f"/svc/{part}"),
    "claim": lambda part: keys.claim_key(Place("a.com", part)),
    "wish": lambda part: keys.wish_key("drain", part),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
@given(part=anything)
def test_a_key_has_the_parts_it_was_built_from(build, part):
    """No part brings a slash, an empty part, a dot part or a control character; each key can be stored."""
    try:
        key = build(part)
    except BadKey:
        return
    found = key[1:].removesuffix("/").split("/")

    assert not {"", ".", ".."} & set(found)
    assert key_bytes(key)
    assert not any(ord(char) <= 0x20 or 0x7F <= ord(char) <= 0x9F for char in key)


BAD_PARTS = {
    "empty": "",
    "one dot": ".",
    "two dots": "..",
    "a slash": "a/b",
    "a blank": "a b",
    "a line end": "a\n",
    "a control character": "a\x85",
    "a lone surrogate": "\ud800",
}


@pytest.mark.parametrize("part", BAD_PARTS.values(), ids=BAD_PARTS)
def test_a_bad_part_is_refused_by_name(part):
    with pytest.raises(BadKey, match="cannot stand in a key") as caught:
        keys.node_key(part)

    assert values.quoted(part) in str(caught.value)


UNKNOWN = {
    "not ours": "/skydns/internal/svc",
    "the root": "/pilotfish/v1/",
    "another version": "/pilotfish/v2/nodes/h1",
    "an unknown kind": "/pilotfish/v1/things/a",
    "a node without a name": "/pilotfish/v1/nodes/",
    "a proxy without a name": "/pilotfish/v1/proxies/",
    "a node with more": "/pilotfish/v1/nodes/h1/x",
    "a container without a host": "/pilotfish/v1/containers//0a",
    "a container without an id": "/pilotfish/v1/containers/h1/",
    "a claim without a path": "/pilotfish/v1/claims/a.com/",
    "a claim without a host": "/pilotfish/v1/claims//%2F",
    "a claim with a bare path": "/pilotfish/v1/claims/a.com//",
    "a claim spelled otherwise": "/pilotfish/v1/claims/a.com/%2fa",
    "a claim with a letter escaped": "/pilotfish/v1/claims/a.com/%2F%61",
    "a claim that is no text": "/pilotfish/v1/claims/a.com/%FF",
    "half an escape": "/pilotfish/v1/claims/a.com/%2",
    "a wish without a kind": "/pilotfish/v1/wishes//web",
    "a wish without a name": "/pilotfish/v1/wishes/drain/",
    "a wish spelled otherwise": "/pilotfish/v1/wishes/drain/%77eb",
}


@pytest.mark.parametrize("key", UNKNOWN.values(), ids=UNKNOWN)
def test_other_keys_are_none_of_ours(key):
    assert keys.parse(key) is None


REBUILD = {
    NodeKey: lambda found: keys.node_key(found.node),
    ProxyKey: lambda found: keys.proxy_key(found.node),
    ContainerKey: lambda found: keys.container_key(found.node, found.id),
    ClaimKey: lambda found: keys.claim_key(found.place),
    WishKey: lambda found: keys.wish_key(found.kind, found.name),
}


@given(
    st.sampled_from([keys.NODES, keys.CONTAINERS, keys.PROXIES, keys.CLAIMS, keys.WISHES]),
    st.lists(st.text(st.sampled_from("a%2fF6.~é/"), max_size=6), min_size=1, max_size=3),
)
def test_one_thing_has_one_key(prefix, parts):
    """What a key stands for has no second key: the two would be taken for one another."""
    key = prefix + "/".join(parts)
    found = keys.parse(key)
    if found is None:
        return
    try:
        again = REBUILD[type(found)](found)
    except BadKey:
        return  # not a key that we build; its record says whose it is
    assert again == key


@given(st.sampled_from(["/skydns", "/skydns/", "/a/b"]), names)
def test_skydns_names_are_read_back(prefix, name):
    key = keys.skydns_key(prefix, f"{name}.")

    assert keys.skydns_name(prefix, key) == tuple(name.lower().split("."))


NOT_SKYDNS = {
    "elsewhere": "/skydnsx/internal",
    "the prefix": "/skydns/",
    "an empty label": "/skydns/internal//web",
}


@pytest.mark.parametrize("key", NOT_SKYDNS.values(), ids=NOT_SKYDNS)
def test_other_keys_are_no_skydns_names(key):
    assert keys.skydns_name("/skydns", key) is None


BUILT = {
    "node": (keys.node_key("h1"), "/pilotfish/v1/nodes/h1"),
    "container": (keys.container_key("h1", "0a"), "/pilotfish/v1/containers/h1/0a"),
    "containers of": (keys.containers_of("h1"), "/pilotfish/v1/containers/h1/"),
    "proxy": (keys.proxy_key("h1"), "/pilotfish/v1/proxies/h1"),
    "claim": (keys.claim_key(Place("a.com", "/b/c")), "/pilotfish/v1/claims/a.com/%2Fb%2Fc"),
    "wish": (keys.wish_key("drain", "a/b"), "/pilotfish/v1/wishes/drain/a%2Fb"),
    "skydns": (keys.skydns_key("/skydns/", "h1-web-80.Web.svc.internal"), "/skydns/internal/svc/web/h1-web-80"),
    "proxied": (keys.registry_proxy_key("http", "web", "h1:web:80"), "/reg/proxy/http/web/h1:web:80"),
    "all": (keys.registry_all_key("web", "h1:web:80"), "/reg/all/web/h1:web:80"),
    "template": (keys.template_key("/services/web/1"), "/services/web/1"),
    "a template beside ours": (keys.template_key("/pilotfishes/web"), "/pilotfishes/web"),
}


@pytest.mark.parametrize(("built", "expected"), BUILT.values(), ids=BUILT)
def test_keys_are_spelled_so(built, expected):
    assert built == expected


NO_TEMPLATE_KEYS = {
    "relative": ("services/web", "begin with '/'"),
    "empty": ("", "begin with '/'"),
    "ours": ("/pilotfish/v1/nodes/h1", "holds the records themselves"),
    "ours, whole": ("/pilotfish", "holds the records themselves"),
    "a folder": ("/services/", "cannot stand in a key"),
    "upwards": ("/services/../pilotfish/v1", "cannot stand in a key"),
}


@pytest.mark.parametrize(("text", "why"), NO_TEMPLATE_KEYS.values(), ids=NO_TEMPLATE_KEYS)
def test_a_template_key_is_checked(text, why):
    with pytest.raises(BadKey, match=why):
        keys.template_key(text)
