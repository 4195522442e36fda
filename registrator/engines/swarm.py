"""A swarm's services and tasks as documents of containers, so that all that holds for containers holds for them.

Pure and total. A manager's API tells what runs where: GET /services, /tasks, /nodes. Every task that runs becomes a
document as GET /containers/ID/json would give it, under the id of its container; with `SERVICE_SWARM=vip` the service
becomes one document instead. A port that is published in ingress mode is reached at every node of the swarm: a task
stands for it at its own node, the service at all that are ready. One in host mode is reached at the task's node alone.
What the API says has been judged by the swarm: a task of a service with a HEALTHCHECK runs only once it is healthy.
Source: Docker Engine API, ServiceList, TaskList, NodeList. See docs/decisions/0020-swarm.md.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from registrator.engines.engine import container_id

Document: TypeAlias = dict[str, object]

TASK = "com.docker.swarm.task.id"  # a label of every container that a swarm runs
SERVICE = "com.docker.swarm.service.name"
STACK = "com.docker.stack.namespace"
TAG = "SERVICE_SWARM"
NO_MARKS: Mapping[str, str] = MappingProxyType({})
VIP = "vip"
NODE_PREFIX = "swarm-"
ENGINE_PREFIX = "swarm "  # of the engine id in a swarm's node key; no engine's own id has a blank behind that word


class Listed(NamedTuple):
    """What a manager lists, as the API answers it."""

    services: Sequence[object]
    tasks: Sequence[object]
    nodes: Sequence[object]


class Seen(NamedTuple):
    """What a swarm publishes.

    Attributes:
        documents: container id -> document, in the form of ContainerInspect.
        settled: every task is where it is wanted; else a look soon will show more.
    """

    documents: dict[str, Document]
    settled: bool


def node_of(cluster: str) -> str:
    """The name of the node that a swarm's endpoints stand under.

    >>> node_of("y8dk2n5lq0bq7pl5ypxxgtgqq")
    'swarm-y8dk2n5lq0bq'
    """
    return NODE_PREFIX + cluster[:12]


def leads(node: str, nodes: Iterable[object]) -> bool:
    """True when the manager with this id is the leader: the one that writes for the swarm."""
    return any(
        _at(one, "ID") == node and _at(one, "ManagerStatus", "Leader") is True for one in nodes if _text(one, "ID")
    )


def see(listed: Listed) -> Seen:
    """Make documents of what is listed; what makes no sense is left out, and disturbs nothing else."""
    nodes = {_text(one, "ID"): one for one in listed.nodes if _text(one, "ID")}
    services = {_text(one, "ID"): one for one in listed.services if _text(one, "ID")}
    documents: dict[str, Document] = {}
    settled = True
    for task in listed.tasks:
        service, node = services.get(_text(task, "ServiceID")), nodes.get(_text(task, "NodeID"))
        wanted, state = _text(task, "DesiredState"), _text(task, "Status", "State")
        settled = settled and (wanted == state or wanted in {"shutdown", "remove"} or state in _ENDED)
        if service is None or node is None or (wanted, state) != ("running", "running") or _is_vip(service):
            continue
        own = _text(task, "Status", "ContainerStatus", "ContainerID")
        known = own if container_id(own) else _made_up(_text(task, "ID"))
        documents[known] = _of_task(known, service, task, node)
    for service in services.values():
        if _is_vip(service) and any(_runs(task, service) for task in listed.tasks):
            known = _made_up(_text(service, "ID"))
            documents[known] = _of_service(known, service, list(nodes.values()))
    return Seen(documents, settled)


_ENDED = frozenset({"complete", "failed", "rejected", "orphaned", "remove", "shutdown"})


def _runs(task: object, service: object) -> bool:
    return _text(task, "ServiceID") == _text(service, "ID") and (
        _text(task, "DesiredState"),
        _text(task, "Status", "State"),
    ) == ("running", "running")


def _is_vip(service: object) -> bool:
    """A label of the service, else of its containers, else their environment; anything but vip stands for tasks."""
    labels, env = _labels(service), _environment(service)
    return str(labels.get(TAG, env.get(TAG, ""))).strip().lower() == VIP


def _of_task(own: str, service: object, task: object, node: object) -> Document:
    name, slot = _text(service, "Spec", "Name"), _at(task, "Slot")
    place = str(slot) if isinstance(slot, int) and slot else _text(task, "NodeID")
    where = [ip] if (ip := _node_address(node)) else []
    published = {**_published(_entries(service, "Endpoint", "Ports"), "ingress", where)}
    published |= _published(_entries(task, "Status", "PortStatus", "Ports"), "host", where)
    document = _document(own, f"{name}.{place}.{_text(task, 'ID')}", service, published, {TASK: _text(task, "ID")})
    since = _text(task, "Status", "Timestamp")
    meshed = any(_text(port, "PublishMode") != "host" for port in _entries(service, "Endpoint", "Ports"))
    return {**document, "State": _state(since, judged=meshed or _has_check(service))}


def _of_service(own: str, service: object, nodes: Sequence[object]) -> Document:
    ready = [node for node in nodes if _text(node, "Status", "State") == "ready"]
    where = sorted({ip for node in ready if (ip := _node_address(node))})  # the API lists them in any order
    published = _published(_entries(service, "Endpoint", "Ports"), "ingress", where)
    document = _document(own, _text(service, "Spec", "Name"), service, published)
    chosen = {_text(one, "Target") for one in _entries(service, "Spec", "TaskTemplate", "Networks")}
    networks = {
        _text(one, "NetworkID"): {"IPAddress": _text(one, "Addr").partition("/")[0]}
        for one in _entries(service, "Endpoint", "VirtualIPs")
        if _text(one, "Addr") and _text(one, "NetworkID") in chosen  # its address on the ingress network is nobody's
    }
    settings = {"Ports": published, "Networks": networks}
    return {**document, "NetworkSettings": settings, "State": _state(_text(service, "CreatedAt"), judged=True)}


def _document(
    own: str, name: str, service: object, published: Mapping[str, object], marks: Mapping[str, str] = NO_MARKS
) -> Document:
    spec = _at(service, "Spec", "TaskTemplate", "ContainerSpec")
    labels = _labels(service)
    return {
        "Id": own,
        "Name": f"/{name}",
        "Config": {
            "Image": _text(spec, "Image"),
            "Env": [one for one in _entries(spec, "Env") if isinstance(one, str)],
            "Labels": {**labels, **marks, SERVICE: _text(service, "Spec", "Name")},
            "ExposedPorts": {port: {} for port in published},
        },
        "HostConfig": {"NetworkMode": "ingress"},
        "NetworkSettings": {"Ports": dict(published), "Networks": {}},
    }


def _state(since: str, *, judged: bool) -> Document:
    """Through the mesh a dial reaches any task: there the swarm's word counts, in host mode a first dial."""
    return {"Running": True, "StartedAt": since, "Health": {"Status": "healthy"} if judged else None}


