"""nginx-proxy's variables: which route each gives, what wins over it, and what is said of the rest."""

import json

import pytest
from hypothesis import given as any_of
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pilotfish.catalog.options import Options
from pilotfish.catalog.route import Hsts, Route
from registrator.explaining.inspect import inspect
from registrator.rules import virtual
from registrator.rules.address import Host
from registrator.rules.container import VIRTUAL
from registrator.settings import RegistratorSettings
from tests.registrator.builders import IP, decide, document, endpoint

ONE = {"81/tcp": 8000}
TWO = {"80/tcp": 8000, "90/tcp": 8001}
YEAR = Hsts(365 * 86400)
A = "VIRTUAL_HOST=a.test"
INTERNAL = Options(allow=("127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"))


def route(*hosts, **more):
    """As `HTTPS_METHOD=redirect` gives it."""
    return Route(**{"scheme": "https", "hosts": hosts, "hsts": YEAR, **more})


def multiports(listed):
    return f"VIRTUAL_HOST_MULTIPORTS={listed if isinstance(listed, str) else json.dumps(listed)}"


def routes(decided):
    """Port -> route, of those that have one."""
    return {one.port: one.route for one in decided.container.endpoints if one.route}


# Variables -> the routes by port.
ROUTES = [
    ("a host", ONE, [A], {81: route("a.test")}),
    ("hosts", ONE, ["VIRTUAL_HOST=A.test, *.b.test,,shop"], {81: route("a.test", "*.b.test", "shop")}),
    ("the port that is named", TWO, [A, "VIRTUAL_PORT=90"], {90: route("a.test")}),
    ("80 of several", TWO, [A], {80: route("a.test")}),
    ("80 of none", {}, [A], {80: route("a.test")}),
    ("80 of several others", {"81/tcp": 1, "82/tcp": 2}, [A], {80: route("a.test")}),
    ("a port that is nowhere else", ONE, [A, "VIRTUAL_PORT=7"], {7: route("a.test")}),
    ("the later of two", ONE, ["VIRTUAL_HOST=b.test", A], {81: route("a.test")}),
    ("no host", ONE, ["VIRTUAL_HOST="], {}),
    ("no host, a port", ONE, ["VIRTUAL_PORT=81", "HTTPS_METHOD=nohttps"], {}),
    ("a path", ONE, [A, "VIRTUAL_PATH=/x/"], {81: route("a.test", path="/x/")}),
    (
        "a path and a destination",
        ONE,
        [A, "VIRTUAL_PATH=/x/", "VIRTUAL_DEST=/"],
        {81: route("a.test", path="/x/", strip=True)},
    ),
    (
        "another destination",
        ONE,
        [A, "VIRTUAL_PATH=/x", "VIRTUAL_DEST=/y"],
        {81: route("a.test", path="/x", strip=True, dest="/y")},
    ),
    ("/ in the place of /", ONE, [A, "VIRTUAL_PATH=/", "VIRTUAL_DEST=/"], {81: route("a.test")}),
    ("grpc", ONE, [A, "VIRTUAL_PROTO=grpc"], {81: route("a.test", backend="grpc")}),
    ("https behind", ONE, [A, "VIRTUAL_PROTO=https"], {81: route("a.test", backend="https")}),
    ("noredirect", ONE, [A, "HTTPS_METHOD=noredirect"], {81: route("a.test", http="serve", hsts=None)}),
    ("noredirect with HSTS", ONE, [A, "HTTPS_METHOD=noredirect", "HSTS=max-age=1"],
     {81: route("a.test", http="serve", hsts=None)}),
    ("nohttp", ONE, [A, "HTTPS_METHOD=nohttp"], {81: route("a.test", http="refuse")}),
    ("nohttps", ONE, [A, "HTTPS_METHOD=nohttps", "CERT_NAME=x", "HSTS=off"],
     {81: Route(scheme="http", hosts=("a.test",))}),
    ("HSTS off", ONE, [A, "HSTS=off"], {81: route("a.test", hsts=None)}),
    (
        "HSTS as the header has it",
        ONE,
        [A, "HSTS=max-age=86400; includeSubDomains; preload"],
        {81: route("a.test", hsts=Hsts(86400, subdomains=True, preload=True))},
    ),
    ("a certificate", ONE, [A, "CERT_NAME=shared"], {81: route("a.test", cert="shared")}),
    ("internal", ONE, [A, "NETWORK_ACCESS=internal"], {81: route("a.test", options=INTERNAL)}),
    ("external", ONE, [A, "NETWORK_ACCESS=external"], {81: route("a.test")}),
    ("several ports", TWO, [multiports({"a.test": {"/": {"port": 80}}, "b.test": {"/": {"port": 90}}})],
     {80: route("a.test"), 90: route("b.test")}),
    ("the default port", TWO, [multiports({"a.test": {}, "b.test": None, "c.test": {"/": None}}), "VIRTUAL_PORT=90"],
     {80: route("a.test", "b.test", "c.test")}),
    ("YAML", TWO, [multiports('a.test:\n  "/":\n    port: 80\nb.test:\n  /x:\n    port: "90"\n    dest: /\n')],
     {80: route("a.test"), 90: route("b.test", path="/x", strip=True)}),
    ("several ports beside a host", ONE, [multiports({"b.test": {}}), A], {81: route("b.test")}),
    ("a path that / serves too", ONE, [multiports({"a.test": {"/x": {}, "/": {}}})], {81: route("a.test")}),
]  # fmt: skip


