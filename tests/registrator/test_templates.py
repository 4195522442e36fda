"""The admin's key templates: the seed's own lines give the seed's own keys, in Go text and in Jinja2."""

import pytest

from pilotfish.catalog.settings import BadSettings
from pilotfish.catalog.verdict import Verdict
from registrator.rules.exports import judge_exports
from registrator.rules.templates import parse, split
from registrator.settings import RegistratorSettings
from tests.registrator.builders import ID, IP, decide

SEED_LINES = {
    "ETCD_TMPL_PROXY": "{{if .Attrs.proxy}}/reg/proxy/{{.Attrs.proxy}}/{{.Name}}/{{.ID}} "
    "{{.Published.HostIP}}:{{.Published.HostPort}}{{end}}",
    "ETCD_TMPL_SKYDNS": "{{if .Attrs.dns}}/skydns/local/localnet/{{.Attrs.dns}}/{{.ID}} "
    '{"host":"{{.Published.HostIP}}","port":{{.Published.HostPort}}}{{end}}',
    "ETCD_TMPL_PROXYDNS": "{{if .Attrs.proxydns}}/skydns/local/localnet/{{.Attrs.proxydns}}/{{.ID}} "
    '{"host":"ngconfd.localnet.local","port":{{.Published.HostPort}}}{{end}}',
    "ETCD_TMPL_ALL": "/reg/all/{{.Name}}/{{.ID}} {{.Published.HostIP}}:{{.Published.HostPort}}",
}
JINJA_LINES = {
    f"{name}_J2": text.replace("{{if .", "{% if ").replace("{{end}}", "{% endif %}").replace("{{.", "{{")
    for name, text in SEED_LINES.items()
}
JINJA_LINES = {name: text.replace("}}/", "%}/", 1) if "{% if" in text else text for name, text in JINJA_LINES.items()}
ESTEST = {
    "name": "estest_1",
    "ports": {"9200/tcp": 49153, "9300/tcp": 49154},
    "env": ["SERVICE_NAME=estest", "SERVICE_9200_PROXY=http", "SERVICE_9200_PROXYDNS=estest"],
}


def exported(texts, host=("h", (IP,)), **container):
    flags = {"etcd_tmpl": texts, "ip": (IP,)}
    decided = decide(flags, host=host, **container)
    return judge_exports(
        decided.container,
        lambda one: Verdict(one.weight, ""),
        lambda _: False,
        RegistratorSettings(**flags),
        parse(texts),
    )


@pytest.mark.parametrize("texts", [SEED_LINES, JINJA_LINES], ids=["go", "jinja2"])
def test_seed_lines(texts):
    """The worked example: exactly the seed's keys and values, and nothing of ours besides."""
    assert exported(texts, host=("Docker01", (IP,)), **ESTEST) == (
        {
            "/reg/all/estest/Docker01:estest_1:9200": "192.168.0.1:49153",
            "/reg/all/estest/Docker01:estest_1:9300": "192.168.0.1:49154",
            "/reg/proxy/http/estest/Docker01:estest_1:9200": "192.168.0.1:49153",
            "/skydns/local/localnet/estest/Docker01:estest_1:9200": '{"host":"ngconfd.localnet.local","port":49153}',
        },
        (),
    )


def test_seed_dns_line():
    """The proxies' own container of the seed: a plain DNS record, value kept byte for byte."""
    env = ["SERVICE_NAME=ngconfd", "SERVICE_80_DNS=ngconfd"]
    keys, problems = exported(SEED_LINES, host=("Docker01", (IP,)), name="ngconfd_1", ports={"80/tcp": 80}, env=env)

    assert keys["/skydns/local/localnet/ngconfd/Docker01:ngconfd_1:80"] == '{"host":"192.168.0.1","port":80}'
    assert problems == ()


OUTPUTS = [
    ("key and value", "/k v", ("/k", "v")),
    ("blanks around the value", "/k  a b ", ("/k", "a b")),
    ("no value", "/k", None),
    ("nothing", "", None),
    ("a blank in front", " /k v", None),
    ("a newline in front", "\n/k v", ("/k", "v")),
    ("JSON", '/k {"host":"1.2.3.4","port":80}', ("/k", '{"host":"1.2.3.4","port":80}')),
    ("only a blank behind", "/k ", None),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in OUTPUTS], ids=[row[0] for row in OUTPUTS])
