"""Tokens -> tree, following text/template/parse/parse.go.

Everything that can be wrong without looking at data is found here: unknown functions, variables and templates, a
missing end, a constant that is none. Complex numbers are the one part of Go's grammar that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import NoReturn

from pilotfish.catalog.gotemplate import literals
from pilotfish.catalog.gotemplate.lex import Kind, Token, tokens
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

MAX_TEXT = 1024 * 1024  # characters of one template
MAX_NESTING = 100  # blocks, `else if`s and parentheses within each other; keeps recursion far from Python's limit

_CONSTANTS: dict[Kind, Callable[[str], str | int | float | bool]] = {
    Kind.STRING: literals.string,
    Kind.RAW: literals.raw,
    Kind.CHARACTER: literals.character,
    Kind.NUMBER: literals.number,
    Kind.BOOL: lambda text: text == "true",
}


def parse_tree(source: Source, functions: Set[str]) -> dict[str, Body]:
    """Parse a template and the templates that it defines.

    Args:
        source: its name and text.
        functions: names that may be called.

    Returns:
        Bodies by template name; the text outside all definitions goes by the source's own name.

    Raises:
        TemplateError: the text is no template.
    """
    if len(source.text) > MAX_TEXT:
        raise source.error(0, f"longer than {MAX_TEXT} characters")
    parser = _Parser(source, functions)
    parser.run()
    return parser.bodies


class _Parser:
    """A cursor over the tokens, the variables in sight, and the bodies found so far."""

    def __init__(self, source: Source, functions: Set[str]) -> None:
        self.source = source
        self.functions = functions
        self.tokens = tokens(source, functions)
        self.at = 0
        self.variables = ["$"]
        self.ranges = 0
        self.nesting = 0
        self.bodies: dict[str, Body] = {}
        self.invoked: list[tuple[str, int]] = []

    # --- tokens

    def fail(self, pos: int, message: str) -> NoReturn:
        raise self.source.error(pos, message)

    def unexpected(self, token: Token, context: str) -> NoReturn:
        self.fail(token.pos, f"unexpected {token} in {context}")

    def peek(self) -> Token:
        return self.tokens[self.at]

    def peek_word(self) -> Token:
        """The next token that is not a space; spaces before it are passed over."""
        while self.peek().kind is Kind.SPACE:
            self.at += 1
        return self.peek()

    def next(self) -> Token:
        token = self.peek()
        self.at += token.kind is not Kind.END
        return token

    def next_word(self) -> Token:
        self.peek_word()
        return self.next()

    def at_keyword(self, word: str) -> bool:
        token = self.peek_word()
        return token.kind is Kind.KEYWORD and token.text == word

    def expect(self, kind: Kind, context: str) -> Token:
        token = self.next_word()
        if token.kind is not kind:
            self.unexpected(token, context)
        return token

    def enter(self, pos: int) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            self.fail(pos, f"nested more than {MAX_NESTING} deep")

    # --- blocks

    def run(self) -> None:
        nodes: list[Node] = []
        while self.peek().kind is not Kind.END:
            if self.is_definition():
                self.definition()
                continue
            node = self.text_or_action()
            if isinstance(node, Token):
                self.fail(node.pos, f"unexpected {{{{{node.text}}}}}: no block is open")
            nodes.append(node)
        self.add(self.source.name, tuple(nodes), 0)
        for name, pos in self.invoked:
            if name not in self.bodies:
                self.fail(pos, f"template {name!r} is not defined")

    def is_definition(self) -> bool:
        start = self.at
        found = self.next().kind is Kind.LEFT and self.at_keyword("define")
        self.at = self.at + 1 if found else start
        return found

    def add(self, name: str, body: Body, pos: int) -> None:
        """File a body; one that says something replaces one that is empty, two that say something clash."""
        if _is_empty(self.bodies.get(name, ())):
            self.bodies[name] = body
        elif not _is_empty(body):
            self.fail(pos, f"template {name!r} is defined twice")

    def definition(self) -> None:
        token = self.next_word()
        name = self.template_name(token, "define clause")
        self.expect(Kind.RIGHT, "define clause")
        self.separate_body(name, token.pos, "define clause")

    def separate_body(self, name: str, pos: int, context: str) -> None:
        """Parse a body that sees none of the variables around it."""
        outer, self.variables = self.variables, ["$"]
        ranges, self.ranges = self.ranges, 0
        body, end = self.body(pos)
        if end.text != "end":
            self.unexpected(end, context)
        self.expect(Kind.RIGHT, "end")
        self.add(name, body, pos)
        self.variables, self.ranges = outer, ranges

    def template_name(self, token: Token, context: str) -> str:
        if token.kind not in {Kind.STRING, Kind.RAW}:
            self.unexpected(token, context)
        return str(self.constant(token).value)

    def body(self, opened: int) -> tuple[Body, Token]:
        """Parse until the end or else that closes this block; returns that word, just taken."""
        nodes: list[Node] = []
        while self.peek_word().kind is not Kind.END:
            node = self.text_or_action()
            if isinstance(node, Token):
                return tuple(nodes), node
            nodes.append(node)
        raise self.source.error(opened, "this block has no {{end}}")

    def text_or_action(self) -> Node | Token:
        """Parse one piece; an end or else is returned as its token, with the rest of its action still to come."""
        token = self.next_word()
        if token.kind is Kind.TEXT:
            return Text(token.text, token.pos)
        if token.kind is not Kind.LEFT:
            self.unexpected(token, "input")
        word = self.peek_word()
        if word.kind is Kind.KEYWORD and word.text in {"end", "else"}:
            return self.next()
        if word.kind is Kind.KEYWORD and word.text in _CONTROLS:
            self.next()
            return _CONTROLS[word.text](self, word)
        return Action(self.pipeline("command", Kind.RIGHT), word.pos)

    def jump(self, word: Token) -> Node:
        self.expect(Kind.RIGHT, f"{{{{{word.text}}}}}")
        if self.ranges == 0:
            self.fail(word.pos, f"{{{{{word.text}}}}} outside {{{{range}}}}")
        return Break(word.pos) if word.text == "break" else Continue(word.pos)

    def control(self, word: Token) -> Node:
        """Parse if, with or range to its end."""
        in_sight = len(self.variables)
        self.enter(word.pos)
        is_range = word.text == "range"
        pipeline = self.pipeline(word.text, Kind.RIGHT)
        self.ranges += is_range
        body, closing = self.body(word.pos)
        self.ranges -= is_range
        otherwise = self.otherwise(word, closing)
        self.nesting -= 1
        del self.variables[in_sight:]
        if is_range:
            return Range(pipeline, body, otherwise, word.pos)
        return If(pipeline, body, otherwise, word.text == "with", word.pos)

    def otherwise(self, opened: Token, closing: Token) -> Body:
        """Parse what follows the closing word of a body: nothing, an else part, or `else if` up to the common end."""
        if closing.text == "end":
            self.expect(Kind.RIGHT, "end")
            return ()
        if opened.text != "range" and self.at_keyword(opened.text):
            return (self.control(self.next()),)
        self.expect(Kind.RIGHT, "else")
        body, end = self.body(opened.pos)
        if end.text != "end":
            self.fail(end.pos, "expected {{end}}, found a second {{else}}")
        self.expect(Kind.RIGHT, "end")
        return body

    def invoke(self, word: Token) -> Node:
        name = self.template_name(self.next_word(), "template clause")
        self.invoked.append((name, word.pos))
        if self.peek_word().kind is Kind.RIGHT:
            self.next()
            return Invoke(name, None, word.pos)
        return Invoke(name, self.pipeline("template clause", Kind.RIGHT), word.pos)

    def block(self, word: Token) -> Node:
        self.enter(word.pos)
        name = self.template_name(self.next_word(), "block clause")
        pipeline = self.pipeline("block clause", Kind.RIGHT)
        self.separate_body(name, word.pos, "block clause")
        self.nesting -= 1
        return Invoke(name, pipeline, word.pos)

    # --- expressions

    def pipeline(self, context: str, end: Kind) -> Pipeline:
        start = self.peek_word()
        variables, assigns = self.declarations(context)
        commands: list[Command] = []
        while (token := self.peek_word()).kind is not end:
            if token.kind not in _OPERANDS and not (token.kind is Kind.KEYWORD and token.text == "nil"):
                self.unexpected(token, context)
            commands.append(self.command())
        self.next()
        if not commands:
            self.fail(start.pos, f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], Literal | Nil | Dot):
                self.fail(command.pos, f"stage {stage} of the pipeline is a constant and cannot be called")
        return Pipeline(tuple(commands), variables, assigns, start.pos)

    def declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Parse `$x :=`, `$x =` and, in a range, `$i, $x :=`; nothing is taken when none stands here."""
        start = self.at
        names: list[Token] = []
        while self.peek_word().kind is Kind.VARIABLE:
            names.append(self.next())
            after = self.next_word()
            if after.kind in {Kind.DECLARE, Kind.ASSIGN}:
                return self.declare(names, after.kind is Kind.ASSIGN)
            if after.text != "," or after.kind is not Kind.OTHER:
                break
            if context != "range" or len(names) == 2:
                self.fail(names[0].pos, f"too many variables in {context}")
        if len(names) > 1 or (names and self.tokens[self.at - 1].text == ","):
            self.fail(names[0].pos, "range can only initialize variables")
        self.at = start
        return (), False

    def declare(self, names: list[Token], assigns: bool) -> tuple[tuple[str, ...], bool]:
        for token in names:
            self.variables.append(token.text)  # whether `=` finds one to set is seen when it is run, as in Go
        return tuple(token.text for token in names), assigns

    def command(self) -> Command:
        """Parse operands separated by spaces, up to `|` (taken) or the end of the pipeline (left)."""
        start = self.peek_word()
        args: list[Operand] = []
        while (token := self.peek_word()).kind not in {Kind.RIGHT, Kind.CLOSE, Kind.PIPE}:
            args.append(self.operand())
            if self.peek().kind not in {Kind.SPACE, Kind.RIGHT, Kind.CLOSE, Kind.PIPE}:
                self.unexpected(self.peek(), "operand")
        if token.kind is Kind.PIPE:
            self.next()
        return Command(tuple(args), start.pos)

    def operand(self) -> Operand:
        """Parse a term and the fields that follow it without a space."""
        start = self.peek()
        term = self.term()
        names: list[str] = []
        while self.peek().kind is Kind.FIELD:
            names.append(self.next().text[1:])
        if not names:
            return term
        match term:
            case Field():
                return Field(term.names + tuple(names), term.pos)
            case Variable():
                return Variable(term.name, term.names + tuple(names), term.pos)
            case Chain() | Function() | Pipeline():
                return Chain(term, tuple(names), start.pos)
            case _:
                raise self.source.error(start.pos, f"unexpected . after {start}")

    def term(self) -> Operand:
        token = self.next()
        if token.kind in _CONSTANTS:
            return self.constant(token)
        make = _TERMS.get(token.kind)
        if make is None:
            self.unexpected(token, "operand")
        return make(self, token)

    def constant(self, token: Token) -> Literal:
        try:
            return Literal(_CONSTANTS[token.kind](token.text), token.pos)
        except ValueError as error:
            raise self.source.error(token.pos, str(error)) from None

    def nil(self, token: Token) -> Operand:
        if token.text != "nil":
            self.unexpected(token, "operand")
        return Nil(token.pos)

    def function(self, token: Token) -> Operand:
        if token.text not in self.functions:
            self.fail(token.pos, f"function {token.text!r} is not defined")
        return Function(token.text, token.pos)

    def variable(self, token: Token) -> Operand:
        if token.text not in self.variables:
            self.fail(token.pos, f"undefined variable {token.text}")
        return Variable(token.text, (), token.pos)

    def parenthesized(self, token: Token) -> Operand:
        self.enter(token.pos)
        pipeline = self.pipeline("parenthesized pipeline", Kind.CLOSE)
        self.nesting -= 1
        return pipeline


_TERMS: dict[Kind, Callable[[_Parser, Token], Operand]] = {
    Kind.NAME: _Parser.function,
    Kind.DOT: lambda _, token: Dot(token.pos),
    Kind.KEYWORD: _Parser.nil,
    Kind.VARIABLE: _Parser.variable,
    Kind.FIELD: lambda _, token: Field((token.text[1:],), token.pos),
    Kind.OPEN: _Parser.parenthesized,
}
_OPERANDS = (_CONSTANTS.keys() | _TERMS.keys()) - {Kind.KEYWORD}
_CONTROLS: dict[str, Callable[[_Parser, Token], Node]] = {
    "if": _Parser.control,
    "with": _Parser.control,
    "range": _Parser.control,
    "template": _Parser.invoke,
    "block": _Parser.block,
    "break": _Parser.jump,
    "continue": _Parser.jump,
}


def _is_empty(body: Body) -> bool:
    """True when a body holds nothing but space."""
    return all(isinstance(node, Text) and not node.text.strip() for node in body)
