"""The admin's own key templates, ETCD_TMPL_*: what an endpoint writes instead of the built-in exports.

Go text as in compose files of 2014, or Jinja2 where the variable's name ends in `_J2`; the variables are the same in
both: `.ID .Name .Port .IP .Tags .Attrs.<key> .TTL`, `.Published.*` and `.Origin.*` (see `variables`). Output is cut at
its first blank: key in front, value behind, both trimmed; without either, nothing is written. Asking for an attribute
that is not set is fine; printing one is an error that names it, and so is a value from a tag that would move the cut or
add a part to the key. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jinja2
import jinja2.meta
import jinja2.sandbox

from pilotfish.catalog import gotemplate
from pilotfish.catalog.keys import BadKey, template_key
from pilotfish.catalog.record import Address, Container, Endpoint
from pilotfish.catalog.settings import BadSettings

JINJA_SUFFIX = "_J2"
SHORT_ID = 12  # digits; a container's host name unless it is given one

# Stands for a blank or slash that came out of a tag, in a second rendering that tells where those went.
_MARK = "\ue000"
_CUTTING = frozenset("/ \t\n\v\f\r")


class TemplateProblem(ValueError):
    """A template cannot be rendered for an endpoint, or makes no usable key; the message names the template."""


class KeyTemplate(NamedTuple):
    """One parsed template.

    Attributes:
        name: of the variable that holds it.
        render: variables -> text; raises TemplateProblem.
    """

    name: str
    render: Callable[[Mapping[str, object]], str]


def parse(texts: Mapping[str, str]) -> tuple[KeyTemplate, ...]:
    """Parse all templates, in the order of their names (of two that make one key, the last wins).

    Raises:
        BadSettings: every one that is no template, or uses a variable that does not exist; each by name.
    """
    found, errors = [], []
    for name, text in sorted(texts.items()):
        try:
            template = _jinja(name, text) if name.endswith(JINJA_SUFFIX) else _go(name, text)
            _try(template)
        except TemplateProblem as error:
            errors.append(str(error))
        else:
            found.append(template)
    if errors:
        raise BadSettings(errors)
    return tuple(found)


def render(template: KeyTemplate, data: Mapping[str, object]) -> tuple[str, str] | None:
    """The key and value that a template makes of an endpoint's variables; None when it makes none.

    Raises:
        TemplateProblem: it fails, or its key is not usable.
    """
    pair = split(template.render(data))
    if pair is None:
        return None
    marked = split(template.render(_marked(data))) if _cuts(data) else pair
    if marked is None or _MARK in marked[0]:
        raise TemplateProblem(f"{template.name}: a tag's value with a blank or '/' cannot stand in the key")
    try:
        return template_key(pair[0]), pair[1]
    except BadKey as error:
        raise TemplateProblem(f"{template.name}: {error}") from error


def split(text: str) -> tuple[str, str] | None:
    r"""Cut a template's output at its first blank.

    >>> split('\n/k {"host": "1.2.3.4"} '), split(" /k v")
    (('/k', '{"host": "1.2.3.4"}'), None)
    """
    key, _, value = text.partition(" ")
    key, value = key.strip(), value.strip()
    return (key, value) if key and value else None


def variables(container: Container, endpoint: Endpoint, lan: Address, ttl_s: int) -> dict[str, object]:
    """What a template sees of an endpoint. All ports but `.Port` are text, as they were.

    Args:
        container: that it belongs to.
        endpoint: whose `attrs` hold the tags that we know too.
        lan: the address that exports use.
        ttl_s: seconds that keys live without their host.
    """
    own = next((address.ip for address in endpoint.addresses if address.scope == "node"), "")
    hostname = container.hostname or container.id[:SHORT_ID]
    ports = {
        "HostPort": str(lan.port),
        "HostIP": lan.ip,
        "ExposedPort": str(endpoint.port),
        "ExposedIP": own or lan.ip,
        "PortType": endpoint.protocol,
    }
    whole = {
        "ID": container.id,
        "Name": f"/{container.name}",
        "Image": container.image,
        "Config": {"Image": container.image, "Hostname": hostname},
    }
    origin = {"ContainerHostname": hostname, "ContainerID": container.id, "ContainerName": container.name}
    return {
        "ID": endpoint.id,
        "Name": endpoint.service,
        "Port": lan.port,
        "IP": lan.ip,
        "Tags": list(endpoint.tags),
        "Attrs": dict(endpoint.attrs),
        "TTL": endpoint.ttl or ttl_s,
        "Published": {**ports, "HostName": hostname, "Container": whole},
        "Origin": {**ports, **origin},
    }


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count)


# Named and ordered as confd's, and a filter of the same name in Jinja2.
FUNCTIONS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "json": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        "toLower": str.lower,
        "toUpper": str.upper,
        "replace": _replace,
        "split": str.split,
        "join": lambda parts, separator: separator.join(parts),
    }
)


def _go(name: str, text: str) -> KeyTemplate:
    try:
        template = gotemplate.parse(name, text, FUNCTIONS)
    except gotemplate.TemplateError as error:
        raise TemplateProblem(str(error)) from error

    def render_(data: Mapping[str, object]) -> str:
        try:
            return template.render(data)
        except gotemplate.TemplateError as error:
            raise TemplateProblem(str(error)) from error

    return KeyTemplate(name, render_)


class _Missing(jinja2.StrictUndefined):
    """What is not set may be asked for; printing it is an error, as in Go text."""

    def __bool__(self) -> bool:  # type: ignore[override]  # the one thing that is not strict here
        return False


def _jinja(name: str, text: str) -> KeyTemplate:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=_Missing, autoescape=False)
    environment.globals.clear()
    environment.filters.update(FUNCTIONS)
    try:
        unknown = jinja2.meta.find_undeclared_variables(environment.parse(text)) - _SAMPLE.keys()
        template = environment.from_string(text)
    except jinja2.TemplateError as error:
        raise TemplateProblem(f"{name}: {_where(error)}{error}") from error
    if unknown:
        raise TemplateProblem(f"{name}: {', '.join(sorted(unknown))} is not set; there are {', '.join(_SAMPLE)}")

    def render_(data: Mapping[str, object]) -> str:
        try:
            return template.render(data)
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise TemplateProblem(f"{name}: {error}") from error

    return KeyTemplate(name, render_)


def _where(error: jinja2.TemplateError) -> str:
    line = getattr(error, "lineno", None)
    return f"line {line}: " if line else ""


# How Go text and Jinja2 say that a variable does not exist, or is not for templates.
_NEVER = ("is not set", "is undefined", "has no attribute", "is unsafe")


class _Any(dict[str, object]):
    """Attributes of a sample endpoint: all are set."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> object:
        return "sample"


