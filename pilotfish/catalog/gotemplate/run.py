"""Tree and data -> text, following text/template/exec.go.

Bounded in steps, output, text made on the way and depth, so that no template can run away with the process.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal as OneOf
from typing import NoReturn, TypeAlias

from pilotfish.catalog.gotemplate.functions import TAKES_ABSENT, Absent, and_, or_
from pilotfish.catalog.gotemplate.nodes import (
    Action,
    Body,
    Break,
    Chain,
    Command,
    Continue,
    Dot,
    Field,
    Function,
    If,
    Invoke,
    Literal,
    Nil,
    Node,
    Operand,
    Pipeline,
    Range,
    Source,
    Text,
    Variable,
)
from pilotfish.catalog.gotemplate.values import Struct, go_text, go_type, in_order, is_true

MAX_STEPS = 1_000_000  # nodes and commands looked at; 10,000 services at 50 steps each are half of it
MAX_OUTPUT = 16 * 1024 * 1024  # characters
MAX_MADE = 64 * 1024 * 1024  # characters of all texts that functions gave back
MAX_DEPTH = 100  # blocks, templates and parentheses within each other

Missing: TypeAlias = OneOf["error", "empty", "go"]
_FAILURES = (ValueError, TypeError, LookupError, ArithmeticError)  # how a function says that its arguments do not fit


class _Nothing:
    """No value comes down the pipeline."""


_NOTHING = _Nothing()


class _Broken(Exception):  # a jump, not an error
    """{{break}}."""


class _Continued(Exception):  # a jump, not an error
    """{{continue}}."""


def render(
    source: Source,
    bodies: Mapping[str, Body],
    functions: Mapping[str, Callable[..., object]],
    missing: Missing,
    data: object,
) -> str:
    """Render a parsed template.

    Args:
        source: for messages.
        bodies: bodies by template name; the one by the source's name is rendered.
        functions: everything that may be called, by name.
        missing: what an absent value does when it is used.
        data: what the dot is.

    Raises:
        TemplateError: it cannot be rendered with this data, or grows beyond the bounds of this module.
    """
    return _Run(source, bodies, functions, missing).render(data)


class _Run:
    """One rendering: where it stands, and what it has used up."""

    def __init__(
        self,
        source: Source,
        bodies: Mapping[str, Body],
        functions: Mapping[str, Callable[..., object]],
        missing: Missing,
    ) -> None:
        self.source = source
        self.bodies = bodies
        self.functions = functions
        self.missing = missing
        self.out: list[str] = []
        self.variables: list[tuple[str, object]] = []
        self.steps = self.written = self.made = self.depth = 0

    def render(self, data: object) -> str:
        """Render the main body."""
        dot = Absent(".") if data is None else data
        self.variables = [("$", dot)]
        self.walk_body(self.bodies[self.source.name], dot, 0)
        return "".join(self.out)

    # --- bounds and messages

    def fail(self, pos: int, message: str) -> NoReturn:
        raise self.source.error(pos, message)

    def step(self, pos: int) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.fail(pos, f"takes more than {MAX_STEPS} steps")

    def descend(self, pos: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(pos, f"nested more than {MAX_DEPTH} deep")

    def write(self, text: str, pos: int) -> None:
        self.out.append(text)
        self.written += len(text)
        if self.written > MAX_OUTPUT:
            self.fail(pos, f"writes more than {MAX_OUTPUT} characters")

    def spend(self, result: object, pos: int) -> object:
        self.made += len(result) if isinstance(result, str) else 0
        if self.made > MAX_MADE:
            self.fail(pos, f"makes more than {MAX_MADE} characters of text")
        return result

    def use(self, value: object, pos: int) -> object:
        """Turn an absent value into what the policy makes of it where a function gets it."""
        if not isinstance(value, Absent):
            return value
        if self.missing == "error":
            self.fail(pos, f"{value.path} is not set")
        return "" if self.missing == "empty" else None

    # --- blocks

    def walk_body(self, body: Body, dot: object, pos: int) -> None:
        self.descend(pos)
        for node in body:
            self.step(node.pos)
            self.walk(node, dot)
        self.depth -= 1

    def walk(self, node: Node, dot: object) -> None:
        match node:
            case Text():
                self.write(node.text, node.pos)
            case Action():
                value = self.pipeline(node.pipeline, dot)
                if not node.pipeline.variables:
                    self.print(value, node.pos)
            case If():
                self.walk_if(node, dot)
            case Range():
                self.walk_range(node, dot)
            case Invoke():
                self.walk_invoke(node, dot)
            case Break():
                raise _Broken
            case Continue():
                raise _Continued

    def print(self, value: object, pos: int) -> None:
        if value is None or isinstance(value, Absent):
            if self.missing == "error":
                self.fail(pos, f"{value.path} is not set" if isinstance(value, Absent) else "the value is null")
            self.write("" if self.missing == "empty" else "<no value>", pos)
            return
        try:
            self.write(go_text(value), pos)
        except ValueError as error:
            raise self.source.error(pos, str(error)) from None

    def walk_if(self, node: If, dot: object) -> None:
        mark = len(self.variables)
        value = self.pipeline(node.pipeline, dot)
        if is_true(value):
            self.walk_body(node.body, value if node.moves_cursor else dot, node.pos)
        else:
            self.walk_body(node.otherwise, dot, node.pos)
        del self.variables[mark:]

    def walk_range(self, node: Range, dot: object) -> None:
        mark, depth = len(self.variables), self.depth
        value = self.pipeline(node.pipeline, dot)
        if isinstance(value, Absent):
            self.use(value, node.pos)
            value = None
        ran = False
        try:
            for key, element in self.pairs(value, node):
                ran = True
                self.iterate(node, key, element)
                self.depth = depth
            if not ran:  # a break in here ends this range, not the one around it: so it is in Go
                self.walk_body(node.otherwise, dot, node.pos)
        except _Broken:
            self.depth = depth
        del self.variables[mark:]

    def pairs(self, value: object, node: Range) -> Iterable[tuple[object, object]]:
        """Keys and elements to go over, in Go's order."""
        if isinstance(value, Mapping):
            return in_order(value)
        if isinstance(value, Sequence) and not isinstance(value, str):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool) and len(node.pipeline.variables) < 2:
            return ((None, number) for number in range(value))
        if value is not None:
            self.fail(node.pos, f"range cannot go over a {go_type(value)}")
        return ()

    def iterate(self, node: Range, key: object, element: object) -> None:
        mark = len(self.variables)
        names = node.pipeline.variables
        # One variable holds the element, two hold key and element.
        for name, value in zip(names, (key, element)[-len(names) :], strict=True) if names else ():
            self.bind(name, value, assigns=node.pipeline.assigns, pos=node.pos)
        self.step(node.pos)
        with contextlib.suppress(_Continued):
            self.walk_body(node.body, element, node.pos)
        del self.variables[mark:]

    def walk_invoke(self, node: Invoke, dot: object) -> None:
        value = Absent(".") if node.pipeline is None else self.pipeline(node.pipeline, dot)
        around, self.variables = self.variables, [("$", value)]
        self.walk_body(self.bodies[node.name], value, node.pos)
        self.variables = around

    # --- variables

    def bind(self, name: str, value: object, *, assigns: bool, pos: int) -> None:
        if not assigns:
            self.variables.append((name, value))
            return
        at = self.find(name, pos)
        self.variables[at] = (name, value)

    def find(self, name: str, pos: int) -> int:
        for at in range(len(self.variables) - 1, -1, -1):
            if self.variables[at][0] == name:
                return at
        raise self.source.error(pos, f"undefined variable {name}")

    # --- expressions

    def pipeline(self, pipeline: Pipeline, dot: object) -> object:
        """Evaluate the stages, each given the one before; set the variables."""
        self.descend(pipeline.pos)
        value: object = _NOTHING
        for command in pipeline.commands:
            self.step(command.pos)
            value = self.command(command, dot, value)
        # Those of a range hold the whole for now; each round binds its own.
        for name in pipeline.variables:
            self.bind(name, value, assigns=pipeline.assigns, pos=pipeline.pos)
        self.depth -= 1
        return value

    def command(self, command: Command, dot: object, final: object) -> object:
        """Evaluate one stage; `final` is the value that the stage before hands on as last argument."""
        first = command.args[0]
        if isinstance(first, Function):
            return self.call(first, command.args[1:], dot, final)
        if len(command.args) > 1 or final is not _NOTHING:
            return self.method(first, command.args[1:], dot, final)
        if isinstance(first, Nil):
            self.fail(first.pos, "nil is not a command")
        return self.operand(first, dot)

    def operand(self, operand: Operand, dot: object) -> object:
        match operand:
            case Literal():
                return operand.value
            case Nil():
                return None
            case Dot():
                return dot
            case Field():
                return self.fields(dot, operand.names, "", operand.pos)
            case Variable():
                value = self.variables[self.find(operand.name, operand.pos)][1]
                return self.fields(value, operand.names, operand.name, operand.pos)
            case Chain():
                return self.fields(self.operand(operand.base, dot), operand.names, "(...)", operand.pos)
            case Function():
                return self.call(operand, (), dot, _NOTHING)
            case Pipeline():
                return self.pipeline(operand, dot)

    def fields(self, value: object, names: Sequence[str], path: str, pos: int) -> object:
        for name in names:
            value = self.field(value, name, path, pos)
            path = f"{path}.{name}"
        return value

    def field(self, value: object, name: str, path: str, pos: int) -> object:
        if isinstance(value, Absent):
            if self.missing == "error":
                self.fail(pos, f"{path or value.path} is not set, so it has no field {name}")
            return value
        if isinstance(value, Mapping):
            return value[name] if name in value else Absent(f"{path}.{name}")
        if isinstance(value, Struct) and name in value.fields:
            return value.fields[name]
        if isinstance(value, Struct) and name in value.methods:
            return self.invoke(name, value.methods[name], [], pos)
        raise self.source.error(pos, f"{path or '.'} is a {go_type(value)}, so it has no field {name}")

    def method(self, operand: Operand, args: Sequence[Operand], dot: object, final: object) -> object:
        """Call the method that the last name of `operand` stands for: `datetime.Format "2006"`."""
        if not isinstance(operand, Field | Variable | Chain) or not operand.names:
            self.fail(operand.pos, "an argument is given to something that is no function")
        name = operand.names[-1]
        base: Operand = Dot(operand.pos)
        if isinstance(operand, Variable):
            base = Variable(operand.name, (), operand.pos)
        elif isinstance(operand, Chain):
            base = operand.base
        owner = self.fields(self.operand(base, dot), operand.names[:-1], "(...)", operand.pos)
        if not isinstance(owner, Struct) or name not in owner.methods:
            self.fail(operand.pos, f"an argument is given to something that is no function: {name}")
        values = [self.operand(arg, dot) for arg in args] + ([] if final is _NOTHING else [final])
        return self.invoke(name, owner.methods[name], [self.use(value, operand.pos) for value in values], operand.pos)

    def invoke(self, name: str, target: Callable[..., object], values: Sequence[object], pos: int) -> object:
        """Call a function with values."""
        try:
            _check_count(target, values)
            return self.spend(target(*values), pos)
        except _FAILURES as error:
            raise self.source.error(pos, f"calling {name}: {error}") from error

    def call(self, function: Function, args: Sequence[Operand], dot: object, final: object) -> object:
        target = self.functions[function.name]
        if target is and_ or target is or_:
            return self.choose(function, args, dot, final)
        values = [self.operand(arg, dot) for arg in args]
        if final is not _NOTHING:
            values.append(final)
        if self.missing == "error" and any(target is tolerant for tolerant in TAKES_ABSENT):
            values = [None if isinstance(value, Absent) else value for value in values]
        return self.invoke(function.name, target, [self.use(value, function.pos) for value in values], function.pos)

    def choose(self, function: Function, args: Sequence[Operand], dot: object, final: object) -> object:
        """`and` and `or`: stop at the first argument that decides."""
        if not args and final is _NOTHING:
            self.fail(function.pos, f"{function.name} needs an argument")
        value: object = None
        for arg in args:
            value = self.operand(arg, dot)
            if is_true(value) == (self.functions[function.name] is or_):
                return value
        return value if final is _NOTHING else final


def _check_count(target: Callable[..., object], values: Sequence[object]) -> None:
    """Raise TypeError when a function does not take that many arguments."""
    try:
        signature = inspect.signature(target)
    except ValueError:  # some functions written in C do not tell
        return
    signature.bind(*values)
