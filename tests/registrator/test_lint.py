"""`lint`: what is wrong with a Compose file or saved JSON, and what is only worth knowing."""

import contextlib
import json
import time

import pytest
from click.testing import CliRunner
from hypothesis import given as any_of
from hypothesis import strategies as st

from pilotfish.cli import program
from registrator.explaining.compose import BadCompose, compose
from registrator.explaining.lint import Seen, lint
from registrator.rules.address import Host
from registrator.rules.container import BadDocument, facts
from registrator.rules.yaml import BadYaml, parse
from registrator.settings import RegistratorSettings
from tests.registrator.builders import document

HOST = Host("h", ("192.0.2.1",))


def of(text, **flags):
    """(container, port, rule, severity) of everything that is said of a Compose file."""
    made = compose(parse(text), "shop")
    seen = [Seen("f", facts(one)) for one in made.documents]
    said = [
        (one.container.removeprefix("shop-"), one.port, one.rule, one.severity)
        for one in lint(seen, HOST, RegistratorSettings(**flags))
    ]
    return [(name, "", "compose", "finding") for name, _ in made.problems] + said


def service(body, name="web"):
    return f"services:\n  {name}:\n    image: nginx\n" + "".join(f"    {line}\n" for line in body.splitlines())


CLEAN = [
    ("one port", service("ports: ['8080:80']\nenvironment:\n  SERVICE_NAME: web\n  SERVICE_80_PROXY: http")),
    ("a list", service("ports:\n- 80\nenvironment:\n- SERVICE_NAME=web\n- PATH")),
    ("labels", service('ports: ["80"]\nlabels:\n  - "SERVICE_80_NAME=web"')),
    ("proxied and not published", service("expose: [80]\nlabels: {SERVICE_80_PROXY: http}")),
    ("the host's network", service("network_mode: host\nenvironment: [SERVICE_8080_NAME=api]")),
    ("ignored", service("ports: ['80']\nenvironment: {SERVICE_IGNORE: true}")),
    ("a default of a variable", service('ports: ["80:80"]\nenvironment: {SERVICE_NAME: "${NAME:-web}"}')),
    ("the first version", "web:\n  image: nginx\n  ports: ['80:80']\n  environment:\n    SERVICE_NAME: web\n"),
    ("nothing tagged", service("ports: ['80:80']")),
    ("a default within a default", service('ports: ["${PORT:-${OTHER:-8080}}:80"]\nenvironment: {SERVICE_NAME: web}')),
    ("defaults three deep", service('ports: ["80:80"]\nlabels: {SERVICE_NAME: "${A:-${B:-w${C-e}}b}"}')),
    ("a protocol in upper case", service("ports: ['53:53/UDP']\nlabels: {SERVICE_53_NAME: a}")),
    (
        "a protocol in upper case, in the long form",
        service("ports: [{target: 80, published: 80, protocol: TCP}]\nlabels: {SERVICE_80_PROXY: http}"),
    ),
    ("scaled", service("ports: ['80']\nscale: 3\nenvironment: {SERVICE_NAME: web}")),
    ("nginx-proxy's", service("expose: [80]\nenvironment: {VIRTUAL_HOST: a.test, VIRTUAL_PORT: 80, SSL_POLICY: x}")),
    (
        "nginx-proxy's several ports",
        service("expose: [80, 90]\nenvironment:\n  VIRTUAL_HOST_MULTIPORTS: |-\n    a.test: {/: {port: 90}}"),
    ),
]


@pytest.mark.parametrize("text", [row[1] for row in CLEAN], ids=[row[0] for row in CLEAN])
def test_clean(text):
    assert [said for said in of(text) if said[3] == "finding"] == []


