"""Go's text/template, as far as real key templates and confd templates use it.

A template is parsed once (`parse`) and rendered as often as wanted (`Template.render`). Supported: fields, variables,
pipelines, `if`, `else if`, `else`, `range`, `with`, `define`, `template`, `block`, `break`, `continue`, comments, trim
markers, constants, and the functions of `functions`; more functions come in as a mapping.

Data is what JSON knows: None, bool, int, float, str, lists and mappings; functions may also give back slices of one
type and structs with fields and methods (`values`). Nothing else of a Python object is reachable.

Invariants: a text that parses cannot loop for ever or fill the memory, and whatever goes wrong is a TemplateError that
names template, line, column and construct. Not supported, and said so: complex numbers, other delimiters.

Differs from Go: templates that are called but not defined are found when parsing; and see `Template.render` for
values that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from pilotfish.catalog.gotemplate.functions import BUILTINS
from pilotfish.catalog.gotemplate.nodes import Body, Source, TemplateError
from pilotfish.catalog.gotemplate.parse import parse_tree
from pilotfish.catalog.gotemplate.run import Missing, render

__all__ = ["Missing", "Template", "TemplateError", "parse"]

_NO_FUNCTIONS: Mapping[str, Callable[..., object]] = MappingProxyType({})


class Template(msgspec.Struct, frozen=True):
    """A parsed template; made by `parse`.

    Attributes:
        source: its name and text.
        bodies: the parsed bodies by name; the template's own name has the text outside all definitions.
        functions: everything it may call.
    """

    source: Source
    bodies: Mapping[str, Body]
    functions: Mapping[str, Callable[..., object]]

    @property
    def name(self) -> str:
        """The name given to `parse`."""
        return self.source.name

    def render(self, data: object, missing: Missing = "error") -> str:
        """Write the template with `data` as its dot.

        Args:
            data: None, bool, int, float, str, lists and mappings with text keys.
            missing: what a field that is not there does when it is printed or handed to a function. "error": raise,
                naming it; "empty": it is empty text; "go": it prints as `<no value>`, which is what Go does.
                Asking for it (`if`, `with`, `and`, `or`, `not`, `eq`, `ne`) is no use of it: it is false, and equal
                to nil only. A field of something that is not there is an error under "error", else not there either.
                `index` treats a missing key in the same way.

        Returns:
            The text, at most 16 MiB.

        Raises:
            TemplateError: something is not there, of the wrong type, out of range, or too much.

        Source: Go text/template, checked against Go 1.26.
        """
        return render(self.source, self.bodies, self.functions, missing, data)


def parse(name: str, text: str, functions: Mapping[str, Callable[..., object]] = _NO_FUNCTIONS) -> Template:
    r"""Parse a template.

    Args:
        name: what to call it in messages, such as "ETCD_TMPL_PROXY".
        text: at most 1 MiB.
        functions: what it may call besides Go's own; takes precedence over these. A function gets plain values and
            says that they do not fit by raising ValueError, TypeError, LookupError or ArithmeticError.

    Raises:
        TemplateError: the text is no template; says where.

    >>> parse("T", "{{range $i, $e := .}}{{if $i}}, {{end}}{{$e | printf \"%02d\"}}{{end}}").render([1, 2])
    '01, 02'
    """
    known = {**BUILTINS, **functions}
    source = Source(name, text)
    return Template(source, parse_tree(source, known.keys()), known)
