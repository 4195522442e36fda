"""Hostile values on every typed tag: refused at the tag, by name, before anything reaches a key or a configuration."""

import pytest

from pilotfish.catalog.record import Container, decode, encode
from registrator.rules.container import VIRTUAL
from registrator.rules.tags import CHECKS, KNOWN
from tests.registrator.builders import decide

PORTS = {"80/tcp": 8000, "443/tcp": 4443}
LONG = "a" * 65536

VALUES = {
    "semicolon": "a;b",
    "brace": "a}",
    "opening brace": "a{b",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "trailing newline": "a\n",
    "dollar": "$host",
    "parent folder": "../x",
    "slash": "a/../b",
    "nul": "a\x00b",
    "quote": "a'b",
    "double quote": 'a"b',
    "backslash": "a\\b",
    "blank inside": "a b",
    "hash": "a#b",
    "control": "a\x1b[31m",
    "not ascii": "å",
    "digits of others": "\u0661\u0662",
    "64 KiB": LONG,
}

# Text of any kind is a tag; these are printable and short enough. White space around the parts of a list is dropped.
HARMLESS = {
    "dns": {"trailing newline"},
    "proxydns": {"trailing newline"},
    "proxy_host": {"trailing newline"},
    "tags": {
        "semicolon",
        "brace",
        "opening brace",
        "dollar",
        "parent folder",
        "slash",
        "quote",
        "double quote",
        "backslash",
        "blank inside",
        "hash",
        "not ascii",
        "digits of others",
    },
}

CASES = [(key, kind) for key in KNOWN for kind in VALUES if kind not in HARMLESS.get(key, ())]


@pytest.mark.parametrize(("key", "kind"), CASES, ids=[f"{key}: {kind}" for key, kind in CASES])
def test_hostile_value_is_refused_at_its_tag(key, kind):
    """The tag is named with its value quoted and shortened; the other port goes on as if nothing were."""
    name = f"SERVICE_80_{key.upper()}"
    extra = ["SERVICE_80_PROXY=http"] if key.startswith("proxy") and key != "proxy" else []
    decided = decide(ports=PORTS, env=["SERVICE_NAME=web", *extra, f"{name}={VALUES[kind]}"])

    said = [left.reason for left in decided.left_out if left.port == "80/tcp"] + list(decided.notices)
    assert any(name in one for one in said), said
    assert all(one.isprintable() and one.isascii() and len(one) < 400 for one in said), said
    assert [one.port for one in decided.container.endpoints if one.port == 443] == [443]
    # Checks are kept for templates whatever they say, as every tag is that we do not act on.
    assert key in CHECKS or VALUES[kind] not in encode(decided.container).decode()
    assert decode(Container, encode(decided.container)) == decided.container


COSTS = [
    ("NAME", "the port is left out", None),
    ("ID", "the default is used", "h:c:80"),
    ("IGNORE", "the port is left out", None),
    ("NETWORK", "the port is left out", None),
    ("IP", "the port is left out", None),
    ("INTERNAL", "the port is left out", None),
    ("ROUTABLE", "the port is left out", None),
    ("DNS", "it gets no names", "h:c:80"),
    ("PROXYDNS", "it is not proxied", "h:c:80"),
    ("PROXY", "it is not proxied", "h:c:80"),
    ("PROXY_HOST", "it is not proxied", "h:c:80"),
    ("PROXY_PATH", "it is not proxied", "h:c:80"),
    ("PROXY_STRIP", "it is not proxied", "h:c:80"),
    ("PROXY_PORT", "it is not proxied", "h:c:80"),
    ("PROXY_BACKEND", "it is not proxied", "h:c:80"),
    ("WEIGHT", "the default is used", "h:c:80"),
    ("PRIORITY", "the default is used", "h:c:80"),
    ("TTL", "the default is used", "h:c:80"),
    ("VERSION", "the default is used", "h:c:80"),
    ("HEALTH", "the default is used", "h:c:80"),
    ("CHECK", "it is not checked so", "h:c:80"),
    ("CHECK_HTTP", "it is not checked so", "h:c:80"),
    ("CHECK_HTTPS", "it is not checked so", "h:c:80"),
    ("CHECK_TCP", "it is not checked so", "h:c:80"),
    ("CHECK_GRPC", "it is not checked so", "h:c:80"),
    ("CHECK_CMD", "it is not checked so", "h:c:80"),
    ("CHECK_INTERVAL", "the default is used", "h:c:80"),
    ("CHECK_TIMEOUT", "the default is used", "h:c:80"),
    ("CHECK_RISE", "the default is used", "h:c:80"),
    ("CHECK_FALL", "the default is used", "h:c:80"),
    ("CHECK_INITIAL_STATUS", "the default is used", "h:c:80"),
    ("CHECK_HTTP_METHOD", "the default is used", "h:c:80"),
    ("DRAIN", "the default is used", "h:c:80"),
]


