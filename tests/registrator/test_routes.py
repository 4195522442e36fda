"""PROXY tags, and the cases of names behind one service: what stands in the record for each."""

import pytest

from pilotfish.catalog.options import Options, Rate, Redirect
from pilotfish.catalog.record import encode
from pilotfish.catalog.route import Hsts, Route
from tests.registrator.builders import decide, endpoint, reasons

ES = {"9200/tcp": 49153, "9300/tcp": 49154}
ONE = {"80/tcp": 8000}

ROUTES = [
    ("http", ["SERVICE_80_PROXY=http"], Route(scheme="http")),
    ("any case", ["SERVICE_80_PROXY=HTTP"], Route(scheme="http")),
    ("https", ["SERVICE_80_PROXY=https", "SERVICE_80_PROXY_BACKEND=https"], Route(scheme="https", backend="https")),
    ("grpc speaks grpc", ["SERVICE_80_PROXY=grpc"], Route(scheme="grpc", backend="grpc")),
    (
        "host, path, strip",
        [
            "SERVICE_80_PROXY=http",
            "SERVICE_80_PROXY_HOST=WWW.Example.com,*.shop.example.com,api",
            "SERVICE_80_PROXY_PATH=/v1",
            "SERVICE_80_PROXY_STRIP=yes",
        ],
        Route(scheme="http", hosts=("www.example.com", "*.shop.example.com", "api"), path="/v1", strip=True),
    ),
    ("tcp on its own port", ["SERVICE_80_PROXY=tcp"], Route(scheme="tcp", port=80)),
    ("tcp on a given port", ["SERVICE_80_PROXY=tcp", "SERVICE_80_PROXY_PORT=5432"], Route(scheme="tcp", port=5432)),
    (
        "all that can be asked for",
        [
            "SERVICE_80_PROXY=http",
            "SERVICE_80_PROXY_STICKY=yes",
            "SERVICE_80_PROXY_TIMEOUT=5m",
            "SERVICE_80_PROXY_BODY=10m",
            "SERVICE_80_PROXY_AUTH=staff",
            "SERVICE_80_PROXY_ALLOW=10.0.0.0/8, fd00::1",
            "SERVICE_80_PROXY_RATE=10/s,connections=5",
            "SERVICE_80_PROXY_REDIRECT=301:https://www.example.com",
            "SERVICE_80_PROXY_COMPRESS=yes",
            "SERVICE_80_PROXY_SECURITY=yes",
            "SERVICE_80_PROXY_MAINTENANCE=yes",
        ],
        Route(
            scheme="http",
            options=Options(
                sticky=True,
                timeout_s=300.0,
                body=10 << 20,
                auth="staff",
                allow=("10.0.0.0/8", "fd00::1/128"),
                rate=Rate(requests=10, burst=10, connections=5),
                redirect=Redirect("www.example.com", "https", code=301),
                compress=True,
                security=True,
                maintenance=True,
            ),
        ),
    ),
    ("asked for nothing", ["SERVICE_80_PROXY=http", "SERVICE_80_PROXY_STICKY=no"], Route(scheme="http")),
    (
        "tcp by its name, on the port of https",
        ["SERVICE_80_PROXY=tcp", "SERVICE_80_PROXY_HOST=db.example.com"],
        Route(scheme="tcp", hosts=("db.example.com",)),
    ),
    (
        "tcp by its name, on a port of its own",
        ["SERVICE_80_PROXY=tcp", "SERVICE_80_PROXY_HOST=db", "SERVICE_80_PROXY_PORT=8883"],
        Route(scheme="tcp", hosts=("db",), port=8883),
    ),
    (
        "a stream for some networks, that may be silent for long",
        ["SERVICE_80_PROXY=tcp", "SERVICE_80_PROXY_ALLOW=10.0.0.0/8", "SERVICE_80_PROXY_TIMEOUT=12h"],
        Route(scheme="tcp", port=80, options=Options(allow=("10.0.0.0/8",), timeout_s=43200.0)),
    ),
    (
        "a certificate, and what browsers keep",
        ["SERVICE_80_PROXY=https", "SERVICE_80_PROXY_CERT=www.example.com", "SERVICE_80_PROXY_HSTS=365d,subdomains"],
        Route(scheme="https", cert="www.example.com", hsts=Hsts(31536000, subdomains=True)),
    ),
    (
        "HSTS as its header has it",
        ["SERVICE_80_PROXY=https", "SERVICE_80_PROXY_HSTS=max-age=60; includeSubDomains; preload"],
        Route(scheme="https", hsts=Hsts(60, subdomains=True, preload=True)),
    ),
    ("HSTS taken back", ["SERVICE_80_PROXY=https", "SERVICE_80_PROXY_HSTS=off"], Route(scheme="https")),
    (
        "another prefix",
        ["SERVICE_80_PROXY=http", "SERVICE_80_PROXY_PATH=/a", "SERVICE_80_PROXY_DEST=/b/c"],
        Route(scheme="http", path="/a", strip=True, dest="/b/c"),
    ),
    (
        "no prefix",
        ["SERVICE_80_PROXY=http", "SERVICE_80_PROXY_PATH=/a", "SERVICE_80_PROXY_DEST=/"],
        Route(scheme="http", path="/a", strip=True),
    ),
    (
        "https beside http",
        ["SERVICE_80_PROXY=https", "SERVICE_80_PROXY_HTTP=Serve"],
        Route(scheme="https", http="serve"),
    ),
    (
        "https without http",
        ["SERVICE_80_PROXY=https", "SERVICE_80_PROXY_HTTP=refuse"],
        Route(scheme="https", http="refuse"),
    ),
    ("none", ["SERVICE_NAME=web"], None),
    ("taken back for this port", ["SERVICE_PROXY=http", "SERVICE_80_PROXY="], None),
]


