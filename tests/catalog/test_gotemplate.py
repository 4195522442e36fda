"""Go templates: what they print, what they refuse, and that nothing else can happen.

Expectations were produced with Go's text/template: see `gotemplate_cases`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.gotemplate import TemplateError, parse
from tests.catalog.gotemplate_cases import ABSENT, DATA, REFUSED, REFUSED_HERE, RENDERED, SEED


@pytest.mark.parametrize(("template", "expected"), [row[1:] for row in RENDERED], ids=[row[0] for row in RENDERED])
def test_rendered(template, expected):
    """Each template prints what Go prints."""
    assert parse("T", template).render(DATA, missing="go") == expected


@pytest.mark.parametrize("line", SEED.values(), ids=SEED.keys())
def test_seed_lines_are_strict(line):
    """The seed's own lines use nothing that is not there: strict or not, they print the same."""
    template = parse("T", line)

    assert template.render(DATA) == template.render(DATA, missing="empty") == template.render(DATA, missing="go")


@pytest.mark.parametrize(
    ("template", "line", "column", "says"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused(template, line, column, says):
    """Each mistake is found, and the error says where and what."""
    with pytest.raises(TemplateError) as caught:
        parse("ETCD_TMPL_X", template).render(DATA, missing="go")

    error = caught.value
    assert (error.name, error.line, error.column) == ("ETCD_TMPL_X", line, column)
    assert says in error.message
    assert str(error) == f"template ETCD_TMPL_X, line {line}, column {column}: {error.message}"


@pytest.mark.parametrize(("template", "says"), [row[1:] for row in REFUSED_HERE], ids=[row[0] for row in REFUSED_HERE])
def test_refused_here(template, says):
    """What Go would take, and we do not: what is not supported, and what would run away."""
    with pytest.raises(TemplateError, match=says):
        parse("T", template).render(DATA, missing="go")


@pytest.mark.parametrize(("template", "strict", "empty"), [row[1:] for row in ABSENT], ids=[row[0] for row in ABSENT])
def test_absent(template, strict, empty):
    """A value that is not there is an error or empty text, as asked for; asking for it is always allowed."""
    assert parse("T", template).render(DATA, missing="empty") == empty
    if strict is None:
        with pytest.raises(TemplateError, match=r"not set|null"):
            parse("T", template).render(DATA)
    else:
        assert parse("T", template).render(DATA) == strict


def test_error_names_the_field():
    """The message for a missing field spells it as the template does."""
    with pytest.raises(TemplateError) as caught:
        parse("ETCD_TMPL_ALL", "/reg/all/{{.Name}}\n  {{.Attrs.rgion}}").render(DATA)

    assert str(caught.value) == "template ETCD_TMPL_ALL, line 2, column 5: .Attrs.rgion is not set"


def _getv(key, default=None):
    """As confd has it."""
    values = {"/a": "1"}
    if key not in values and default is None:
        raise LookupError(f"key does not exist: {key}")
    return values.get(key, default)


FUNCTIONS = {"getv": _getv, "add": lambda a, b: a + b, "div": lambda a, b: a // b, "ls": lambda: ["x", "y"]}
CALLS = [
    ("plain", '{{getv "/a"}}', "1"),
    ("with a default", '{{getv "/b" "2"}}', "2"),
    ("in a pipeline", '{{"/a" | getv | print "v"}}', "v1"),
    ("as an argument", "{{printf `%v` ls}}", "[x y]"),
    ("in a range", "{{range ls}}<{{.}}>{{end}}", "<x><y>"),
    ("numbers", "{{add 1 2}}", "3"),
    ("no data", "{{if .X}}{{else}}-{{end}}", None),
    ("raises LookupError", '{{getv "/b"}}', None),
    ("raises ZeroDivisionError", "{{div 1 0}}", None),
    ("raises TypeError", "{{add 1 `a`}}", None),
    ("too many arguments", "{{ls 1}}", None),
    ("too few arguments", "{{getv}}", None),
]


@pytest.mark.parametrize(("template", "expected"), [row[1:] for row in CALLS], ids=[row[0] for row in CALLS])
def test_functions(template, expected):
    """Functions come from outside; what they raise about their arguments becomes an error of the template."""
    parsed = parse("T", template, FUNCTIONS)
    if expected is None:
        with pytest.raises(TemplateError):
            parsed.render(None)
    else:
        assert parsed.render(None) == expected


def test_function_takes_precedence():
    """A function from outside replaces Go's of the same name, even `and` and `break`."""
    functions = {"and": lambda *_: "mine", "break": lambda: "broken"}

    assert parse("T", "{{and 0 1}} {{break}}", functions).render(None) == "mine broken"


def test_rendering_twice_is_the_same():
    """A template keeps nothing of a rendering."""
    template = parse("T", "{{$x := 1}}{{range .Tags}}{{$x = .}}{{end}}{{$x}}")

    assert [template.render(DATA), template.render(DATA)] == ["b", "b"]


PIECES = [
    *("{{", "}}", "{{-", "-}}", "{{- ", " -}}", "/*", "*/", "(", ")", "|", ",", " ", "  ", "\n", "\\", '"', "text"),
    *("if", "else", "end", "range", "with", "define", "template", "block", "break", "continue", "nil", "true"),
    *(".", ".Name", ".Attrs.proxy", ".Nope", ".Tags", ".Mixed", ".Map", "$", "$x", "$x := ", "$x = "),
    *('"a"', "`D`", "'a'", "1", "-2", "1.5", "0x", "`%s %5.2f %[1]v`"),
    *("eq", "and", "or", "not", "index", "slice", "print", "printf", "len", "html", "call"),
]
BLOCKS = st.recursive(
    st.sampled_from(
        ["x", "{{.}}", "{{.Name}}", "{{$x}}", "{{.Tags | len}}", "{{break}}", "{{$x = 2}}", "{{index . 0}}"]
    ),
    lambda inner: st.tuples(
        st.sampled_from(["if .Yes", "range .Mixed", "with .Map", "range $i, $x := .Tags", "if $x := .No", "range 3"]),
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3),
    ).map(lambda parts: f"{{{{{parts[0]}}}}}{''.join(parts[1])}{{{{else}}}}{''.join(parts[2])}{{{{end}}}}"),
    max_leaves=20,
)


TEXTS = st.one_of(
    st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join), BLOCKS.map("{{{{$x := 1}}}}{}".format)
)


def _outcome(text, data, missing="error"):
    """What a template prints, or its error."""
    try:
        return parse("T", text).render(data, missing=missing)
    except TemplateError as error:
        return error


@given(TEXTS, st.sampled_from(["error", "empty", "go"]))
def test_any_text(text, missing):
    """Whatever the text, it is rendered or refused with a TemplateError that points into it."""
    outcome = _outcome(text, DATA, missing)
    if not isinstance(outcome, str):
        lines = text.split("\n")
        assert 1 <= outcome.line <= len(lines)
        assert 1 <= outcome.column <= len(lines[outcome.line - 1]) + 1


@given(st.text(alphabet="ab {}%-/.\n").filter(lambda text: "{{" not in text))
def test_text_without_actions_is_copied(text):
    """Text that opens no action comes out as it went in."""
    assert parse("T", text).render(None) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
FORMAT = st.lists(st.sampled_from([*"%%%%%vsdqxXoObcUeEfgGtT+-# 0123456789.[]*a"]), max_size=12).map("".join)


@given(FORMAT, JSON)
def test_any_format(form, value):
    """Whatever format and value, printf prints, or is refused and named."""
    outcome = _outcome("{{printf .f .v .v}}{{.v}}", {"f": form, "v": value})

    assert isinstance(outcome, str) or "printf" in outcome.message or "null" in outcome.message
