"""Renders a template as a resource would, from keys in memory."""

from __future__ import annotations

import json
from pathlib import Path

from confgen.resources import functions, resource
from confgen.resources.io_lookups import Lookups
from confgen.resources.keyspace import Keyspace
from confgen.resources.languages import compiled

ENVIRON = {"HOSTNAME": "localhost", "EMPTY_ONE": ""}
PLAIN = '[template]\nsrc = "t.tmpl"\nkeys = ["/"]\n'
_TABLE = json.loads((Path(__file__).parent / "confd_answers.json").read_text(encoding="utf-8"))
ANSWERS = [{"keys": _TABLE[row.get("over", "random_keys")], **row} for row in _TABLE["rows"]]


def render(template: str, keys: dict[str, str], toml: str = "", prefix: str = "", src: str = "t.tmpl") -> str:
    """What a resource writes."""
    read = resource.parse("t.toml", (toml or PLAIN) + 'dest = "/out"\n', prefix)
    bound = functions.functions(Keyspace(resource.seen(read, keys)), Lookups(ENVIRON, 0).world)
    return compiled(src, template).render(bound, {})