@pytest.mark.parametrize(("env", "expected"), [row[1:] for row in ROUTES], ids=[row[0] for row in ROUTES])
def test_routes(env, expected):
    """PROXY tags make the route of their port."""
    decided = decide(ports=ONE, env=env)

    assert endpoint(decided, 80).route == expected
    assert decided.notices == ()


NOT = "SERVICE_80_PROXY='http': not proxied: "
RESERVED = " is a reserved name, or that of the proxies or the console"
SHORT = "120 characters and 10 parts at most, whose other spellings can be kept out"
REFUSED = [
    ("udp over a tcp port", ["PROXY=udp"], "SERVICE_80_PROXY='udp': not proxied: 80/tcp is no udp port"),
    (
        "grpc to a plain backend",
        ["PROXY=grpc", "PROXY_BACKEND=http"],
        "SERVICE_80_PROXY='grpc': not proxied: PROXY_BACKEND=http does not go with it: grpc, grpcs",
    ),
    (
        "a guard that streams do not have",
        ["PROXY=tcp", "PROXY_ALLOW=10.0.0.0/8", "PROXY_AUTH=staff"],
        (
            f"{NOT.replace('http', 'tcp')}SERVICE_80_PROXY_AUTH asks for protection that streams have not: "
            "only PROXY_ALLOW guards them"
        ),
    ),
    (
        "a limit that streams do not have",
        ["PROXY=tcp", "PROXY_RATE=10/s"],
        (
            f"{NOT.replace('http', 'tcp')}SERVICE_80_PROXY_RATE asks for protection that streams have not: "
            "only PROXY_ALLOW guards them"
        ),
    ),
    (
        "a guarded path too long to be guarded",
        ["PROXY=http", f"PROXY_PATH=/{'a' * 120}", "PROXY_AUTH=staff"],
        f"{NOT}SERVICE_80_PROXY_AUTH goes with a PROXY_PATH of {SHORT}",
    ),
    (
        "a guarded path of too many parts",
        ["PROXY=http", f"PROXY_PATH={'/a' * 11}", "PROXY_ALLOW=10.0.0.0/8"],
        f"{NOT}SERVICE_80_PROXY_ALLOW goes with a PROXY_PATH of {SHORT}",
    ),
    (
        "another prefix for none",
        ["PROXY=http", "PROXY_DEST=/b"],
        f"{NOT}SERVICE_80_PROXY_DEST goes with a PROXY_PATH, in whose place it stands",
    ),
    (
        "http that is refused",
        ["PROXY=http", "PROXY_HTTP=refuse"],
        f"{NOT}SERVICE_80_PROXY_HTTP=refuse goes with PROXY=https alone",
    ),
    (
        "http that is nothing",
        ["PROXY=https", "PROXY_HTTP=off"],
        "SERVICE_80_PROXY_HTTP (env): 'off' is none of redirect, serve, refuse; it is not proxied",
    ),
    (
        "a certificate that is a path",
        ["PROXY=https", "PROXY_CERT=../key"],
        (
            "SERVICE_80_PROXY_CERT (env): '../key' is no certificate: the name of its file without .crt or .pem, "
            "such as www.example.com; it is not proxied"
        ),
    ),
    (
        "a stream with the proxies' own name",
        ["PROXY=tcp", "PROXY_HOST=proxy.svc.internal"],
        f"SERVICE_80_PROXY='tcp': not proxied: 'proxy.svc.internal'{RESERVED}",
    ),
    (
        "the proxies' own name",
        ["PROXY=http", "PROXYDNS=proxy"],
        f"{NOT}'proxy'{RESERVED}",
    ),
    (
        "the proxies' own host",
        ["PROXY=http", "PROXY_HOST=proxy.svc.internal"],
        f"{NOT}'proxy.svc.internal'{RESERVED}",
    ),
    (
        "a reserved host of a domain",
        ["PROXY=http", "PROXY_HOST=ns.dns.svc.internal"],
        f"{NOT}'ns.dns.svc.internal'{RESERVED}",
    ),
    (
        "a reserved relative host",
        ["PROXY=http", "PROXY_HOST=localhost"],
        f"{NOT}'localhost'{RESERVED}",
    ),
    (
        "a reserved service",
        ["NAME=dns", "PROXY=http"],
        f"{NOT}'dns'{RESERVED}",
    ),
]


