"""Template text -> something that renders keys: `.tmpl` in Go's language, `.j2` in Jinja2's, with the same functions.

Go templates are evaluated as they stand (docs/decisions says why they are not translated). What is not there prints as
Go prints it. Jinja2 runs in its sandbox and is strict about names that are not defined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol

import msgspec
from jinja2 import StrictUndefined, TemplateError
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import SandboxedEnvironment

from confgen.resources.functions import names
from pilotfish.catalog import gotemplate
from pilotfish.catalog.gotemplate.functions import BUILTINS

Functions = Mapping[str, Callable[..., object]]
Item = Mapping[str, str]
# How an expression of a Jinja2 template fails, besides the errors of Jinja2 itself.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class BadTemplate(Exception):
    """A template cannot be read or rendered; the message names file, line and construct."""


class Template(Protocol):
    """A template that was read without errors."""

    def render(self, functions: Functions, item: Item) -> str:
        """Render it.

        Args:
            functions: everything that it may call, bound to keys.
            item: what a template that is rendered once for each of several things knows of this one; else empty.

        Raises:
            BadTemplate: a key is missing, a value does not fit, or it grows beyond all bounds.
        """
        ...


def compiled(name: str, text: str) -> Template:
    """Read a template; its name's end says in which language.

    Raises:
        BadTemplate: it is none.
    """
    return Jinja(name, text) if name.endswith(".j2") else Go(name, text)


class Go:
    """A template in the language of Go's text/template."""

    def __init__(self, name: str, text: str) -> None:
        try:
            self._parsed = gotemplate.parse(name, text, dict.fromkeys(names(), _unbound))
        except gotemplate.TemplateError as error:
            raise BadTemplate(str(error)) from error

    def render(self, functions: Functions, item: Item) -> str:
        """Render it; without an item the dot is nil, as in confd."""
        bound = msgspec.structs.replace(self._parsed, functions={**BUILTINS, **functions})
        try:
            return bound.render(dict(item) or None, missing="go")
        except gotemplate.TemplateError as error:
            raise BadTemplate(str(error)) from error


def _unbound(*_: object) -> object:
    raise ValueError("called while nothing is rendered")


class Jinja:
    """A template in Jinja2's language."""

    def __init__(self, name: str, text: str) -> None:
        environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
        self._name = name
        try:
            code = environment.compile(text, name, name)
        except TemplateError as error:
            raise BadTemplate(f"template {name}, line {getattr(error, 'lineno', 1)}: {error}") from error
        self._template = JinjaTemplate.from_code(environment, code, {})

    def render(self, functions: Functions, item: Item) -> str:
        """Render it; the item's fields are variables."""
        try:
            return self._template.render({**functions, **item})
        except (TemplateError, *_FAILURES) as error:
            line = _line(error.__traceback__, self._name)
            raise BadTemplate(f"template {self._name}, line {line}: {error or type(error).__name__}") from error


def _line(trace: TracebackType | None, name: str) -> int:
    """The last line of the template that a traceback went through."""
    found = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == name:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found
