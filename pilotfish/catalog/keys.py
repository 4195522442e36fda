"""The key grammar, both directions. Nobody else builds or splits a key.

    /pilotfish/v1/nodes/<node>              /pilotfish/v1/containers/<node>/<id>
    /pilotfish/v1/proxies/<node>            /pilotfish/v1/claims/<host>/<path, percent-encoded>
    /pilotfish/v1/wishes/<kind>/<name>
    /skydns/<reversed domain>/<name>/<label>
    /reg/proxy/<scheme>/<name>/<id>         /reg/all/<name>/<id>

Built from checked parts only: no `/`, no `.` or `..`, no empty part and no control character gets in.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from pilotfish.catalog.route import Place
from pilotfish.catalog.values import quoted

ROOT = "/pilotfish/v1/"
NODES = f"{ROOT}nodes/"
CONTAINERS = f"{ROOT}containers/"
PROXIES = f"{ROOT}proxies/"
CLAIMS = f"{ROOT}claims/"
WISHES = f"{ROOT}wishes/"
SKYDNS = "/skydns/"

_PART = re.compile(r"^[^/\x00-\x20\x7f-\x9f\ud800-\udfff]+\Z")  # a lone surrogate cannot be written in UTF-8


class BadKey(ValueError):
    """A part that cannot stand in a key; the message quotes it."""


class NodeKey(NamedTuple):
    """Parts of /pilotfish/v1/nodes/<node>."""

    node: str


class ContainerKey(NamedTuple):
    """Parts of /pilotfish/v1/containers/<node>/<id>."""

    node: str
    id: str


class ProxyKey(NamedTuple):
    """Parts of /pilotfish/v1/proxies/<node>."""

    node: str


class ClaimKey(NamedTuple):
    """Parts of /pilotfish/v1/claims/<host>/<path>."""

    place: Place


class WishKey(NamedTuple):
    """Parts of /pilotfish/v1/wishes/<kind>/<name>."""

    kind: str
    name: str


OurKey: TypeAlias = NodeKey | ContainerKey | ProxyKey | ClaimKey | WishKey


def _join(prefix: str, *parts: str) -> str:
    for part in parts:
        if part in {".", ".."} or not _PART.match(part):
            raise BadKey(f"{quoted(part)} cannot stand in a key: no '/', blank, control character, '.' or '..'")
    return prefix + "/".join(parts)


def _encoded(part: str) -> str:
    try:
        return quote(part, safe="")
    except UnicodeEncodeError:
        raise BadKey(f"{quoted(part)} cannot stand in a key: it cannot be written in UTF-8") from None


def node_key(node: str) -> str:
    """Key of a host's registrator."""
    return _join(NODES, node)


def container_key(node: str, container_id: str) -> str:
    """Key of a container's record."""
    return _join(CONTAINERS, node, container_id)


def containers_of(node: str) -> str:
    """Prefix of all container records of a node."""
    return _join(CONTAINERS, node) + "/"


def proxy_key(node: str) -> str:
    """Key of a host's proxy."""
    return _join(PROXIES, node)


def claim_key(place: Place) -> str:
    """Key of the claim to a place; the path is percent-encoded into one part."""
    return _join(CLAIMS, place.host, _encoded(place.path))


def wish_key(kind: str, name: str) -> str:
    """Key of an operator's wish; the name is percent-encoded into one part."""
    return _join(WISHES, kind, _encoded(name))


def parse(key: str) -> OurKey | None:
    """What a key under /pilotfish/v1 stands for; None for one of no known form.

    >>> parse("/pilotfish/v1/containers/h1/0123")
    ContainerKey(node='h1', id='0123')
    """
    if not key.startswith(ROOT):
        return None
    match key[len(ROOT) :].split("/"):
        case ["containers", node, container_id] if node and container_id:
            return ContainerKey(node, container_id)
        case ["nodes", node] if node:
            return NodeKey(node)
        case ["proxies", node] if node:
            return ProxyKey(node)
        case ["claims", host, path] if host and _is_encoded(path):
            return ClaimKey(Place(host, unquote(path)))
        case ["wishes", kind, name] if kind and _is_encoded(name):
            return WishKey(kind, unquote(name))
    return None


# One thing has one key: another spelling of it ("%2f" for "%2F") is none, or removing it would remove the thing.
def _is_encoded(part: str) -> bool:
    return part != "" and quote(unquote(part), safe="") == part


def skydns_key(prefix: str, name: str) -> str:
    """SkyDNS key of an absolute name: its labels reversed under the prefix.

    >>> skydns_key("/skydns", "web.svc.internal")
    '/skydns/internal/svc/web'
    """
    return _join(prefix.rstrip("/") + "/", *reversed(name.lower().rstrip(".").split(".")))


def skydns_name(prefix: str, key: str) -> tuple[str, ...] | None:
    """Labels of the name that a SkyDNS key stands for, leftmost first; None when the key is not below the prefix.

    >>> skydns_name("/skydns", "/skydns/internal/svc/web")
    ('web', 'svc', 'internal')
    """
    top = prefix.rstrip("/") + "/"
    if not key.startswith(top):
        return None
    labels = key[len(top) :].rstrip("/").split("/")
    return tuple(reversed(labels)) if all(labels) else None


def registry_proxy_key(scheme: str, name: str, endpoint_id: str) -> str:
    """Key under which confd templates of the seed find a proxied endpoint."""
    return _join("/reg/proxy/", scheme, name, endpoint_id)


def template_key(text: str) -> str:
    """A key that an admin's key template made: absolute, of whole parts, and nothing of ours.

    Raises:
        BadKey: not so; the message quotes it.
    """
    if not text.startswith("/"):
        raise BadKey(f"{quoted(text)} is no key: it must begin with '/'")
    if (text + "/").startswith("/pilotfish/"):
        raise BadKey(f"{quoted(text)} is no key for a template: /pilotfish/ holds the records themselves")
    return _join("/", *text[1:].split("/"))


def registry_all_key(name: str, endpoint_id: str) -> str:
    """Key under which every published port is listed."""
    return _join("/reg/all/", name, endpoint_id)