@pytest.mark.parametrize(("tags", "notice"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_routes_refused(tags, notice):
    """A route that cannot be as it is asked for is left out; the port stays, without names at the proxies."""
    decided = decide(ports=ONE, env=[f"SERVICE_80_{tag}" for tag in tags])

    assert endpoint(decided, 80).route is None
    assert endpoint(decided, 80).proxydns == ()
    assert notice in decided.notices


IDLE = [
    ("without PROXY", ["SERVICE_80_PROXY_HOST=a.b"], "SERVICE_80_PROXY_HOST: has no effect without PROXY"),
    (
        "a port of http",
        ["SERVICE_PROXY=http", "SERVICE_PROXY_PORT=1"],
        "SERVICE_PROXY_PORT: has no effect with PROXY=http",
    ),
    (
        "a path of tcp",
        ["SERVICE_PROXY=tcp", "SERVICE_PROXY_PATH=/a"],
        "SERVICE_PROXY_PATH: has no effect with PROXY=tcp",
    ),
    (
        "a time of a name",
        ["SERVICE_PROXY=tcp", "SERVICE_PROXY_HOST=a.b", "SERVICE_PROXY_TIMEOUT=5s"],
        "SERVICE_PROXY_TIMEOUT: has no effect with PROXY=tcp and PROXY_HOST",
    ),
    (
        "a certificate of http",
        ["SERVICE_PROXY=http", "SERVICE_PROXY_CERT=a"],
        "SERVICE_PROXY_CERT: has no effect with PROXY=http",
    ),
    (
        "http beside what is http",
        ["SERVICE_PROXY=http", "SERVICE_PROXY_HTTP=serve"],
        "SERVICE_PROXY_HTTP: has no effect with PROXY=http",
    ),
    (
        "HSTS that is none",
        ["SERVICE_PROXY=https", "SERVICE_PROXY_HSTS=1y;x"],
        (
            "SERVICE_PROXY_HSTS (env): '1y' is no duration: a number with ms, s, m, h or d, such as 500ms or 1m30s; "
            "the default is used"
        ),
    ),
    (
        "HSTS with words that it does not know",
        ["SERVICE_PROXY=https", "SERVICE_PROXY_HSTS=1d,everything"],
        (
            "SERVICE_PROXY_HSTS (env): '1d,everything' is no HSTS: whole seconds up to ten years, with subdomains and "
            "preload behind a comma if meant, such as 365d,subdomains; or off; the default is used"
        ),
    ),
    (
        "DNS and PROXYDNS of one name",
        ["SERVICE_80_DNS=a,x", "SERVICE_80_PROXYDNS=X"],
        "80/tcp: both DNS and PROXYDNS name x: the proxies win",
    ),
    (
        "a limit of http for a stream",
        ["SERVICE_80_PROXY=tcp", "SERVICE_80_PROXY_BODY=1m"],
        "SERVICE_80_PROXY_BODY: has no effect with PROXY=tcp",
    ),
    ("a certificate of nothing", ["SERVICE_80_PROXY_CERT=a"], "SERVICE_80_PROXY_CERT: has no effect without PROXY"),
    (
        "mistyped",
        ["SERVICE_80_PROXI=http"],
        "SERVICE_80_PROXI: no tag of ours, kept for templates as 'proxi'; did you mean PROXY?",
    ),
    ("nothing near", ["SERVICE_REGION=us2"], "SERVICE_REGION: no tag of ours, kept for templates as 'region'"),
    (
        "no such port",
        ["SERVICE_NAME=web", "SERVICE_080_NAME=a"],
        "SERVICE_080_NAME: the container has no port 080; it has 80",
    ),
    ("no tag at all", [], "80/tcp: no SERVICE_ tag applies to it: listed under /reg/all only"),
]


@pytest.mark.parametrize(("env", "notice"), [row[1:] for row in IDLE], ids=[row[0] for row in IDLE])
def test_notices(env, notice):
    """What the admin should know about a tag is said once."""
    assert decide(ports=ONE, env=env).notices == (notice,)


def test_notices_come_once_for_all_ports():
    decided = decide(ports={f"{port}/tcp": port for port in range(80, 90)}, env=["SERVICE_REGION=us2"])

    assert decided.notices == ("SERVICE_REGION: no tag of ours, kept for templates as 'region'",)


# --- what stands behind a name

NAMES = [
    ("automatic", [], None),
    ("tagged", ["SERVICE_80_DNS=a,b"], ("a", "b")),
    ("silenced", ["SERVICE_80_DNS=none"], ()),
    ("silenced for the container, not here", ["SERVICE_DNS=none", "SERVICE_80_DNS="], None),
    ("bad", ["SERVICE_80_DNS=a;b"], ()),
]


@pytest.mark.parametrize(("env", "expected"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_dns(env, expected):
    """DNS tags replace the automatic name; a bad one gives none, never the automatic one."""
    assert endpoint(decide(ports=ONE, env=["SERVICE_NAME=web", *env]), 80).dns == expected


SILENT = [
    ("--explicit-dns", {"explicit_dns": True}, ["SERVICE_NAME=web"], ()),
    ("--explicit-dns with a tag", {"explicit_dns": True}, ["SERVICE_DNS=web"], ("web",)),
    ("key templates imply it", {"etcd_tmpl": {"ETCD_TMPL_A": "/a b"}}, ["SERVICE_NAME=web"], ()),
    ("an untagged port", {}, [], ()),
    ("an untagged port with --publish-untagged", {"publish_untagged": True}, [], None),
    ("a reserved name", {}, ["SERVICE_NAME=dns"], ()),
    ("a reserved name with a tag", {}, ["SERVICE_NAME=dns", "SERVICE_DNS=resolver"], ("resolver",)),
]


@pytest.mark.parametrize(("flags", "env", "expected"), [row[1:] for row in SILENT], ids=[row[0] for row in SILENT])
def test_no_automatic_names(flags, env, expected):
    assert endpoint(decide(flags, ports=ONE, env=env), 80).dns == expected


def test_only_tagged_ports_get_names():
    """A tag of one port does not publish its neighbour."""
    decided = decide(ports=ES, env=["SERVICE_9200_NAME=es"])

    assert [(one.service, one.dns) for one in decided.container.endpoints] == [("es", None), ("redis-9300", ())]


def test_generic_proxy_on_several_ports():
    """A container-wide PROXY applies to none of several ports, and asks to name one."""
    decided = decide(ports=ES, env=["SERVICE_NAME=estest", "SERVICE_PROXY=http"])

    assert [one.route for one in decided.container.endpoints] == [None, None]
    assert decided.notices == (
        "SERVICE_PROXY='http': applies to none of 9200/tcp, 9300/tcp: name the port, as in SERVICE_9200_PROXY=http",
    )


@pytest.mark.parametrize(("scheme", "routes"), [("http", ["http", None]), ("udp", [None, "udp"])])
def test_a_proxy_of_a_number_is_for_the_protocol_that_it_goes_over(scheme, routes):
    """443 for https and for QUIC: nothing is to be said of the other."""
    env = ["SERVICE_NAME=web", f"SERVICE_443_PROXY={scheme}", "SERVICE_443_PROXYDNS=www"]
    decided = decide(ports={"443/tcp": 8443, "443/udp": 8443}, env=env)

    found = [one.route and one.route.scheme for one in decided.container.endpoints]
    assert (found, decided.notices) == (routes, ())
    assert [one.proxydns for one in decided.container.endpoints] == [("www",) if one else () for one in routes]


SOLE = [
    ("one published", {"ports": ONE, "expose": ["81/tcp"]}, [80], {"81/tcp": "unpublished"}),
    ("none published, one exposed", {"expose": ["81/tcp"]}, [81], {}),
    (
        "none published, two exposed",
        {"expose": ["81/tcp", "82/tcp"]},
        [],
        {"81/tcp": "unpublished", "82/tcp": "unpublished"},
    ),
    ("one tcp beside udp", {"ports": {**ONE, "80/udp": 8000}}, [80], {}),
    (
        "one is ignored",
        {"ports": {**ONE, "81/tcp": 8001}, "labels": {"SERVICE_81_IGNORE": "1"}},
        [80],
        {"81/tcp": "ignored"},
    ),
    ("one has its own", {"ports": {**ONE, "81/tcp": 8001}, "labels": {"SERVICE_81_PROXY": "tcp"}}, [80, 81], {}),
]


@pytest.mark.parametrize(("container", "ports", "left"), [row[1:] for row in SOLE], ids=[row[0] for row in SOLE])
def test_generic_proxy_on_one_port(container, ports, left):
    """A container-wide PROXY applies where only one port can be meant."""
    decided = decide(env=["SERVICE_PROXY=http"], **container)

    assert [one.port for one in decided.container.endpoints if one.route] == ports
    assert reasons(decided) == left


def test_unpublished_but_proxied_is_told():
    """The proxy of its own host reaches it; nobody else is told of it."""
    decided = decide(expose=["80/tcp"], env=["SERVICE_80_PROXY=http"])

    assert decided.notices == ("80/tcp: only the proxy on this host reaches it: not published",)


def test_more_than_64_ports_are_refused_by_name():
    decided = decide(ports={f"{port}/tcp": port for port in range(1000, 1100)}, env=["SERVICE_NAME=many"])

    assert decided.container.endpoints == ()
    assert len(decided.left_out) == 100
    assert set(reasons(decided).values()) == {"too-many"}
    assert decided.left_out[0].reason == "100 ports are eligible, 64 are the most: choose some by SERVICE_<port>_ tags"


def test_tags_narrow_more_than_64_ports():
    decided = decide(
        ports={f"{port}/tcp": port for port in range(1000, 1100)}, env=["SERVICE_1007_NAME=a", "SERVICE_1099_NAME=b"]
    )

    assert [one.port for one in decided.container.endpoints] == [1007, 1099]
    assert len(decided.left_out) == 98


NUMBERS = [
    ("weight", "SERVICE_WEIGHT=0", 0),
    ("weight", "SERVICE_WEIGHT=65535", 65535),
    ("priority", "SERVICE_80_PRIORITY=5", 5),
    ("ttl", "SERVICE_TTL=60", 60),
    ("version", "SERVICE_VERSION=v2", "v2"),
    ("drain_s", "SERVICE_DRAIN=1m30s", 90.0),
    ("drain_s", "SERVICE_80_DRAIN=20", 20.0),
    ("drain_s", "SERVICE_DRAIN=24h", 86400.0),
]


@pytest.mark.parametrize(("field", "tag", "expected"), NUMBERS, ids=[row[1] for row in NUMBERS])
def test_typed_fields(field, tag, expected):
    assert getattr(endpoint(decide(ports=ONE, env=[tag]), 80), field) == expected


def test_a_tag_that_is_not_set_costs_no_room_in_the_record():
    """A hundred thousand endpoints are held as octets."""
    assert b"drain_s" not in encode(decide(ports=ONE, env=["SERVICE_NAME=web"]).container)
    assert b'"drain_s":5.0' in encode(decide(ports=ONE, env=["SERVICE_DRAIN=5"]).container)