@pytest.mark.parametrize(("ports", "env", "found"), [row[1:] for row in ROUTES], ids=[row[0] for row in ROUTES])
def test_what_the_variables_give(ports, env, found):
    """The route is that of the tags that docs/tags.md names, and nothing is said."""
    decided = decide(ports=ports, env=env, name="c")
    assert routes(decided) == found
    assert [text for text in decided.notices if any(name in text for name in VIRTUAL)] == []


BALANCE = f"{virtual.LABEL}loadbalance"


@pytest.mark.parametrize("balance", ["ip_hash;", "ip_hash", "hash $remote_addr;", " hash  $remote_addr consistent ; "])
def test_balance_by_client_is_stickiness(balance):
    """The label that keeps a client at its container is read."""
    decided = decide(ports=ONE, env=[A], labels={BALANCE: balance})
    assert routes(decided) == {81: route("a.test", options=Options(sticky=True))}


# What cannot be done -> routes by port, and the remark.
MULTI = "VIRTUAL_HOST_MULTIPORTS"
MANY = "\n".join(["a.test: &a", *(f" /{number}:" for number in range(999)), *(f"{n}: *a" for n in range(999))])
LEFT_OUT = [
    ("a pattern", ["VIRTUAL_HOST=~^a,b.test"], {81: route("b.test")}, "VIRTUAL_HOST (env): '~^a' is no host: a "),
    ("a wildcard behind", ["VIRTUAL_HOST=a.*"], {}, "VIRTUAL_HOST (env): 'a.*' is no host: a host name"),
    ("no host is left", ["VIRTUAL_HOST=a.*"], {}, "VIRTUAL_HOST (env): 'a.*' leaves no host; it is not proxied"),
    ("an address", ["VIRTUAL_HOST=10.0.0.1"], {}, "VIRTUAL_HOST (env): '10.0.0.1' is an address, not a host name"),
    ("reserved", ["VIRTUAL_HOST=x.localhost,b.test"], {81: route("b.test")},
     "VIRTUAL_HOST (env): 'x.localhost' is a reserved name; this host is left out"),
    ("no port", [A, "VIRTUAL_PORT=x"], {}, "VIRTUAL_PORT (env): 'x' is no port"),
    ("fastcgi", [A, "VIRTUAL_PROTO=fastcgi"], {}, "VIRTUAL_PROTO (env): fastcgi is not spoken here"),
    ("no protocol", [A, "VIRTUAL_PROTO=x"], {}, "VIRTUAL_PROTO (env): 'x' is none of http, https, grpc, grpcs"),
    ("a path by pattern", [A, "VIRTUAL_PATH=~ ^/a"], {}, "VIRTUAL_PATH (env): '~ ^/a' is no path"),
    ("no destination", [A, "VIRTUAL_PATH=/x", "VIRTUAL_DEST=x"], {}, "VIRTUAL_DEST (env): 'x' is no path"),
    ("a destination alone", [A, "VIRTUAL_DEST=/x"], {}, "VIRTUAL_HOST='a.test': not proxied: VIRTUAL_DEST goes with"),
    ("another method", [A, "HTTPS_METHOD=Nohttp"], {},
     "HTTPS_METHOD (env): 'Nohttp' is none of redirect, noredirect, nohttp, nohttps; it is not proxied"),
    ("another access", [A, "NETWORK_ACCESS=x"], {}, "NETWORK_ACCESS (env): 'x' is none of internal, external"),
    ("no HSTS", [A, "HSTS=x"], {81: route("a.test", hsts=None)}, "HSTS (env): 'x' is no duration"),
    ("no certificate", [A, "CERT_NAME=a/b"], {}, "CERT_NAME (env): 'a/b' is no certificate"),
    ("no YAML", [multiports("a: [")], {}, f"{MULTI} (env): line 1: "),
    ("a million paths by aliases", [multiports(MANY)], {}, f"{MULTI} (env): more than 4096 paths of all its hosts"),
    ("no map", [multiports(["a"])], {}, f"{MULTI} (env): it is no map: it holds hosts, then paths"),
    ("no map of paths", [multiports({"a.test": "x", "b.test": {}})], {81: route("b.test")},
     f"{MULTI} (env): 'a.test' is no map"),
    ("no map of ports", [multiports({"a.test": {"/": ["x"]}, "b.test": {}})], {81: route("b.test")},
     f"{MULTI} (env): 'a.test/' is no map"),
    ("no port of several", [multiports({"a.test": {"/": {"port": "x"}}, "b.test": {}})], {81: route("b.test")},
     f"{MULTI} (env): 'x' is no port"),
    ("a port that is a list", [multiports({"a.test": {"/": {"port": [1]}}, "b.test": {}})], {81: route("b.test")},
     f"{MULTI} (env): port of 'a.test/' is no text; this host is left out"),
    ("two paths of a port", [multiports({"a.test": {"/x": {"dest": "/"}, "/": {}}})], {81: route("a.test")},
     f"{MULTI} (env): '/x of a.test' is left out: port 81 serves '/ of a.test'"),
    ("hosts with a path each", [multiports({"a.test": {"/x": {}}, "b.test": {"/y": {}}})],
     {81: route("a.test", path="/x")}, f"{MULTI} (env): '/y of b.test' is left out"),
    ("too long", [multiports("a" * 20000)], {}, f"{MULTI} (env): 20000 characters, 16384 are the most"),
]  # fmt: skip