WRONG = [
    ("a bad value", "ports: ['80:80']\nlabels: {SERVICE_WEIGHT: much}", ("web-1", "", "value", "finding")),
    (
        "a bad value that costs the port",
        "ports: ['80:80']\nlabels: {SERVICE_NAME: a b}",
        ("web-1", "80/tcp", "tag", "finding"),
    ),
    (
        "an unknown tag near a known one",
        "ports: ['80:80']\nlabels: {SERVICE_PROXI: http}",
        ("web-1", "", "unknown-tag", "finding"),
    ),
    (
        "a tag for no port",
        "ports: ['80:80']\nlabels: {SERVICE_81_NAME: a, SERVICE_08_NAME: b}",
        ("web-1", "", "no-such-port", "finding"),
    ),
    (
        "PROXY on several ports",
        "ports: ['80:80', '81:81']\nlabels: {SERVICE_PROXY: http}",
        ("web-1", "", "proxy-port", "finding"),
    ),
    (
        "DNS and PROXYDNS",
        "ports: ['80:80']\nlabels: {SERVICE_80_PROXY: http, SERVICE_80_DNS: a, SERVICE_80_PROXYDNS: a}",
        ("web-1", "", "names", "finding"),
    ),
    ("not published", "expose: [80]\nlabels: {SERVICE_80_NAME: a}", ("web-1", "80/tcp", "unpublished", "finding")),
    ("nothing published", "expose: [80]\nlabels: {SERVICE_NAME: a}", ("web-1", "80/tcp", "unpublished", "finding")),
    ("a reserved name", "ports: ['80:80']\nlabels: {SERVICE_NAME: dns}", ("web-1", "", "reserved", "finding")),
    (
        "an id of another port",
        "ports: ['80:80', '81:81']\nlabels: {SERVICE_80_ID: h:shop-web-1:81}",
        ("web-1", "", "id", "finding"),
    ),
    (
        "an id of another container",
        "ports: ['80']\nscale: 2\nlabels: {SERVICE_ID: x}",
        ("web-1", "80/tcp", "id", "finding"),
    ),
    (
        "a network that it is not on",
        "ports: ['80']\nnetworks: [back]\nlabels: {SERVICE_NETWORK: front}",
        ("web-1", "80/tcp", "tag", "finding"),
    ),
    ("a host by pattern", "ports: ['80']\nenvironment: ['VIRTUAL_HOST=~^a,b']", ("web-1", "", "value", "finding")),
    ("UDP behind http", "ports: ['80/udp']\nlabels: {SERVICE_80_PROXY: http}", ("web-1", "", "route", "finding")),
    ("a port that is none", "ports: ['80:http']", ("web", "", "compose", "finding")),
    (
        "a port of a default within a default",
        "ports: ['80:${PORT:-${OTHER:-http}}']",
        ("web", "", "compose", "finding"),
    ),
    ("more ports than are looked at", "ports: [1-999, 1000-1002]", ("web", "", "compose", "finding")),
    ("more exposed ports than are looked at", "expose: [1-999, 1000-1002]", ("web", "", "compose", "finding")),
    ("ports that are no list", "ports: '80:80'", ("web", "", "compose", "finding")),
    ("exposed ports that are no list", "expose: 80", ("web", "", "compose", "finding")),
    ("a merge in braces", "ports: [80]\nlabels: {<<: *bad, SERVICE_TTL: 5}", ("web-1", "80/tcp", "tag", "finding")),
    ("one name for several containers", "container_name: x\nscale: 2", ("web", "", "compose", "finding")),
]


