"""Go templates: what they print, what they refuse, and that nothing else can happen.

The expectations of RENDERED were produced with Go's text/template (Go 1.26, default options, `missing="go"` here), and
each row of REFUSED is refused by Go too, unless it says so.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.gotemplate import TemplateError, parse

DATA = {
    "ID": "h:c:80",
    "Name": "estest",
    "Attrs": {"proxy": "http", "dns": "web", "empty": "", "dash-ed": "d"},
    "Published": {"HostIP": "192.168.0.1", "HostPort": "49153", "ExposedPort": "9200"},
    "Tags": ["a", "b"],
    "None": [],
    "NoMap": {},
    "Nil": None,
    "Zero": 0,
    "One": 1,
    "Neg": -5,
    "Half": 0.5,
    "Million": 1e6 + 0.5,
    "Yes": True,
    "No": False,
    "Mixed": [1, "x", None, True, 2.5, [3], {"k": "v"}],
    "People": [{"Name": "ann", "Age": 3}, {"Name": "bob", "Age": 4}],
    "Map": {"b": 2, "a": 1, "c": {"z": 26}},
    "Word": "é\"<a>&'\n",
    "Url": "a b/ü?=~_-.",
}

# The four lines of the stack that this project succeeds, as its compose file has them.
SEED_PROXY = (
    "{{if .Attrs.proxy}}/reg/proxy/{{.Attrs.proxy}}/{{.Name}}/{{.ID}}"
    " {{.Published.HostIP}}:{{.Published.HostPort}}{{end}}"
)
SEED_SKYDNS = (
    "{{if .Attrs.dns}}/skydns/local/localnet/{{.Attrs.dns}}/{{.ID}}"
    ' {"host":"{{.Published.HostIP}}","port":{{.Published.HostPort}}}{{end}}'
)
SEED_PROXYDNS = (
    "{{if .Attrs.proxydns}}/skydns/local/localnet/{{.Attrs.proxydns}}/{{.ID}}"
    ' {"host":"ngconfd.localnet.local","port":{{.Published.HostPort}}}{{end}}'
)
SEED_ALL = "/reg/all/{{.Name}}/{{.ID}} {{.Published.HostIP}}:{{.Published.HostPort}}"

# title, template, what Go prints
RENDERED = [
    ("empty", "", ""),
    ("text", "a } {x} b", "a } {x} b"),
    ("dot of a range", "{{range .Tags}}[{{.}}]{{end}}", "[a][b]"),
    ("field", "{{.Name}}", "estest"),
    ("chained field", "{{.Published.HostIP}}", "192.168.0.1"),
    ("field of a variable", "{{$p := .Published}}{{$p.HostPort}}", "49153"),
    ("field of parentheses", "{{(index .People 1).Name}}", "bob"),
    ("dollar is the data", "{{range .Tags}}{{$.Name}}{{end}}", "estestestest"),
    ("missing field", "{{.Nope}}", "<no value>"),
    ("field of missing", "{{.Nope.Deep.Er}}", "<no value>"),
    ("nil field", "{{.Nil}}", "<no value>"),
    ("missing in if", "{{if .Attrs.proxydns}}yes{{else}}no{{end}}", "no"),
    ("missing in with", "{{with .Attrs.proxydns}}yes{{else}}no{{end}}", "no"),
    ("missing as argument", "{{printf `%v|%s` .Nope .Nope}}", "<nil>|%!s(<nil>)"),
    ("missing equals nothing", '{{eq .Attrs.nope "http"}} {{ne .Attrs.nope ""}}', "false true"),
    ("missing in a range", "{{range .Nope}}x{{else}}none{{end}}", "none"),
    # truth
    ("true: text", "{{if .Name}}1{{end}}", "1"),
    ("false: empty text", "{{if .Attrs.empty}}1{{else}}0{{end}}", "0"),
    ("false: zero", "{{if .Zero}}1{{else}}0{{end}}", "0"),
    ("true: negative", "{{if .Neg}}1{{else}}0{{end}}", "1"),
    ("true: half", "{{if .Half}}1{{else}}0{{end}}", "1"),
    ("false: empty list", "{{if .None}}1{{else}}0{{end}}", "0"),
    ("false: empty map", "{{if .NoMap}}1{{else}}0{{end}}", "0"),
    ("false: nil", "{{if .Nil}}1{{else}}0{{end}}", "0"),
    ("not", "{{not .Yes}} {{not .None}} {{not 1}}", "false true false"),
    ("constant in if", "{{if 0}}a{{else if false}}b{{else if ``}}c{{else}}d{{end}}", "d"),
    ("and gives the first false", "{{and 1 0 2}} {{and 1 2}} {{and .Attrs.empty 1}}|", "0 2 |"),
    ("or gives the first true", "{{or 0 `x` 2}} {{or 0 false}}", "x false"),
    ("and stops early", "{{and .No (index .None 5)}}", "false"),
    ("or stops early", "{{or .Yes (index .None 5)}}", "true"),
    ("and with a pipeline", "{{1 | and 2}} {{1 | and 0}} {{0 | or 0}}", "1 0 0"),
    # control
    ("else if", "{{if .No}}a{{else if .Yes}}b{{else}}c{{end}}", "b"),
    ("else if chain", "{{if .No}}a{{else if .No}}b{{else if .One}}c{{end}}", "c"),
    ("else with", "{{with .No}}a{{else with .Name}}{{.}}{{else}}c{{end}}", "estest"),
    ("with moves the dot", "{{with .Published}}{{.HostIP}}{{end}}", "192.168.0.1"),
    ("with and a variable", "{{with $x := .Published}}{{$x.HostIP}}{{.HostPort}}{{end}}", "192.168.0.149153"),
    ("else keeps the dot", "{{with .Nope}}{{else}}{{.Name}}{{end}}", "estest"),
    ("range with index", "{{range $i, $e := .Tags}}{{$i}}={{$e}};{{end}}", "0=a;1=b;"),
    ("range with one variable", "{{range $e := .Tags}}{{$e}}{{.}}{{end}}", "aabb"),
    ("range else", "{{range .None}}x{{else}}none{{end}}", "none"),
    ("range over a map is sorted", "{{range $k, $v := .Map}}{{$k}}:{{$v}} {{end}}", "a:1 b:2 c:map[z:26] "),
    ("range over an integer", "{{range 3}}{{.}}{{end}}{{range 0}}x{{else}}-{{end}}", "012-"),
    ("range over a negative integer", "{{range .Neg}}x{{else}}none{{end}}", "none"),
    ("range assigns", "{{$x := 9}}{{range $x = .Tags}}{{end}}{{$x}}", "b"),
    ("range assigns two", "{{$i := 9}}{{$x := 9}}{{range $i, $x = .Tags}}{{end}}{{$i}}{{$x}}", "1b"),
    ("variable in the else of a range", "{{range $x := .None}}{{else}}{{$x}}{{end}}", "[]"),
    ("nested range", "{{range .People}}{{.Name}}{{range $.Tags}}{{.}}{{end}} {{end}}", "annab bobab "),
    ("break", "{{range .Mixed}}{{if eq (print .) `x`}}{{break}}{{end}}{{.}}{{end}}!", "1!"),
    ("break in an else", "{{range 2}}{{range 0}}{{else}}a{{break}}{{end}}b{{end}}", "abab"),
    ("continue", "{{range .Tags}}{{if eq . `a`}}{{continue}}{{end}}{{.}}{{end}}", "b"),
    ("break leaves variables alone", "{{$v := 1}}{{range .Tags}}{{$v := 2}}{{break}}{{end}}{{$v}}", "1"),
    ("assignment reaches out of a block", "{{$v := 1}}{{if .Yes}}{{$v = 2}}{{end}}{{$v}}", "2"),
    ("declaration stays in a block", "{{$v := 1}}{{if .Yes}}{{$v := 2}}{{$v}}{{end}}{{$v}}", "21"),
    ("declaration prints nothing", "[{{$v := 1}}]", "[]"),
    ("declaration in parentheses", "{{($v := 7)}}{{$v}}", "77"),
    ("define and template", '{{define "D"}}<{{.}}>{{end}}{{template "D" .Name}}{{template "D" 5}}', "<estest><5>"),
    ("template without a value", '{{define "D"}}{{.}}{{end}}{{template "D"}}', "<no value>"),
    ("template named by raw text", "{{define `D`}}x{{end}}{{template `D`}}", "x"),
    ("template does not see variables", '{{$x := 1}}{{define "D"}}{{$}}{{end}}{{template "D" 2}}', "2"),
    ("block", '{{block "B" .Name}}[{{.}}]{{end}}', "[estest]"),
    ("recursive template", '{{define "D"}}{{.}}{{if lt . 3}}{{template "D" 3}}{{end}}{{end}}{{template "D" 1}}', "13"),
    ("empty definition does not count", '{{define "D"}}a{{end}}{{define "D"}} {{end}}{{template "D"}}', "a"),
    # trim and comments
    ("trim left", "a \n\t{{- 1}} b", "a1 b"),
    ("trim right", "a {{1 -}} \n b", "a 1b"),
    ("trim both", "a {{- 1 -}} b", "a1b"),
    ("trim around a block", "a {{- if .Yes -}} b {{- end -}} c", "abc"),
    ("trim all text", "{{1}} \n {{- 2}}", "12"),
    ("minus is a sign without space", "a {{-1}}", "a -1"),
    ("comment", "a{{/* c */}}b", "ab"),
    ("comment over lines", "a{{/* c\n{{}} */}}b", "ab"),
    ("trimming comment", "a {{- /* c */ -}} b", "ab"),
    ("spaces inside", "{{\n  .Name\n  | printf `%s`\n}}", "estest"),
    # literals
    ("string escapes", r'{{"\a\"\\\t\n\x41\101\u00e9\U0001F600\xc3\xa9"}}', '\a"\\\t\nA' + "A\u00e9\U0001f600\u00e9"),
    ("raw string", '{{`a\\n\r\n"`}}', 'a\\n\n"'),
    ("characters", r"{{'a'}} {{'\n'}} {{'\''}} {{'\xff'}} {{'é'}}", "97 10 39 255 233"),
    ("integers", "{{1}} {{-2}} {{+3}} {{0x1F}} {{017}} {{0o17}} {{0b11}} {{1_000}}", "1 -2 3 31 15 15 3 1000"),
    ("float with underscores", "{{1_0.5}}", "10.5"),
    ("floats", "{{1.5}} {{1e3}} {{1e6}} {{.5}} {{1.}} {{-1.0}} {{0x1p4}} {{1e-5}}", "1.5 1000 1e+06 0.5 1 -1 16 1e-05"),
    ("large floats", "{{1e20}} {{1e21}} {{123456789.0}} {{100000.0}}", "1e+20 1e+21 1.23456789e+08 100000"),
    ("bools", "{{true}} {{false}}", "true false"),
    ("largest integer", "{{9223372036854775807}} {{-9223372036854775808}}", "9223372036854775807 -9223372036854775808"),
    # pipelines
    ("pipeline gives the last argument", "{{.Name | printf `%s-%s` `a`}}", "a-estest"),
    ("pipeline of three", "{{.Name | len | printf `%03d` | print}}", "006"),
    ("parentheses", "{{printf `%d` (len (printf `%s%s` `ab` .Name))}}", "8"),
    ("parentheses alone", "{{(1)}}{{((`x`))}}", "1x"),
    ("function without arguments", "{{print}}|{{print | print}}", "|"),
    ("bar at the end", "{{.Name|}}", "estest"),
    # functions
    ("eq", "{{eq 1 1}} {{eq 1 2}} {{eq `a` `a`}} {{eq 1.5 1.5}} {{eq true true}}", "true false true true true"),
    ("eq with several", "{{eq 3 1 2 3}} {{eq 3 1 2}} {{eq .Attrs.proxy `tcp` `http`}}", "true false true"),
    ("eq with nil", "{{eq .Nil nil}} {{eq .Nil 1}} {{eq .Name nil}}", "true false false"),
    ("eq by pipeline", "{{.Published.ExposedPort | eq `9200`}}", "true"),
    (
        "ne lt le gt ge",
        "{{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}} {{lt `a` `b`}}",
        "true true true false true true",
    ),
    ("len", "{{len .Tags}} {{len .Map}} {{len `é`}} {{len .None}}", "2 3 2 0"),
    ("index", "{{index .Tags 1}} {{index .Map `a`}} {{index .Map `c` `z`}} {{index .People 0 `Name`}}", "b 1 26 ann"),
    ("index with a dash", "{{index .Attrs `dash-ed`}}", "d"),
    ("index of text", "{{index `abc` 1}}", "98"),
    ("index without keys", "{{index .Tags}}", "[a b]"),
    ("index of a missing key", "{{index .Map `nope`}}", "<no value>"),
    ("slice", "{{slice `abcd` 1 3}} {{slice `abcd` 2}} {{slice .Mixed 0 2}} {{slice .Tags}}", "bc cd [1 x] [a b]"),
    ("slice with three bounds", "{{slice .Tags 0 1 2}}", "[a]"),
    ("print", "{{print 1 2 `a` 3 4.5 nil}} {{print `a` `b`}} {{print 1 2}}", "1 2a3 4.5 <nil> ab 1 2"),
    ("println", "{{println 1 `a` true}}", "1 a true\n"),
    (
        "print of composed values",
        "{{.Mixed}} {{.Map}} {{.None}} {{.NoMap}}",
        "[1 x <nil> true 2.5 [3] map[k:v]] map[a:1 b:2 c:map[z:26]] [] map[]",
    ),
    ("html", "{{html .Word}}", "é&#34;&lt;a&gt;&amp;&#39;\n"),
    ("html of others", "{{html 1 `<` nil}}{{.Nil | html}}", "1&lt;&lt;no value&gt;&lt;no value&gt;"),
    ("urlquery", "{{urlquery .Url}}", "a+b%2F%C3%BC%3F%3D~_-."),
    (
        "printf text",
        "{{printf `%s|%5s|%-5s|%.2s|%q|%x|%X|%05s` `ab` `é` `b` `éàb` .Word `hé` `hé` `a`}}",
        'ab|    é|b    |éà|"é\\"<a>&\'\\n"|68c3a9|68C3A9|0000a',
    ),
    (
        "printf integers",
        "{{printf `%d|%5d|%-5d|%05d|%+d|% d|%x|%X|%#x|%o` 42 42 42 -42 42 42 -255 255 255 8}}",
        "42|   42|42   |-0042|+42| 42|-ff|FF|0xff|10",
    ),
    (
        "printf more integers",
        "{{printf `%O|%b|%c|%U|%.3d|%08.3d` 8 5 65 128512 7 7}}",
        "0o10|101|A|U+1F600|007|     007",
    ),
    (
        "printf floats",
        "{{printf `%f|%.2f|%8.2f|%e|%g|%G|` 1.5 1.005 3.14159 12345.678 1e6 1e-7}}",
        "1.500000|1.00|    3.14|1.234568e+04|1e+06|1E-07|",
    ),
    (
        "printf more floats",
        "{{printf `%v|%08.3f|%+.1e|%.3g|%6v|%-8.1f|` 0.1 -3.14159 12345.0 100000.0 1.5 2.0}}",
        "0.1|-003.142|+1.2e+04|1e+05|   1.5|2.0     |",
    ),
    ("printf bools", "{{printf `%t|%v|%6t` true false true}}", "true|false|  true"),
    (
        "printf composed",
        "{{printf `%s|%d|%q` .Tags .Map .Tags}}",
        '[a b]|map[%!d(string=a):1 %!d(string=b):2 %!d(string=c):map[%!d(string=z):26]]|["a" "b"]',
    ),
    (
        "printf types",
        "{{printf `%T %T %T %T %T %T %T` 1 1.5 true `a` nil .Tags .Map}}",
        "int float64 bool string <nil> []interface {} map[string]interface {}",
    ),
    (
        "printf complains",
        "{{printf `%d|%s|%s|%t|%z` `hi` 5 nil 1 2}}",
        "%!d(string=hi)|%!s(int=5)|%!s(<nil>)|%!t(int=1)|%!z(int=2)",
    ),
    ("printf too few", "{{printf `%s %d` `a`}}", "a %!d(MISSING)"),
    ("printf too many", "{{printf `%s` `a` 1 nil}}", "a%!(EXTRA int=1, <nil>)"),
    ("printf at the end", "{{printf `100%`}} {{printf `%%`}}", "100%!(NOVERB) %"),
    ("printf with indexes", "{{printf `%[2]s %[1]s %s %[5]d` `a` `b`}}", "b a b %!d(BADINDEX)"),
    ("printf runes", "{{printf `%c|%q|%q|%+q` 233 65 233 `é`}}", "é|'A'|'é'|\"\\u00e9\""),
    ("printf nil padded", "{{printf `%8v|%-8v|` nil nil}}", "   <nil>|<nil>   |"),
    (
        "the seed's PROXY",
        SEED_PROXY,
        "/reg/proxy/http/estest/h:c:80 192.168.0.1:49153",
    ),
    (
        "the seed's SKYDNS",
        SEED_SKYDNS,
        '/skydns/local/localnet/web/h:c:80 {"host":"192.168.0.1","port":49153}',
    ),
    (
        "the seed's PROXYDNS",
        SEED_PROXYDNS,
        "",
    ),
    (
        "the seed's ALL",
        SEED_ALL,
        "/reg/all/estest/h:c:80 192.168.0.1:49153",
    ),
    (
        "a real condition on a port",
        '{{if eq .Published.ExposedPort "80"}}a{{else if eq .Published.ExposedPort "9200"}}b{{end}}',
        "b",
    ),
]

# title, template, line, column, what the message must say
REFUSED = [
    ("open action", "a\nb {{.Name", 2, 10, "not closed with }}"),
    ("open action at the end", "{{", 1, 3, "not closed with }}"),
    ("open block", "{{if .Yes}}a", 1, 3, "has no {{end}}"),
    ("open definition", '{{define "D"}}a', 1, 10, "has no {{end}}"),
    ("open comment", "x {{/* a", 1, 3, "not closed with */"),
    ("comment beside something", "{{/* a */ .Name}}", 1, 1, "must fill its action"),
    ("open string", '{{"abc}}', 1, 3, "unterminated string"),
    ("string over two lines", '{{"a\nb"}}', 1, 3, "unterminated string"),
    ("open raw string", "{{`abc}}", 1, 3, "unterminated raw string"),
    ("open character", "{{'a}}", 1, 3, "unterminated character"),
    ("long character", "{{'ab'}}", 1, 3, "malformed character constant"),
    ("empty character", "{{''}}", 1, 3, "empty character constant"),
    ("unknown escape", r'{{"\q"}}', 1, 3, "unknown escape"),
    ("short escape", r'{{"\x4"}}', 1, 3, "bad escape"),
    ("octal escape too large", r'{{"\777"}}', 1, 3, "out of range"),
    ("surrogate escape", r'{{"\ud800"}}', 1, 3, "out of range"),
    ("open parenthesis", "{{(1}}", 1, 5, "unclosed ("),
    ("stray parenthesis", "{{1)}}", 1, 4, "unexpected )"),
    ("empty parentheses", "{{()}}", 1, 4, "missing value"),
    ("empty action", "{{}}", 1, 3, "missing value for command"),
    ("empty if", "{{if}}{{end}}", 1, 5, "missing value for if"),
    ("stray end", "a{{end}}", 1, 4, "no block is open"),
    ("stray else", "a{{else}}", 1, 4, "no block is open"),
    ("two elses", "{{if 1}}{{else}}{{else}}{{end}}", 1, 19, "second {{else}}"),
    ("else if in a range", "{{range .Tags}}{{else if 1}}{{end}}", 1, 23, "unexpected 'if' in else"),
    ("else with in an if", "{{if 1}}{{else with 1}}{{end}}", 1, 16, "unexpected 'with' in else"),
    ("break outside", "{{break}}", 1, 3, "outside {{range}}"),
    (
        "continue in a template inside a range",
        '{{range .Tags}}{{block "B" 1}}{{continue}}{{end}}{{end}}',
        1,
        33,
        "outside",
    ),
    ("break with a value", "{{range .Tags}}{{break 1}}{{end}}", 1, 24, "unexpected '1'"),
    ("unknown function", "{{ nope .Name }}", 1, 4, "function 'nope' is not defined"),
    ("unknown variable", "{{ $x }}", 1, 4, "undefined variable $x"),
    ("variable of an ended block", "{{if $x := 1}}{{end}}{{$x}}", 1, 24, "undefined variable $x"),
    (
        "variable of another template",
        '{{$x := 1}}{{define "D"}}{{$x}}{{end}}{{template "D"}}',
        1,
        28,
        "undefined variable $x",
    ),
    ("assignment to nothing", "{{$x = 1}}", 1, 3, "undefined variable $x"),
    ("variable skipped by or", "{{or true ($x := 1)}}{{$x}}", 1, 24, "undefined variable $x"),
    ("unknown template", '{{template "D"}}', 1, 3, "'D' is not defined"),
    ("template named by a field", "{{template .Name}}", 1, 12, "unexpected '.Name' in template clause"),
    ("two definitions", '{{define "D"}}a{{end}}{{define "D"}}b{{end}}', 1, 32, "'D' is defined twice"),
    ("definition in a block", '{{if 1}}{{define "D"}}{{end}}{{end}}', 1, 11, "unexpected 'define'"),
    ("two variables outside a range", "{{$a, $b := 1}}", 1, 3, "too many variables"),
    ("three variables in a range", "{{range $a, $b, $c := .Tags}}{{end}}", 1, 9, "too many variables"),
    ("variables without a value", "{{range $a, $b}}{{end}}", 1, 9, "range can only initialize variables"),
    ("two variables for an integer", "{{range $i, $x := 3}}{{end}}", 1, 3, "range cannot go over a int"),
    ("constant late in a pipeline", "{{.Name | 1}}", 1, 11, "stage 2"),
    ("bar at the start", "{{| .Name}}", 1, 3, "unexpected '|' in command"),
    ("two bars", "{{.Name || print}}", 1, 10, "unexpected '|'"),
    ("field of a constant", "{{1.Name}}", 1, 3, "bad number"),
    ("field of a string", "{{`a`.Name}}", 1, 3, "unexpected . after"),
    ("missing space", "{{printf`a`}}", 1, 3, "bad character '`'"),
    ("strange character", "{{.Name ? 1}}", 1, 9, "unexpected '?' in operand"),
    ("unprintable character", "{{\x01}}", 1, 3, "unrecognized character"),
    ("single colon", "{{$x : 1}}", 1, 6, "expected :="),
    ("integer too large", "{{9223372036854775808}}", 1, 3, "integer overflow"),
    ("no octal number", "{{089}}", 1, 3, "illegal number"),
    ("number with a tail", "{{12ab}}", 1, 3, "bad number"),
    ("float with two underscores", "{{1__0.5}}", 1, 3, "illegal number"),
    ("float too large", "{{1e999}}", 1, 3, "illegal number"),
    ("hex float without exponent", "{{0x1.8}}", 1, 3, "illegal number"),
    ("keyword as a value", "{{print if}}", 1, 9, "unexpected 'if'"),
    ("nil as a command", "{{nil}}", 1, 3, "nil is not a command"),
    ("arguments for a field", "{{.Name 1}}", 1, 3, "no function"),
    ("arguments for a constant", "{{1 2}}", 1, 3, "no function"),
    ("value piped into a field", "{{1 | .Name}}", 1, 7, "no function"),
    ("fields apart", "{{.Published .HostIP}}", 1, 3, "no function"),
    ("field of text", "x\n {{.Name.First}}", 2, 4, ".Name is a string, so it has no field First"),
    ("field of nil", "{{.Nil.X}}", 1, 3, ".Nil is a <nil>, so it has no field X"),
    ("field of a list", "{{.Tags.X}}", 1, 3, ".Tags is a []interface {}, so it has no field X"),
    ("range over text", "{{range .Name}}{{end}}", 1, 3, "range cannot go over a string"),
    ("range over a float", "{{range 1.5}}{{end}}", 1, 3, "range cannot go over a float64"),
    ("eq of one", "{{eq 1}}", 1, 3, "calling eq: missing argument"),
    ("eq of nothing", "{{eq}}", 1, 3, "calling eq"),
    ("eq of two kinds", "{{eq 1 `1`}}", 1, 3, "incompatible types for comparison: int and string"),
    ("eq of int and float", "{{eq 1 1.0}}", 1, 3, "incompatible types"),
    ("eq of lists", "{{eq .Tags .Tags}}", 1, 3, "cannot be compared"),
    ("ne of three", "{{ne 1 2 3}}", 1, 3, "calling ne: too many"),
    ("lt of bools", "{{lt true false}}", 1, 3, "has no order"),
    ("lt of nil", "{{lt .Nil 1}}", 1, 3, "has no order"),
    ("lt of two kinds", "{{lt 1 `a`}}", 1, 3, "incompatible types"),
    ("len of a number", "{{len 1}}", 1, 3, "a int has no length"),
    ("len of nil", "{{len nil}}", 1, 3, "has no length"),
    ("index out of range", "{{index .Tags 2}}", 1, 3, "index out of range: 2"),
    ("negative index", "{{index .Tags -1}}", 1, 3, "index out of range: -1"),
    ("index of a list with text", "{{index .Tags `a`}}", 1, 3, "indexed with an int"),
    ("index of a map with a number", "{{index .Map 1}}", 1, 3, "indexed with a string"),
    ("index of a number", "{{index 1 1}}", 1, 3, "cannot be indexed"),
    ("index of nil", "{{index .Nil 1}}", 1, 3, "nil cannot be indexed"),
    ("index of nil without keys", "{{index .Nil}}", 1, 3, "nil cannot be indexed"),
    ("slice out of range", "{{slice `abc` 4}}", 1, 3, "index out of range: 4"),
    ("slice backwards", "{{slice `abc` 2 1}}", 1, 3, "invalid bounds"),
    ("slice of a map", "{{slice .Map}}", 1, 3, "cannot be sliced"),
    ("slice of text with three bounds", "{{slice `abc` 0 1 2}}", 1, 3, "cannot be sliced"),
    ("printf without a format", "{{printf}}", 1, 3, "calling printf"),
    ("printf of a number", "{{printf 1}}", 1, 3, "format must be a string"),
    ("call of text", "{{call .Name}}", 1, 3, "a string cannot be called"),
    ("and of nothing", "{{and}}", 1, 3, "needs an argument"),
    ("not of two", "{{not 1 2}}", 1, 3, "calling not"),
    ("endless recursion", '{{define "D"}}{{template "D"}}{{end}}{{template "D"}}', 1, 17, "deep"),
]

# title, template, what the message must say: refused here, although Go takes it
REFUSED_HERE = [
    ("imaginary number", "{{1i}}", "bad number"),
    ("half a character", "{{slice `é` 1}}", "calling slice"),
    ("width of an argument", "{{printf `%*d` 5 1}}", "not supported"),
    ("Go syntax", "{{printf `%#v` .Tags}}", "not supported"),
    ("huge width", "{{printf `%99999d` 1}}", "width or precision over"),
    ("string that is no UTF-8", r'{{"\xff"}}', "not valid UTF-8"),
    ("deep parentheses", "{{" + "(" * 101 + "1" + ")" * 101 + "}}", "nested more than 100 deep"),
    ("deep blocks", "{{if 1}}" * 101 + "{{end}}" * 101, "nested more than 100 deep"),
    ("long else if", "{{if 0}}" + "{{else if 0}}" * 101 + "{{end}}", "nested more than 100 deep"),
    ("long loop", "{{range 1000000000}}{{end}}", "takes more than"),
    ("loops in loops", "{{range 1000}}{{range 1000}}{{range 1000}}x{{end}}{{end}}{{end}}", "takes more than"),
    ("doubling", "{{$x := `aaaaaaaa`}}{{range 64}}{{$x = print $x $x}}{{end}}", "characters"),
    ("doubling by printf", "{{$x := `aaaaaaaa`}}{{range 64}}{{$x = printf `%s%s` $x $x}}{{end}}", "characters"),
    ("much output", "{{$x := printf `%9999d` 1}}{{range 9999}}{{$x}}{{end}}", "writes more than"),
    ("long template", " " * (1024 * 1024 + 1), "longer than"),
]

# title, template, missing="error" (None: refused), missing="empty"; missing="go" is in RENDERED
ABSENT = [
    ("printed", "a{{.Nope}}b", None, "ab"),
    ("nil printed", "a{{.Nil}}b", None, "ab"),
    ("deep printed", "a{{.Nope.Deep}}b", None, "ab"),
    ("printed inside if", "{{if .Attrs.proxydns}}{{.Attrs.proxydns}}{{end}}|", "|", "|"),
    ("if", "{{if .Attrs.proxydns}}yes{{else}}no{{end}}", "no", "no"),
    ("if of a field of nothing", "{{if .Atrs.proxy}}yes{{else}}no{{end}}", None, "no"),
    ("with", "{{with .Attrs.proxydns}}yes{{else}}no{{end}}", "no", "no"),
    ("and or not", "{{and .Nope 1 | not}} {{or .Nope 1}}", "true 1", "true 1"),
    ("default by or", '{{or .Attrs.scheme "http"}}', "http", "http"),
    ("eq", '{{if eq .Attrs.nope "http"}}a{{else}}b{{end}}', "b", "b"),
    ("eq by pipeline", '{{.Attrs.nope | eq "http"}}', "false", "false"),
    ("eq with empty text", '{{eq .Attrs.nope ""}}', "false", "true"),
    ("argument", "[{{printf `%s` .Nope}}]", None, "[]"),
    ("argument by pipeline", "[{{.Nope | printf `%s`}}]", None, "[]"),
    ("argument of len", "{{len .Nope}}", None, "0"),
    ("index", "[{{index .Attrs `nope`}}]", None, "[]"),
    ("index in if", "{{if index .Attrs `nope`}}a{{else}}b{{end}}", "b", "b"),
    ("range", "[{{range .Nope}}x{{end}}]", None, "[]"),
    ("variable", "{{$x := .Nope}}{{if $x}}a{{else}}b{{end}}", "b", "b"),
    ("variable printed", "{{$x := .Nope}}[{{$x}}]", None, "[]"),
    ("template without a value", '{{define "D"}}[{{.}}]{{end}}{{template "D"}}', None, "[]"),
    ("nil in a list", "{{.Mixed}}", "[1 x <nil> true 2.5 [3] map[k:v]]", "[1 x <nil> true 2.5 [3] map[k:v]]"),
]


@pytest.mark.parametrize(("template", "expected"), [row[1:] for row in RENDERED], ids=[row[0] for row in RENDERED])
def test_rendered(template, expected):
    """Each template prints what Go prints."""
    assert parse("T", template).render(DATA, missing="go") == expected


SEED = {"PROXY": SEED_PROXY, "SKYDNS": SEED_SKYDNS, "PROXYDNS": SEED_PROXYDNS, "ALL": SEED_ALL}


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