@pytest.mark.parametrize(("env", "found", "said"), [row[1:] for row in LEFT_OUT], ids=[row[0] for row in LEFT_OUT])
def test_what_is_left_out_is_said(env, found, said):
    """It costs its own host or route; the container's own tags, and its other ports, stay."""
    decided = decide(ports=ONE, env=["SERVICE_NAME=web", *env])
    assert routes(decided) == found
    assert any(text.startswith(said) for text in decided.notices), decided.notices
    assert endpoint(decided, 81).service == "web"


LABELS = [
    ("certificates of clients", {f"{virtual.LABEL}ssl_verify_client": "on"}, {}, "ssl_verify_client (label): 'on'"),
    ("none of them", {f"{virtual.LABEL}ssl_verify_client": "off"}, {81: route("a.test")}, ""),
    ("another balance", {BALANCE: "least_conn;"}, {81: route("a.test")}, "'least_conn' has no effect: SERVICE_WEIGHT"),
]


@pytest.mark.parametrize(("labels", "found", "said"), [row[1:] for row in LABELS], ids=[row[0] for row in LABELS])
def test_labels(labels, found, said):
    """Who asks for a guard that a label cannot give is not served without it."""
    decided = decide(ports=ONE, env=[A], labels=labels)
    assert routes(decided) == found
    assert any(said in text for text in decided.notices) is bool(said)


# Our tags beside theirs -> routes by port.
BESIDE = [
    ("PROXY takes the place of all", ["SERVICE_81_PROXY=http", "HTTPS_METHOD=nohttp"], {81: Route(scheme="http")}),
    ("PROXY of the container too", ["SERVICE_PROXY=http"], {81: Route(scheme="http")}),
    ("an empty PROXY too", ["SERVICE_81_PROXY="], {}),
    ("another key its own", ["SERVICE_81_PROXY_HOST=b.test"], {81: route("b.test")}),
    ("a guard beside", ["SERVICE_81_PROXY_AUTH=staff"], {81: route("a.test", options=Options(auth="staff"))}),
    ("the container's guard", ["SERVICE_PROXY_ALLOW=9.9.9.9", "NETWORK_ACCESS=internal"],
     {81: route("a.test", options=Options(allow=("9.9.9.9/32",)))}),
    ("another port", ["SERVICE_90_PROXY=http", "SERVICE_90_NAME=x"], {81: route("a.test"), 90: Route(scheme="http")}),
    ("IGNORE", ["SERVICE_81_IGNORE=yes"], {}),
]  # fmt: skip