@pytest.mark.parametrize(("key", "cost", "endpoint_id"), COSTS, ids=[row[0] for row in COSTS])
def test_what_a_bad_value_costs(key, cost, endpoint_id):
    """Half a wish is never carried out: a route, a name or the port goes, and the message says which."""
    env = ["SERVICE_NAME=web", "SERVICE_80_PROXY=http", f"SERVICE_80_{key}=}};"]
    decided = decide(ports={"80/tcp": 8000}, env=env)

    said = [left.reason for left in decided.left_out] + list(decided.notices)
    [message] = [one for one in said if one.startswith(f"SERVICE_80_{key} (env): '}};'")]
    assert message.endswith(cost)
    assert [one.id for one in decided.container.endpoints] == ([endpoint_id] if endpoint_id else [])
    routed = [one.route is not None for one in decided.container.endpoints]
    assert routed == ([] if not endpoint_id else [not cost.endswith("proxied")])


NO_HOST = "is no host: a host name such as www.example.com, or *.example.com for everything below it; it is not proxied"
MESSAGES = [
    ("PROXY_HOST=a;b", f"SERVICE_80_PROXY_HOST (env): 'a;b' {NO_HOST}"),
    ("PROXY_HOST=}", f"SERVICE_80_PROXY_HOST (env): '}}' {NO_HOST}"),
    ("PROXY_HOST=a\nb", f"SERVICE_80_PROXY_HOST (env): 'a\\nb' {NO_HOST}"),
    ("WEIGHT=-1", "SERVICE_80_WEIGHT (env): '-1' is no weight: a whole number from 0 to 65535; the default is used"),
    ("PROXY=htp", "SERVICE_80_PROXY (env): 'htp' is none of http, https, grpc, tcp, udp; it is not proxied"),
    ("DRAIN=25h", "SERVICE_80_DRAIN (env): '25h' is too long: at most 24h; the default is used"),
    ("IP=300.1.1.1", "SERVICE_80_IP (env): '300.1.1.1' is no IP address; the port is left out"),
]


@pytest.mark.parametrize(("tag", "message"), MESSAGES, ids=[ascii(row[0]) for row in MESSAGES])
def test_messages(tag, message):
    """The message names tag, source and value, says what is allowed, and what it costs."""
    decided = decide(ports={"80/tcp": 8000}, env=["SERVICE_80_PROXY=http", f"SERVICE_80_{tag}"])

    assert message in [left.reason for left in decided.left_out] + list(decided.notices)


def test_too_many_and_too_long_attributes_are_left_out_by_name():
    """What templates get stays within bounds, so that one container cannot fill the store."""
    env = [f"SERVICE_A{number:03d}=x" for number in range(70)]
    decided = decide(ports={"80/tcp": 8000}, env=[*env, f"SERVICE_LONG={LONG}"])

    [endpoint] = decided.container.endpoints
    assert len(endpoint.attrs) == 64
    assert "a064" not in endpoint.attrs
    dropped = "not kept: 64 attributes with 8192 characters in all, 4096 in one, are the most"
    assert f"SERVICE_A064: {dropped}" in decided.notices
    assert f"SERVICE_LONG: {dropped}" in decided.notices


def test_secrets_are_not_kept():
    """Neither other environment nor what a guard says reaches record or notices."""
    env = ["PASSWORD=canary-123", "SERVICE_80_PROXY=http", "SERVICE_80_PROXY_AUTH=bob:canary-123"]
    decided = decide({"etcd_tmpl": {"ETCD_TMPL_A": "/a b"}}, ports={"80/tcp": 8000}, env=env)

    assert "canary" not in repr(decided)


PLAIN = (("a.test",), "/", "/", "", None)  # of a route by VIRTUAL_HOST=a.test
BESIDE = {"VIRTUAL_DEST": ["VIRTUAL_PATH=/x"]}  # what a variable goes with
TRIMMED = frozenset({"trailing newline"})  # around a word it is nothing, but none of ours has the word `a`
THEIRS = [(variable, kind) for variable in sorted(VIRTUAL) for kind in VALUES if kind not in TRIMMED]


@pytest.mark.parametrize(("variable", "kind"), THEIRS, ids=[f"{variable}: {kind}" for variable, kind in THEIRS])
def test_hostile_value_is_refused_at_its_variable(variable, kind):
    """The same of nginx-proxy's: the variable is named, and nothing of the value is in the record."""
    env = ["SERVICE_NAME=web", "VIRTUAL_HOST=a.test", *BESIDE.get(variable, []), f"{variable}={VALUES[kind]}"]
    decided = decide(ports=PORTS, env=env)

    assert any(variable in one for one in decided.notices), decided.notices
    assert all(one.isprintable() and one.isascii() and len(one) < 400 for one in decided.notices), decided.notices
    assert [one.port for one in decided.container.endpoints] == [80, 443]
    routes = [one.route for one in decided.container.endpoints if one.route]
    assert [(one.hosts, one.path, one.dest, one.cert, one.options) for one in routes] in ([], [PLAIN])
    assert decode(Container, encode(decided.container)) == decided.container