def test_split(text, expected):
    """Output is cut at the first blank, and both halves are trimmed."""
    assert split(text) == expected


def test_last_of_two_with_one_key_wins():
    """By the order of their names."""
    assert exported({"ETCD_TMPL_B": "/k two", "ETCD_TMPL_A": "/k one"}, ports={"80/tcp": 1}).keys == {"/k": "two"}


VARIABLES = [
    ("ID", "{{.ID}}", "h:c:80"),
    ("Name", "{{.Name}}", "web"),
    ("Port is a number", "{{if eq .Port 8000}}{{.Port}}{{end}}", "8000"),
    ("IP", "{{.IP}}", IP),
    ("Tags", "{{range .Tags}}<{{.}}>{{end}}", "<a><b c>"),
    ("Attrs, known", "{{.Attrs.proxy}}", "http"),
    ("Attrs, in lower case", "{{.Attrs.region}}", "Us2"),
    ("Attrs hold neither NAME, ID nor TAGS", "x{{.Attrs.name}}", None),
    ("TTL", "{{.TTL}}", "30"),
    ("HostPort is text", '{{if eq .Published.HostPort "8000"}}yes{{end}}', "yes"),
    ("HostIP", "{{.Published.HostIP}}", IP),
    ("HostName", "{{.Published.HostName}}", "web.shop"),
    ("ExposedPort", "{{.Published.ExposedPort}}", "80"),
    ("ExposedIP", "{{.Published.ExposedIP}}", "172.17.0.2"),
    ("PortType", "{{.Published.PortType}}", "tcp"),
    ("Container", "{{.Published.Container.Config.Image}}{{.Published.Container.Name}}", "a/redis:3/c"),
    ("Origin", "{{.Origin.HostIP}}:{{.Origin.HostPort}}/{{.Origin.PortType}}", f"{IP}:8000/tcp"),
    ("Origin's container", "{{.Origin.ContainerHostname}} {{.Origin.ContainerName}}", "web.shop c"),
    ("Origin's container id", "{{.Origin.ContainerID}}", ID),
    ("replace", '{{replace .Name "e" "3"}}', "w3b"),
    ("toUpper", "{{.Name | toUpper}}", "WEB"),
    ("join", '{{join .Tags "+"}}', "a+b c"),
    ("json", "{{json .Tags}}", '["a","b c"]'),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in VARIABLES], ids=[row[0] for row in VARIABLES])
def test_variables(text, expected):
    """Every variable of the original and of the fork, under both names."""
    env = ["SERVICE_NAME=web", "SERVICE_80_PROXY=http", "SERVICE_TAGS=a,b c", "SERVICE_REGION=Us2"]
    config = {"Image": "a/redis:3", "Env": env, "Hostname": "web.shop"}
    keys = exported({"ETCD_TMPL_X": f"/k {text}"}, ports={"80/tcp": 8000}, Config=config).keys

    assert keys == ({} if expected is None else {"/k": expected})


OURS = "/pilotfish/ holds the records themselves"
PROBLEMS = [
    (
        "a missing attribute printed",
        "/k {{.Attrs.region}}",
        [],
        "h:c:80: template ETCD_TMPL_X, line 1, column 6: .Attrs.region is not set",
    ),
    (
        "a blank from a tag in the key",
        "/k/{{.Attrs.region}} v",
        ["SERVICE_REGION=a b"],
        "h:c:80: ETCD_TMPL_X: a tag's value with a blank or '/' cannot stand in the key",
    ),
    (
        "a slash from a tag in the key",
        "/k/{{.Attrs.region}} v",
        ["SERVICE_REGION=../../pilotfish/v1/nodes/h"],
        "h:c:80: ETCD_TMPL_X: a tag's value with a blank or '/' cannot stand in the key",
    ),
    (
        "a part of dots",
        "/k/{{.Attrs.region}} v",
        ["SERVICE_REGION=.."],
        "h:c:80: ETCD_TMPL_X: '..' cannot stand in a key: no '/', blank, control character, '.' or '..'",
    ),
    (
        "an empty part",
        "/k//x v",
        [],
        "h:c:80: ETCD_TMPL_X: '' cannot stand in a key: no '/', blank, control character, '.' or '..'",
    ),
    ("no slash in front", "k v", [], "h:c:80: ETCD_TMPL_X: 'k' is no key: it must begin with '/'"),
    (
        "our own keys",
        "/pilotfish/v1/nodes/h v",
        [],
        f"h:c:80: ETCD_TMPL_X: '/pilotfish/v1/nodes/h' is no key for a template: {OURS}",
    ),
]