@pytest.mark.parametrize(("env", "found"), [row[1:] for row in BESIDE], ids=[row[0] for row in BESIDE])
def test_our_tags_win(env, found):
    """PROXY as a whole, every other key over its own."""
    assert routes(decide(ports=ONE, env=[A, *env])) == found


# NETWORK_ACCESS=internal beside our own PROXY -> who may, by port; each row once more where PROXY_ALLOW says who.
OTHERS = {"8080/tcp": 8000, "8443/tcp": 8001}
TOO_MANY = {f"{port}/tcp": port for port in range(81, 146)}
GUARDED = [
    ("PROXY of the port", ONE, ["SERVICE_81_PROXY=http"], [81]),
    ("PROXY of the container", ONE, ["SERVICE_PROXY=http"], [81]),
    ("an empty PROXY", ONE, ["SERVICE_81_PROXY="], []),
    ("no PROXY", ONE, ["SERVICE_X=y"], [81]),
    ("no host that is left", ONE, ["SERVICE_PROXY=http", "VIRTUAL_HOST=~^x$"], [81]),
    ("no YAML", ONE, ["SERVICE_PROXY=http", multiports("a: [")], [81]),
    ("another method", ONE, ["SERVICE_PROXY=http", "HTTPS_METHOD=wat"], [81]),
    ("another protocol", ONE, ["SERVICE_PROXY=http", "VIRTUAL_PROTO=uwsgi"], [81]),
    ("no port", ONE, ["SERVICE_PROXY=http", "VIRTUAL_PORT=x"], [81]),
    ("a port of which the variables know nothing", OTHERS, ["SERVICE_8080_PROXY=http"], [80, 8080]),
    ("a port beside theirs", TWO, ["SERVICE_90_PROXY=http"], [80, 90]),
    ("a port that is nowhere else", ONE, ["SERVICE_90_PROXY=http"], [81, 90]),
    ("theirs is nowhere else, PROXY of the container", ONE, ["SERVICE_PROXY=http", "VIRTUAL_PORT=7"], [81]),
    ("a choice among too many ports", TOO_MANY, ["SERVICE_PROXY=http", "SERVICE_81_NAME=x"], []),
    ("a stream", ONE, ["SERVICE_81_PROXY=tcp"], [81]),
    ("a stream over UDP", {"53/udp": 53}, ["SERVICE_53_PROXY=udp"], [53]),
]


@pytest.mark.parametrize(("ports", "ours", "served"), [row[1:] for row in GUARDED], ids=[row[0] for row in GUARDED])
def test_a_guard_of_theirs_holds_beneath_a_proxy_of_ours(ports, ours, served):
    """Nobody is let in whom NETWORK_ACCESS kept out, unless PROXY_ALLOW says who may; it adds nothing else."""
    env = [A, "NETWORK_ACCESS=internal", *ours]
    for guard, who in ((), INTERNAL.allow), (("SERVICE_PROXY_ALLOW=9.9.9.9",), ("9.9.9.9/32",)):
        decided = decide(ports=ports, env=[*env, *guard])
        assert {port: one.options.allow for port, one in routes(decided).items()} == dict.fromkeys(served, who)
    guarded, bare = decide(ports=ports, env=env), decide(ports=ports, env=[A, *ours])
    assert [(one.port, one.dns) for one in guarded.container.endpoints] == [
        (one.port, one.dns) for one in bare.container.endpoints
    ]
    assert guarded.notices == bare.notices


