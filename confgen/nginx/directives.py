"""What the admin's own directives say, as far as ours have to give way to them or stand beside them.

Pure. nginx's grammar of words, quotes, comments, `;` and braces; blocks are named, not looked into. What is no
directive is left to nginx, which refuses it by file and line.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

# A comment, a quoted word, one of `;{}`, blanks, or a word: there `#` and quotes are as any other character.
_PIECE = re.compile(
    r"""\#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[;{}]|\s+|(?:\\.|\$\{[^}]*\}|[^\s;{}\\])+|.""", re.DOTALL
)
_GUARD = re.compile(rb"\b(deny|auth_basic|auth_request|auth_jwt)\b")
_PASS = re.compile(rb"\b(proxy|grpc|fastcgi|uwsgi|scgi)_pass\b")
# What a tag prints in a location takes the place of these in the host's own directives; `include` may hold any of them.
NETWORKS = frozenset({"allow", "deny", "satisfy", "include"})
USERS = frozenset({"auth_basic", "auth_basic_user_file", "satisfy", "include"})
OTHERS = frozenset({"auth_request", "auth_jwt", "if", "return"})  # by which a client may be refused too
REQUESTS = frozenset({"limit_req", "limit_conn", "include"})
LISTENS = frozenset({"listen", "include"})  # for more than our own ports, over TLS perhaps


class Directive(NamedTuple):
    """One directive that stands in no block of the snippet.

    Attributes:
        name: its first word.
        text: all of it, `;` included; of a block, what stands before its brace.
    """

    name: str
    text: str


@functools.lru_cache(maxsize=2048)  # a snippet is the same object until its file changes
def directives(snippet: bytes) -> tuple[Directive, ...]:
    r"""The outer directives of a snippet, in order.

    >>> [one.name for one in directives(b"deny all; # allow\nlocation /x { allow all; }\nadd_header A ';';")]
    ['deny', 'location', 'add_header']
    """
    found, text, depth = [], "", 0
    for piece in _PIECE.findall(snippet.decode("utf-8", "surrogateescape")):
        if piece[0] == "#":
            continue
        if piece in {";", "{"} and not depth:
            found.append(Directive(text.split(maxsplit=1)[0].strip("\"'") if text.strip() else "", f"{text.strip()};"))
        if piece in {";", "{", "}"}:
            depth, text = max(0, depth + {"{": 1, "}": -1}.get(piece, 0)), ""
        elif not depth:
            text += piece if text or not piece.isspace() else ""
    return tuple(found)


HEADERS = frozenset({"add_header", "proxy_set_header"})  # of an inner level, they drop those of the outer ones


def headers(snippet: bytes) -> bytes:
    """Its directives of headers, one a line: repeated in each location, which has some of its own."""
    found = [one.text for one in directives(snippet) if one.name in HEADERS]
    return "".join(f"{text}\n" for text in found).encode("utf-8", "surrogateescape")


def sent(snippet: bytes) -> frozenset[str]:
    """The headers that it sends to the application, in lower case."""
    words = [one.text.split() for one in directives(snippet) if one.name == "proxy_set_header"]
    return frozenset(found[1].strip("\"'").lower() for found in words if len(found) > 1)


def locations(snippet: bytes) -> frozenset[str]:
    """Its locations that are no patterns, as ours are written: nginx takes none of them twice.

    >>> sorted(locations(b"location ^~ '/' { return 418; } location =/a { } location ~ b { } location @c { }"))
    ['/', '= /a']
    """
    blocks = ("".join(one.text.rstrip(";").split()[1:]) for one in directives(snippet) if one.name == "location")
    plain = (re.sub("[\"']", "", block).removeprefix("^~") for block in blocks)
    return frozenset(f"= {one[1:]}" if one[0] == "=" else one for one in plain if one and one[0] in "=/")


def guards_inside(snippet: bytes) -> bool:
    """Whether it seems to guard some paths of its host and not others, by blocks of its own."""
    return _inside(snippet, _GUARD)


def passes_inside(snippet: bytes) -> bool:
    """Whether it seems to pass some paths of its host on to an application, by blocks of its own."""
    return _inside(snippet, _PASS)


def _inside(snippet: bytes, what: re.Pattern[bytes]) -> bool:
    return "location" in names(snippet) and what.search(snippet) is not None


def names(snippet: bytes) -> frozenset[str]:
    """The names of its outer directives."""
    return frozenset(one.name for one in directives(snippet))