@pytest.mark.parametrize(("body", "expected"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong(body, expected):
    """Each is a finding, by its rule."""
    assert expected in of('x-bad: &bad {SERVICE_NAME: "bad name"}\n' + service(body))


HIDING = [
    ("a bad name", "SERVICE_NAME: a b"),
    ("a bad boolean", "SERVICE_INTERNAL: perhaps"),
    ("a bad network", "SERVICE_NETWORK: '?'"),
    ("a network that it is not on", "SERVICE_NETWORK: other"),
]


@pytest.mark.parametrize("tag", [row[1] for row in HIDING], ids=[row[0] for row in HIDING])
def test_what_leaves_a_port_out_hides_nothing(tag):
    """All that is wrong is told in one round."""
    said = of(service(f"ports: ['80:80']\nlabels: {{{tag}, SERVICE_IP: x, SERVICE_WEIGHT: much, SERVICE_WIGHT: 1}}"))
    assert [one[1:] for one in said] == [
        ("80/tcp", "tag", "finding"),
        ("", "value", "finding"),
        ("", "value", "finding"),
        ("", "unknown-tag", "finding"),
    ]


NOTICED = [
    ("an unknown tag", "ports: ['80:80']\nlabels: {SERVICE_REGION: us2}", "unknown-tag"),
    ("a port that no tag is for", "ports: ['80:80', '81:81']\nlabels: {SERVICE_80_NAME: a}", "notice"),
    ("a further port, exposed only", "ports: ['80:80']\nexpose: [81]\nlabels: {SERVICE_NAME: a}", "unpublished"),
    ("a network by addresses", "ports: ['80']\nlabels: {SERVICE_NETWORK: 10.0.0.0/8}", "tag"),
]


@pytest.mark.parametrize(("body", "rule"), [row[1:] for row in NOTICED], ids=[row[0] for row in NOTICED])
def test_noticed(body, rule):
    """Worth knowing, and nothing wrong."""
    assert {(one[2], one[3]) for one in of(service(body))} == {(rule, "notice")}


def test_of_what_is_not_tagged_nothing_is_said():
    assert (
        of(service("ports: ['80:80']\nnetwork_mode: bridge") + service("command: x", "db").removeprefix("services:\n"))
        == []
    )


def test_two_services_ask_for_one_route():
    route = "ports: ['80']\nlabels: {SERVICE_80_PROXY: http, SERVICE_80_PROXY_HOST: x.example, SERVICE_80_NAME: NAME}"
    text = service(route.replace("NAME}", "a}"), "a") + service(route.replace("NAME}", "b}"), "b").removeprefix(
        "services:\n"
    )
    assert of(text) == [("b-1", "80/tcp", "route", "finding")]


def test_one_name_is_tagged_here_and_proxied_there():
    one = service("ports: ['80']\nlabels: {SERVICE_80_PROXY: http, SERVICE_NAME: a}", "a")
    other = service("ports: ['80']\nlabels: {SERVICE_80_DNS: a, SERVICE_NAME: b}", "b").removeprefix("services:\n")
    assert of(one + other) == [("b-1", "80/tcp", "names", "finding")]


def test_shared_networks_of_a_compose_file():
    text = service("ports: ['8080:80']", "pause") + service(
        "network_mode: service:pause\nexpose: [80]\nlabels: {SERVICE_NAME: a}"
    ).removeprefix("services:\n")
    assert [one for one in of(text) if one[3] == "finding"] == []


def test_shared_networks_of_a_service_with_a_name_of_its_own():
    """The container is found by the name that it is given."""
    text = service("container_name: hold\nports: ['8080:80']", "pause") + service(
        "network_mode: service:pause\nexpose: [80]\nlabels: {SERVICE_NAME: a}"
    ).removeprefix("services:\n")
    assert [one for one in of(text) if one[3] == "finding"] == []


SENTENCES = [
    ("no port", "ports: ['80:http']", "ports: '80:http' is none"),
    ("too many in one", "ports: ['1-1001']", "ports: '1-1001' are 1001, at most 1000 are looked at"),
    ("no target", "ports: [{published: 80}]", "ports: an entry without target: name the port of the container by it"),
    ("no list", "ports: '80:80'", "ports: '80:80' is no list: put `- ` before it"),
]


@pytest.mark.parametrize(("body", "sentence"), [row[1:] for row in SENTENCES], ids=[row[0] for row in SENTENCES])
def test_what_compose_would_refuse_is_said(body, sentence):
    assert compose(parse(service(body)), "shop").problems == [("web", sentence)]


def test_tags_that_only_a_swarm_reads():
    """Labels under `deploy` are the service's, not the container's."""
    labels = "deploy: {labels: {SERVICE_NAME: a, SERVICE_TTL: 5, other: x}}\nlabels: {SERVICE_TTL: 5}"
    text = "deploy.labels: SERVICE_NAME is read in a swarm only; else it belongs under labels"
    assert compose(parse(service(labels)), "shop").notes == [("web", text)]


UNSEEN = [
    ("files that are included", service("ports: [80]") + "include: [other.yml]\n", ("", "include: the files that it")),
    ("files that are included, alone", "include:\n- other.yml\n", ("", "include: the files that it")),
    ("a file with environment", service("env_file: x"), ("web", "env_file: tags in it are not seen")),
    (
        "a tag without a value, in a list",
        service("environment: [SERVICE_NAME, PATH]"),
        ("web", "SERVICE_NAME: its value comes from the shell"),
    ),
    (
        "a tag without a value, in a map",
        service("environment: {SERVICE_80_NAME: , PATH: }"),
        ("web", "SERVICE_80_NAME: its value comes from the shell"),
    ),
    ("a variable", service("container_name: ${NAME}"), ("web", "${NAME} is not known here")),
    ("defaults without end", service("container_name: " + "${A:-" * 17 + "}" * 17), ("web", "${A} is not known here")),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in UNSEEN], ids=[row[0] for row in UNSEEN])
def test_what_a_file_does_not_tell_is_said_once(text, expected):
    """One note each, by name."""
    [(name, note)] = compose(parse(text), "shop").notes
    assert (name, note[: len(expected[1])]) == expected


FILLED = [
    ("a dollar", "a$$b$${c}", "a$b${c}"),
    ("a brace behind", "${A:-b}c}", "bc}"),
    ("not closed", "${A:-b", "${A:-b"),
    ("a default that is closed in one that is not", "${A:-${B:-c}", "${A:-c"),
    ("another value", "${A:+b}c", "c"),
    ("empty", "${A-}b", "b"),
]


@pytest.mark.parametrize(("text", "filled"), [row[1:] for row in FILLED], ids=[row[0] for row in FILLED])
def test_variables_are_filled_in(text, filled):
    """By their defaults, braces as they match."""
    [made] = compose({"services": {"a": {"image": text}}}, "p").documents
    assert made["Config"]["Image"] == filled


MUCH = [
    ("ports", "{image: x, ports: [1-1000]}", 51),
    ("labels", "{image: x, labels: {" + "".join(f"k{n}: v, " for n in range(500)) + "}}", 101),
    (
        "variables without containers",
        "{scale: 0, environment: [" + "k=v, " * 500 + "]}",
        101,
    ),
    ("networks", "{image: x, networks: [" + "".join(f"k{n}, " for n in range(500)) + "]}", 101),
    ("long texts", f"{{image: {'x' * 50_000}}}", 101),
    ("long names", f"{{image: x, labels: {{{'x' * 50_000}: x}}}}", 101),
    ("tags for each port", "{ports: [1-100], labels: {" + "".join(f"SERVICE_{n}_X: v, " for n in range(400)) + "}}", 6),
    ("variables that are not known", "{image: '" + "".join(f"${{K{n}}}" for n in range(500)) + "'}", 101),
]


@pytest.mark.parametrize(("body", "services"), [row[1:] for row in MUCH], ids=[row[0] for row in MUCH])
def test_much_of_a_few_lines_is_refused_by_the_service(body, services):
    """Aliases make much of little; what it would cost is bounded, and who went too far is named."""
    text = f"x-a: &a {body}\nservices:\n" + "".join(f"  s{n}: *a\n" for n in range(services))
    with pytest.raises(BadCompose, match=r"service 's\d+': up to it the file has more than"):
        compose(parse(text), "p")


def test_many_ports_with_tags_that_nobody_knows():
    """The nearest known tag is looked for once, not for each port: that took half a minute."""
    body = "ports: [1-100]\nlabels: {" + "".join(f"SERVICE_WIGHT{n}: 1, " for n in range(400)) + "}"
    begun = time.process_time()
    assert len(of(service(body))) >= 400
    assert time.process_time() - begun < 10


YAML = [
    (
        "scalars",
        "a: 1\nb: 'it''s'\nc: \"x\\ny\"\nd: ~\ne: a#b # c",
        {"a": "1", "b": "it's", "c": "x\ny", "d": None, "e": "a#b"},
    ),
    ("lists", "- a\n- - b\n  - c\n-\n  d: e\n- f: g\n  h: i", ["a", ["b", "c"], {"d": "e"}, {"f": "g", "h": "i"}]),
    ("a list beside its key", "a:\n- b\nc:\n- d\n", {"a": ["b"], "c": ["d"]}),
    (
        "flow",
        "a: [b, {c: d, 'e': [f]}, \"g, h\"]\nb: {}\nc: [1,\n  2]",
        {"a": ["b", {"c": "d", "e": ["f"]}, "g, h"], "b": {}, "c": ["1", "2"]},
    ),
    ("blocks", "a: |\n  b\n   c\n\n  d\ne: >-\n  f\n  g\n\n  h\n", {"a": "b\n c\n\nd\n", "e": "f g\nh"}),
    (
        "anchors",
        "a: &x {b: c}\nd: *x\ne:\n  <<: *x\n  f: g\n",
        {"a": {"b": "c"}, "d": {"b": "c"}, "e": {"b": "c", "f": "g"}},
    ),
    ("a merge does not override", "a: &x {b: c}\ne:\n  b: d\n  <<: *x\n", {"a": {"b": "c"}, "e": {"b": "d"}}),
    ("a merge in braces", "a: &x {b: c}\ne: {<<: *x, f: g}\n", {"a": {"b": "c"}, "e": {"b": "c", "f": "g"}}),
    (
        "merges in braces",
        "a: &x {b: c}\nd: &y {b: e}\nf: {<<: [*x, *y]}",
        {"a": {"b": "c"}, "d": {"b": "e"}, "f": {"b": "c"}},
    ),
    ("no merge in quotes", 'a: {"<<": b}', {"a": {"<<": "b"}}),
    (
        "a number sign in quotes, in a list over several lines",
        '["a=b", # c\n "d=e # f", # g\n h]',
        ["a=b", "d=e # f", "h"],
    ),
    ("a number sign in quotes over several lines", '["a=b # x\n y"]', ["a=b # x y"]),
    ("a line break after a backslash", 'a: "we\\\n  b"\nc: ["d\\\n  e"]', {"a": "web", "c": ["de"]}),
    ("a backslash itself at the end", 'a: "b\\\\\n  c"', {"a": "b\\ c"}),
    ("an empty line in quotes", "a: 'b\n\n  c'", {"a": "b\nc"}),
    ("a text over several lines in brackets", "[a\n  b, {c\n  d: e}]", ["a b", {"c d": "e"}]),
    ("a comment line in brackets", "[a,\n# b, [\n c]", ["a", "c"]),
    ("a quote within a text in brackets", "[it's, {b's: c's}]", ["it's", {"b's": "c's"}]),
    ("several lines", 'a: b\n  c\nd: "e\n  f"\n', {"a": "b c", "d": "e f"}),
    ("a document mark", "---\na: b\n...\n", {"a": "b"}),
    ("nothing", "# only a comment\n", None),
    ("colons", "a: http://x:80/\nb:\n- 80:80\n- x=y:z\n", {"a": "http://x:80/", "b": ["80:80", "x=y:z"]}),
]


@pytest.mark.parametrize(("text", "value"), [row[1:] for row in YAML], ids=[row[0] for row in YAML])
def test_yaml(text, value):
    assert parse(text) == value


BAD_YAML = [
    ("a tab", "a:\n\tb: c", "line 2: a tab in front: YAML is indented by blanks"),
    ("a key twice", "a: b\na: c", "line 2: 'a' stands there twice or is no key"),
    ("an unknown alias", "a: *x", "line 1: *x is not known there"),
    ("a tag", "a: !reset []", "line 1: the tag '!reset' is not read here"),
    ("two documents", "a: b\n---\nc: d", "line 2: a second document"),
    ("an open bracket", "a: [b, c", "line 1: a bracket is not closed"),
    ("an open quote", "a: 'b", 'line 1: "\'b": a quote that is not closed, or something behind it'),
    ("a key under a text", "a: b\n  c: d", "line 2: a key below the text 'b'"),
    ("too far in", "a:\n  b: c\n    d: e", "line 3: a key below the text 'c'"),
    ("a colon in a text", "- a: b: c", "line 1: 'b: c' holds a colon: put it in quotes"),
    ("an endless bracket", "a: [\n" + "b,\n" * 600, "line 1: a bracket is not closed"),
    (
        "an open quote in a bracket",
        "a: [b,\n  'c\n",
        'line 1: "\'c": a quote that is not closed, or something behind it',
    ),
    ("a map without braces in a list", "[a: b]", "line 1: 'a: b' holds a colon: put it in quotes"),
    ("half a surrogate pair", 'a: "\\ud800"', "line 1: no character is written \\ud800"),
    ("a merge of no map in braces", "a: {<<: b}", "line 1: <<: is no alias of a map"),
    ("a blank behind the last backslash", 'a: "b\\ \n  c"', "line 1: blanks behind the backslash at the end"),
    (
        "merges without end",
        "a: &a {"
        + "".join(f"k{n}: v, " for n in range(1000))
        + "}\n"
        + "".join(f"m{n}: {{<<: *a}}\n" for n in range(101)),
        "line 102: << brings in more than 100000 keys in all",
    ),
    ("too deep", "[" * 100, "line 1: nested too deeply"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in BAD_YAML], ids=[row[0] for row in BAD_YAML])
def test_what_is_not_read_is_named_by_line(text, message):
    with pytest.raises(BadYaml) as caught:
        parse(text)
    assert str(caught.value) == message


@any_of(st.text(alphabet="ab:- \n'\"[]{},#&*|>\\<!", max_size=60))
def test_any_text_is_read_or_refused(text):
    """Never another error, and never without an end."""
    with contextlib.suppress(BadYaml):
        parse(text)


PLAIN = st.recursive(
    st.text(alphabet="abc019_./=-", min_size=1, max_size=6).filter(
        lambda text: text[0] not in "-=." and text != "null"
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def written(value, indent=0):
    """A value as block YAML."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        return "".join(f"\n{pad}{key}: {written(one, indent + 2)}" for key, one in value.items())
    if isinstance(value, list) and value:
        return "".join(f"\n{pad}- {written(one, indent + 2)}" for one in value)
    return "{}" if value == {} else "[]" if value == [] else value


@any_of(PLAIN)
def test_what_is_written_is_read(value):
    """Blocks, and the same as JSON, which is YAML too."""
    assert parse(written(value)) == value
    assert parse(json.dumps(value)) == value


FIELDS = "services a image ports environment labels networks scale deploy expose network_mode container_name name"
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=4),
)


@any_of(ANYTHING)
def test_any_document_is_a_compose_file_or_refused(anything):
    """Whatever stands in it, the documents can be read as the engine's, or it is said what is missing."""
    made = []
    with contextlib.suppress(BadCompose):
        made = compose(anything, "p").documents
    for one in made:
        with contextlib.suppress(BadDocument):
            facts(one)


REGION = service("ports: ['80']\nlabels: {SERVICE_NAME: a, SERVICE_REGION: 1}")
SAVED = json.dumps([document(ports={"80/tcp": 1}, env=["SERVICE_NAME=a b"])])
WITHOUT_ID = json.dumps([document(ports={"80/tcp": 1}, env=["SERVICE_NAME=a"], id_="")])
RUNS = [
    ("clean", service("ports: ['80']\nlabels: {SERVICE_NAME: a}"), [], 0, ""),
    ("a finding", service("ports: ['80']\nlabels: {SERVICE_NAME: a, SERVICE_WIGHT: 1}"), [], 1, "did you mean WEIGHT?"),
    ("a notice", REGION, [], 0, ": note: unknown-tag: "),
    ("a notice that counts", REGION, ["--strict"], 1, "note"),
    ("no YAML", "a: [", [], 2, "line 1: a bracket is not closed; `docker compose config --format json`"),
    ("no Compose file", "a: b", [], 2, "no Compose file: it has no services"),
    ("saved JSON", SAVED, [], 1, "80/tcp: tag: SERVICE_NAME"),
    ("no JSON", "[1, ", [], 2, "JSON"),
    ("no container", "[1]", [], 2, "document 1 cannot be used"),
    ("one container of two", f"[1, {SAVED[1:]}", [], 1, "document 1 cannot be used: the document is a whole number"),
    ("without an id, as inspect takes it", WITHOUT_ID, [], 0, "note: document: Id is '', which is none of a container"),
    ("JSON that is nested too deeply", "[" * 200_000, [], 2, "JSON is nested too deeply"),
]


@pytest.mark.parametrize(("text", "flags", "code", "words"), [row[1:] for row in RUNS], ids=[row[0] for row in RUNS])
def test_the_command(text, flags, code, words, tmp_path):
    """Exit codes for CI: 0 clean, 1 findings, 2 a file that cannot be used."""
    file = tmp_path / "compose.yml"
    file.write_text(text)
    script = CliRunner().invoke(program, ["lint", *flags, str(file)])
    if code == 2:
        assert (str(script.exception).startswith(str(file)), words in str(script.exception)) == (True, True)
        return
    assert (script.exit_code, words in script.output) == (code, True), script.output


def test_json(tmp_path):
    file = tmp_path / "compose.yml"
    file.write_text(service("ports: ['80']\nlabels: {SERVICE_NAME: a, SERVICE_WEIGHT: x}"))
    [finding] = json.loads(CliRunner().invoke(program, ["lint", "--json", str(file)]).output)["findings"]
    assert {key: finding[key] for key in ("file", "port", "rule", "severity")} == {
        "file": str(file),
        "port": "",
        "rule": "value",
        "severity": "finding",
    }


def test_long_lines_cost_no_more_than_their_length():
    """A pattern that tried every blank would take minutes here, and the test's time-out with it."""
    blanks = " " * 200_000
    assert parse(f"a{blanks}b") == f"a{blanks}b"
    assert parse(f"a: b{blanks}# c") == {"a": "b"}


MANY = 50_000
LONG = [
    ("a bracket", "a: [\n" + "b,\n" * MANY + "]", ["b"] * MANY),
    ("a bracket of maps", "a: [\n" + "{b: c},\n" * MANY + "]", [{"b": "c"}] * MANY),
    ("a quoted text", 'a: "' + "b\n" * MANY + '"', "b " * MANY),
    ("a quoted text in a bracket", "a: ['" + "b\n" * MANY + "']", ["b " * MANY]),
    ("a plain text", "a: " + "b\n  " * MANY, " ".join("b" * MANY)),
]


@pytest.mark.parametrize(("text", "value"), [row[1:] for row in LONG], ids=[row[0] for row in LONG])
def test_long_texts_cost_no_more_than_their_length(text, value):
    """Each line is read once: to read those before again with each would take minutes."""
    begun = time.process_time()
    assert parse(text) == {"a": value}
    assert time.process_time() - begun < 10