EMPTY = "empty, so that NETWORK_ACCESS='internal' says who may: take that away, or name networks here"
NO_WORD = "NETWORK_ACCESS (env): 'Internal' is none of internal, external; it is not proxied"
NO_PORT = "'x' is no port: a whole number from 1 to 65535; it is proxied only as PROXY tags say"
# What is said where nobody says who may -> who may, by port; the remarks.
WHO = [
    ("an empty one", ["SERVICE_PROXY=http", "SERVICE_PROXY_ALLOW="],
     {81: INTERNAL}, [f"SERVICE_PROXY_ALLOW (env): {EMPTY}"]),
    ("an empty one without PROXY", ["SERVICE_81_PROXY_ALLOW="],
     {81: INTERNAL}, [f"SERVICE_81_PROXY_ALLOW (env): {EMPTY}"]),
    ("an empty one of the port over another", ["SERVICE_PROXY_ALLOW=9.9.9.9", "SERVICE_81_PROXY_ALLOW="],
     {81: INTERNAL}, [f"SERVICE_81_PROXY_ALLOW (env): {EMPTY}"]),
    ("an empty one that nothing closes", ["SERVICE_81_PROXY_ALLOW=", "NETWORK_ACCESS=external"], {81: None}, []),
    ("everybody", ["SERVICE_81_PROXY_ALLOW=0.0.0.0/0,::/0"], {81: Options(allow=("0.0.0.0/0", "::/0"))}, []),
    ("another word", ["NETWORK_ACCESS=Internal"], {}, [NO_WORD]),
    ("another word beneath PROXY", ["SERVICE_PROXY=http", "NETWORK_ACCESS=Internal"], {}, [NO_WORD]),
    ("another word beneath PROXY of another port", ["SERVICE_90_PROXY=http", "NETWORK_ACCESS=Internal"], {}, [NO_WORD]),
    ("another word and no port", ["SERVICE_PROXY=http", "NETWORK_ACCESS=Internal", "VIRTUAL_PORT=x"], {},
     [f"VIRTUAL_PORT (env): {NO_PORT}", NO_WORD]),
    ("another word, a network", ["SERVICE_PROXY=http", "NETWORK_ACCESS=10.0.0.0/8"], {},
     ["NETWORK_ACCESS (env): '10.0.0.0/8' is none of internal, external; it is not proxied"]),
    ("another word, and who may", ["SERVICE_PROXY_ALLOW=9.9.9.9", "NETWORK_ACCESS=Internal"],
     {81: Options(allow=("9.9.9.9/32",))}, []),
]  # fmt: skip


@pytest.mark.parametrize(("env", "who", "said"), [row[1:] for row in WHO], ids=[row[0] for row in WHO])
def test_who_may_where_it_is_said_badly(env, who, said):
    """An empty PROXY_ALLOW opens nothing, a word that is unknown closes; both are said."""
    decided = decide(ports=ONE, env=[A, "NETWORK_ACCESS=internal", *env])
    assert {port: one.options for port, one in routes(decided).items()} == who
    assert [one for one in decided.notices if "reaches it" not in one] == said


# Variables that lead to no route, beside PROXY of the port -> how the one remark ends; empty: there is none.
REPLACED = [
    ("another method", ["HTTPS_METHOD=wat"], "noredirect, nohttp, nohttps; it is proxied only as PROXY tags say"),
    ("another protocol", ["VIRTUAL_PROTO=uwsgi"], "a web server before it; it is proxied only as PROXY tags say"),
    ("no port", ["VIRTUAL_PORT=x"], NO_PORT),
    ("no YAML", [multiports(["a"])], "then port and dest; it is proxied only as PROXY tags say"),
    ("two paths of a port", [multiports({"a.test": {"/x": {"dest": "/"}, "/": {}}})], ""),
]  # fmt: skip


@pytest.mark.parametrize(("env", "said"), [row[1:] for row in REPLACED], ids=[row[0] for row in REPLACED])
def test_what_a_proxy_of_ours_serves_is_not_said_to_be_left_out(env, said):
    """Who moves to our tags piece by piece is told what becomes of the rest, and nothing that is untrue."""
    decided = decide(ports=ONE, env=[A, "SERVICE_81_PROXY=http", *env])
    assert routes(decided) == {81: Route(scheme="http")}
    assert [one.endswith(said) for one in decided.notices] == [True] * bool(said)


def test_an_empty_proxy_serves_nothing():
    """Then nothing else is said to serve."""
    decided = decide(ports=ONE, env=[A, "SERVICE_81_PROXY=", "HTTPS_METHOD=wat"])
    assert routes(decided) == {}
    assert [one.endswith("nohttps; it is not proxied") for one in decided.notices] == [True]


BOTH = {"443/tcp": 8443, "443/udp": 8443}  # images that speak HTTP/3
OVER_UDP = [
    ("the port that is named", BOTH, ["VIRTUAL_PORT=443"], [(443, "tcp")]),
    ("80 of two", BOTH, [], [(80, "tcp")]),
    ("UDP alone", {"443/udp": 8443}, [], []),
    ("UDP alone, named", {"443/udp": 8443, "80/tcp": 80}, ["VIRTUAL_PORT=443"], []),
]


