"""Names, ids and labels of endpoints, when tags give them and when not.

Pure. A name is relative to our domains; an id stands behind the last slash of keys; a label is the id as one DNS label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pilotfish.catalog.values import LABEL_PATTERN, MAX_LABEL
from registrator.engines.swarm import SERVICE, STACK
from registrator.rules.container import Facts, PortSpec

LABEL_CUT = 54  # octets; with a dash and eight of a hash it is one label

_LABEL = re.compile(LABEL_PATTERN)
_IMAGE_ID = re.compile(r"^(?:sha256:)?[0-9a-f]{12,64}\Z")  # nobody's repository is called so


class Naming(NamedTuple):
    """How a name came about.

    Attributes:
        explicit: a NAME tag gave it.
        own: a NAME tag is for the very port, though it may be empty.
        several: the container has several published ports.
    """

    explicit: bool
    own: bool
    several: bool


# When "-port" is put behind a name, by the --name-suffix rule. A tag that names the port has said it all.
SUFFIX: Mapping[str, Callable[[Naming], bool]] = MappingProxyType(
    {
        "seed": lambda naming: naming.several and not naming.explicit and not naming.own,
        "auto": lambda naming: naming.several and not naming.own,
        "always": lambda naming: not naming.own,
        "never": lambda _: False,
    }
)


class Default(NamedTuple):
    """The name of a container without a NAME tag, and the rule for it: `compose`, `swarm`, `image` or `container`."""

    name: str
    rule: str


def default_of(facts: Facts) -> Default:
    """The name of a container without a NAME tag: `<service>.<project>` of compose, else its image's base name.

    A task of a swarm goes by its service. A container of an image that is known by its id only goes by its own name.

    >>> default_of(Facts(id="0" * 12, name="c", image="r.io:5000/x/y@sha256:ab"))
    Default(name='y', rule='image')
    """
    service, project = to_label(facts.compose_service), to_label(facts.project)
    if service and project:
        return Default(f"{service}.{project}", "compose")
    if SERVICE in facts.labels:
        return Default(_of_swarm(facts.labels[SERVICE], facts.labels.get(STACK, "")), "swarm")
    if _IMAGE_ID.match(facts.image):
        return Default(to_label(facts.name), "container")
    return Default(facts.image.rpartition("/")[2].partition("@")[0].partition(":")[0], "image")


def _of_swarm(service: str, stack: str) -> str:
    """A swarm's service: its name, and within a stack `<service>.<stack>`, as compose's."""
    own = to_label(service.removeprefix(f"{stack}_")) if stack else to_label(service)
    return f"{own}.{to_label(stack)}" if stack and own and to_label(stack) else own


def to_label(text: str) -> str:
    """Text as one label of a name: what cannot stand there becomes `-`; may be empty."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:MAX_LABEL].strip("-_")


def with_suffix(name: str, port: PortSpec, *, compose: bool = False) -> str:
    """A name with its port behind it; of a compose container behind its service: `web-80.shop`.

    >>> with_suffix("a.b", PortSpec(80, "tcp")), with_suffix("web.shop", PortSpec(80, "tcp"), compose=True)
    ('a.b-80', 'web-80.shop')
    """
    first, dot, rest = name.partition(".") if compose else (name, "", "")
    return f"{first}-{port.port}{dot}{rest}"


def default_id(node: str, facts: Facts, port: PortSpec) -> str:
    """`node:container:port`, and `:udp` for a UDP port."""
    return f"{node}:{facts.name}:{port.port}{_udp(port)}"


def shared_id(given: str, port: PortSpec, *, number: bool) -> str:
    """An ID tag that several ports share, told apart by what differs: the port's number, then its protocol."""
    return f"{given}{f':{port.port}' if number else ''}{_udp(port)}"


def _udp(port: PortSpec) -> str:
    return ":udp" if port.protocol == "udp" else ""


def label_of(endpoint_id: str) -> str:
    """The id as one DNS label (RFC 1035 §2.3.1): lower case, other characters to `-`.

    If more than case and `:` had to change, or it is too long, it is cut and eight hexadecimal digits of the id's
    SHA-256 are put behind it, so that two ids do not become one label.

    >>> label_of("h1:web:80"), label_of("Docker01:estest_1:9200")
    ('h1-web-80', 'docker01-estest-1-9200-69ebcdb4')
    """
    plain = endpoint_id.lower().replace(":", "-")
    label = re.sub(r"[^a-z0-9-]", "-", plain)
    if label == plain and _LABEL.match(label):
        return label
    return f"{label[:LABEL_CUT]}-{hashlib.sha256(endpoint_id.encode()).hexdigest()[:8]}"
