"""What a parsed Go template consists of, where it came from, and the one error.

Nodes are frozen values that the parser makes and the evaluator walks. `pos` is an offset into the template's text;
`Source` turns it into line and column when something has to be said about it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class TemplateError(Exception):
    """A template cannot be parsed or rendered.

    Attributes:
        name: the template's name, such as "ETCD_TMPL_PROXY".
        line: line of the construct at fault, counted from 1.
        column: its column in characters, counted from 1.
        message: what is wrong with it, naming the construct.
    """

    def __init__(self, name: str, line: int, column: int, message: str) -> None:
        super().__init__(name, line, column, message)
        self.name = name
        self.line = line
        self.column = column
        self.message = message

    def __str__(self) -> str:
        return f"template {self.name}, line {self.line}, column {self.column}: {self.message}"


class Source(msgspec.Struct, frozen=True):
    """One template text and the name it goes by."""

    name: str
    text: str

    def error(self, pos: int, message: str) -> TemplateError:
        r"""Make the error that points at offset `pos`.

        >>> str(Source("T", "a\nbc").error(3, "no"))
        'template T, line 2, column 2: no'
        """
        before = self.text[:pos]
        return TemplateError(self.name, before.count("\n") + 1, pos - before.rfind("\n"), message)


class Literal(msgspec.Struct, frozen=True):
    """A constant: string, integer (also from a character), float or bool."""

    value: str | int | float | bool
    pos: int


class Nil(msgspec.Struct, frozen=True):
    """The word nil."""

    pos: int


class Dot(msgspec.Struct, frozen=True):
    """The cursor."""

    pos: int


class Field(msgspec.Struct, frozen=True):
    """`.A.B`: fields of the cursor."""

    names: tuple[str, ...]
    pos: int


class Variable(msgspec.Struct, frozen=True):
    """`$x.A.B`: a variable and fields of it; `name` begins with the dollar sign."""

    name: str
    names: tuple[str, ...]
    pos: int


class Chain(msgspec.Struct, frozen=True):
    """`(pipeline).A.B` or `function.A.B`."""

    base: Operand
    names: tuple[str, ...]
    pos: int


class Function(msgspec.Struct, frozen=True):
    """The name of a function that is known to exist."""

    name: str
    pos: int


class Command(msgspec.Struct, frozen=True):
    """One stage of a pipeline: at least one operand; the first may be called with the others."""

    args: tuple[Operand, ...]
    pos: int


class Pipeline(msgspec.Struct, frozen=True):
    """Stages joined by `|`, at least one.

    Attributes:
        commands: the stages.
        variables: names set to its value: none, one, or two in a range (index, element).
        assigns: True for `=`, False for `:=`.
        pos: where it begins.
    """

    commands: tuple[Command, ...]
    variables: tuple[str, ...]
    assigns: bool
    pos: int


Operand: TypeAlias = Literal | Nil | Dot | Field | Variable | Chain | Function | Pipeline


class Text(msgspec.Struct, frozen=True):
    """Text that is copied to the output."""

    text: str
    pos: int


class Action(msgspec.Struct, frozen=True):
    """`{{pipeline}}`."""

    pipeline: Pipeline
    pos: int


class If(msgspec.Struct, frozen=True):
    """`{{if}}`, and `{{with}}`, which also moves the cursor."""

    pipeline: Pipeline
    body: Body
    otherwise: Body
    moves_cursor: bool
    pos: int


class Range(msgspec.Struct, frozen=True):
    """`{{range}}`; `otherwise` is rendered when there is nothing to go over."""

    pipeline: Pipeline
    body: Body
    otherwise: Body
    pos: int


class Invoke(msgspec.Struct, frozen=True):
    """`{{template "name" pipeline}}`."""

    name: str
    pipeline: Pipeline | None
    pos: int


class Break(msgspec.Struct, frozen=True):
    """`{{break}}`."""

    pos: int


class Continue(msgspec.Struct, frozen=True):
    """`{{continue}}`."""

    pos: int


Node: TypeAlias = Text | Action | If | Range | Invoke | Break | Continue
Body: TypeAlias = tuple[Node, ...]