def _has_check(service: object) -> bool:
    test = _entries(service, "Spec", "TaskTemplate", "ContainerSpec", "Healthcheck", "Test")
    return bool(test) and test != ["NONE"]


def _published(ports: Iterable[object], mode: str, where: Sequence[str]) -> dict[str, object]:
    """`80/tcp` -> bindings, at these addresses, of the ports that are published in this mode."""
    found: dict[str, list[object]] = {}
    for port in ports:
        target, number = _at(port, "TargetPort"), _at(port, "PublishedPort")
        if (_text(port, "PublishMode") or "ingress") == mode and isinstance(target, int) and isinstance(number, int):
            bindings = [{"HostIp": ip, "HostPort": str(number)} for ip in where]
            found.setdefault(f"{target}/{_text(port, 'Protocol') or 'tcp'}", []).extend(bindings)
    return dict(found)


def _labels(service: object) -> dict[str, str]:
    """The service's labels over those of its containers: they can be changed without new tasks."""
    of_service = _at(service, "Spec", "Labels")
    of_containers = _at(service, "Spec", "TaskTemplate", "ContainerSpec", "Labels")
    both = [one for one in (of_containers, of_service) if isinstance(one, Mapping)]
    return {str(key): value for labels in both for key, value in labels.items() if isinstance(value, str)}


def _environment(service: object) -> dict[str, str]:
    entries = _entries(service, "Spec", "TaskTemplate", "ContainerSpec", "Env")
    split = (entry.partition("=") for entry in entries if isinstance(entry, str))
    return {name: value for name, found, value in split if found}


def _node_address(node: object) -> str:
    """Where other hosts reach a node; a manager may not know its own (0.0.0.0), and names it for the others."""
    for text in (_text(node, "Status", "Addr"), _text(node, "ManagerStatus", "Addr").rpartition(":")[0]):
        try:
            address = ipaddress.ip_address(text.strip("[]"))
        except ValueError:
            continue
        if not (address.is_unspecified or address.is_loopback):
            return str(address)
    return ""


def _made_up(text: str) -> str:
    """An id in the form of a container's, for what has none."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _at(value: object, *path: str) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: object, *path: str) -> str:
    found = _at(value, *path)
    return found if isinstance(found, str) else ""


def _entries(value: object, *path: str) -> list[object]:
    found = _at(value, *path)
    return found if isinstance(found, list) else []