@pytest.mark.parametrize(("text", "env", "problem"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS])
def test_problems(text, env, problem):
    """What a template cannot make of an endpoint is said by name, and the other templates go on."""
    texts = {"ETCD_TMPL_X": text, "ETCD_TMPL_Y": "/fine {{.ID}}"}

    assert exported(texts, ports={"80/tcp": 1}, env=env) == ({"/fine": "h:c:80"}, (problem,))


def test_blanks_and_slashes_of_a_tag_may_stand_in_the_value():
    keys = exported({"ETCD_TMPL_X": "/k {{.Attrs.path}}"}, ports={"80/tcp": 1}, env=["SERVICE_PATH=/a b"]).keys

    assert keys == {"/k": "/a b"}


BAD = [
    ("Go syntax", "ETCD_TMPL_X", "{{if}}", "template ETCD_TMPL_X, line 1, column 5: missing value for if"),
    ("Go variable", "ETCD_TMPL_X", "/k {{.Nmae}}", "template ETCD_TMPL_X, line 1, column 6: .Nmae is not set"),
    (
        "Go variable behind a guard",
        "ETCD_TMPL_X",
        "{{if .Attrs.dns}}/k {{.Published.Host}}{{end}}",
        "template ETCD_TMPL_X, line 1, column 23: .Published.Host is not set",
    ),
    (
        "Jinja2 syntax",
        "ETCD_TMPL_X_J2",
        "{% if %}",
        "ETCD_TMPL_X_J2: line 1: Expected an expression, got 'end of statement block'",
    ),
    (
        "Jinja2 variable",
        "ETCD_TMPL_X_J2",
        "/k {{ Nmae }}",
        "ETCD_TMPL_X_J2: Nmae is not set; there are ID, Name, Port, IP, Tags, Attrs, TTL, Published, Origin",
    ),
    (
        "Jinja2 field",
        "ETCD_TMPL_X_J2",
        "/k {{ Published.Host }}",
        "ETCD_TMPL_X_J2: 'dict object' has no attribute 'Host'",
    ),
    (
        "Jinja2 reaching for Python",
        "ETCD_TMPL_X_J2",
        "/k {{ ID.__class__.__mro__ }}",
        "ETCD_TMPL_X_J2: access to attribute '__class__' of 'str' object is unsafe.",
    ),
]


@pytest.mark.parametrize(("name", "text", "error"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_templates_are_errors_at_start(name, text, error):
    """A template that can never work is an error of the settings, by the name of its variable."""
    with pytest.raises(BadSettings) as raised:
        parse({name: text, "ETCD_TMPL_FINE": "/k v"})

    assert raised.value.errors == (error,)


def test_all_bad_templates_are_listed_at_once():
    with pytest.raises(BadSettings) as raised:
        parse({"ETCD_TMPL_A": "{{", "ETCD_TMPL_B": "{{end}}"})

    assert [error.split(",")[0] for error in raised.value.errors] == ["template ETCD_TMPL_A", "template ETCD_TMPL_B"]


def test_jinja_guard_and_print():
    """As in Go text: asking is fine, printing what is not set is an error that names it."""
    texts = {"ETCD_TMPL_A_J2": "{% if Attrs.x %}/k v{% endif %}", "ETCD_TMPL_B_J2": "/b {{ Attrs.x }}"}

    assert exported(texts, ports={"80/tcp": 1}) == ({}, ("h:c:80: ETCD_TMPL_B_J2: 'dict object' has no attribute 'x'",))