@pytest.mark.parametrize(("ports", "env", "served"), [row[1:] for row in OVER_UDP], ids=[row[0] for row in OVER_UDP])
def test_a_port_of_udp_gets_no_route_of_http(ports, env, served):
    """Ports are told apart by their protocol; as there, both of one number count as two where none is named."""
    decided = decide(ports=ports, env=[A, *env])
    assert [(one.port, one.protocol) for one in decided.container.endpoints if one.route] == served


def test_the_name_is_the_usual_one_and_the_route_needs_no_published_port():
    """As nginx-proxy's users start containers: EXPOSE alone; one host for the containers of a service."""
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    decided = decide(expose=["81/tcp"], env=[A], labels=labels)
    assert [(one.service, one.route) for one in decided.container.endpoints] == [("web.shop", route("a.test"))]
    assert decided.left_out == ()


def test_off():
    """With --virtual-host off they mean nothing, and nothing is said of them."""
    decided = decide({"virtual_host": "off"}, ports=ONE, env=["VIRTUAL_HOST=~x"])
    assert decided == decide(ports=ONE)


def test_a_swarm_of_hosts_is_told_in_few_remarks():
    """A variable of 1,000 bad hosts does not fill the log."""
    decided = decide(ports=ONE, env=[f"VIRTUAL_HOST={','.join(f'~{n}' for n in range(1000))}"])
    assert len(decided.notices) == virtual.MAX_REMARKS + 2  # and one on the untagged port
    assert "and 985 more such remarks" in decided.notices[virtual.MAX_REMARKS]


def test_inspect_names_the_variable_and_who_was_first():
    """Its word for the rule, the variable as it was written, and what two services of one host are told."""
    two = [document(ports=ONE, env=[A], image=name, name=name, id_=name * 64) for name in "ab"]
    first, second = inspect(two, Host("h", (IP,)), RegistratorSettings())["containers"]
    why = {one["about"]: (one["rule"], one["reason"]) for one in first["endpoints"][0]["why"]}
    assert why["route"] == why["proxy_host"] == ("virtual-host", "VIRTUAL_HOST='a.test' (env)")
    late = "a.test/: service a asks for it too: the first gets it; both serve it when both have one SERVICE_NAME"
    assert (late in first["notices"], late in second["notices"]) == (False, True)


WORDS = st.text(max_size=20) | st.sampled_from(
    [
        "a.test",
        "a.test,b.test",
        "*.a.test",
        "80",
        "/x",
        "/",
        "internal",
        "nohttp",
        "grpc",
        "off",
        "",
        "a: {/: {port: 80}}",
    ]
)
VARIABLES = st.lists(st.builds("{}={}".format, st.sampled_from(sorted(VIRTUAL)), WORDS), max_size=8)
OURS = st.lists(
    st.builds(
        "SERVICE_{}={}".format, st.sampled_from(["NAME", "80_PROXY", "PROXY", "PROXY_ALLOW", "80_IGNORE"]), WORDS
    ),
    max_size=4,
)


@hypothesis_settings(max_examples=300, deadline=None)
@any_of(VARIABLES, OURS, st.sampled_from([ONE, TWO, {}]))
def test_whatever_they_hold(theirs, ours, ports):
    """Nothing raises; what is said is printable; without a host our tags alone decide; twice is as once."""
    decided = decide(ports=ports, env=[*theirs, *ours])
    assert decided == decide(ports=ports, env=[*theirs, *ours])
    assert all(text.isprintable() and text.isascii() and len(text) < 400 for text in decided.notices)
    if not any(one.startswith("VIRTUAL_HOST") and one.partition("=")[2] for one in theirs):
        assert decided == decide(ports=ports, env=ours)


@hypothesis_settings(max_examples=300, deadline=None)
@any_of(VARIABLES, OURS, st.sampled_from([ONE, TWO, {}]), st.sampled_from(["internal", "Internal", "10.0.0.0/8"]))
def test_whatever_stands_beside_it_what_was_kept_in_is_not_open(theirs, ours, ports, word):
    """There is no route that everybody may use."""
    decided = decide(ports=ports, env=[A, *theirs, *ours, f"NETWORK_ACCESS={word}"])
    assert [one for one in routes(decided).values() if not (one.options and one.options.allow)] == []