_SAMPLE = variables(
    Container(node="sample", id="0" * SHORT_ID, name="sample", image="sample", started=0.0, observed=0.0),
    Endpoint(service="sample", id="sample:sample:80", label="sample-sample-80", port=80, tags=("sample",)),
    Address("192.0.2.1", 80, "lan"),
    30,
) | {"Attrs": _Any()}


def _try(template: KeyTemplate) -> None:
    """Render a sample on which every attribute is set, to find at start the variables that can never be.

    Other errors may be the sample's own fault, and are told when a container meets them.
    """
    try:
        template.render(_SAMPLE)
    except TemplateProblem as error:
        if any(words in str(error) for words in _NEVER):
            raise


def _cuts(data: Mapping[str, object]) -> bool:
    return any(not _CUTTING.isdisjoint(text) for text in _from_tags(data))


def _from_tags(data: Mapping[str, object]) -> Iterator[str]:
    for name in ("Attrs", "Tags"):
        held = data[name]
        yield from (str(text) for text in (held.values() if isinstance(held, dict) else _listed(held)))


def _listed(held: object) -> list[object]:
    return held if isinstance(held, list) else []


def _marked(data: Mapping[str, object]) -> dict[str, object]:
    """The same variables with a mark for every blank and slash of a tag's value."""
    table = str.maketrans(dict.fromkeys(_CUTTING, _MARK))
    attrs = {key: text.translate(table) for key, text in _texts(data["Attrs"]).items()}
    return {**data, "Attrs": attrs, "Tags": [str(tag).translate(table) for tag in _listed(data["Tags"])]}


def _texts(held: object) -> dict[str, str]:
    return {str(key): str(text) for key, text in held.items()} if isinstance(held, dict) else {}
