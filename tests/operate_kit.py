"""A catalog for the tests of what operators do: containers, nodes, proxies and wishes in few words."""

from __future__ import annotations

from pilotfish.catalog import keys
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Address, Claim, Container, Drain, Endpoint, Node, Proxy, Shift, encode
from pilotfish.catalog.registry import Registry
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.store import Entry

HTTP = Route(scheme="http")


def endpoint(service="web", port=80, *, node="h1", name="c", **fields):
    """A passing endpoint."""
    fields.setdefault("state", "passing")
    fields.setdefault("addresses", (Address("192.0.2.1", port, "lan"),))
    return Endpoint(service=service, id=f"{node}:{name}:{port}", label=f"{node}-{name}-{port}", port=port, **fields)


def container(name, node="h1", *endpoints, service="web", number=None, **fields):
    """A container; its id is made of its name, with one endpoint unless others are given."""
    made = number or name.encode().hex().ljust(12, "0")[:64]
    ends = endpoints or (endpoint(service, node=node, name=name, **fields),)
    return Container(node=node, id=made, name=name, image="i", started=1.0, observed=1.0, endpoints=ends)


def node(name, *addresses):
    """A node."""
    return Node(node=name, addresses=addresses, boot="b", engine="e", instance="i", version="1")


def proxy(name, revision=1, *addresses, away=()):
    """A living proxy."""
    return Proxy(node=name, addresses=addresses or ("192.0.2.9",), http_port=80, revision=revision, away=away)


def key_of(record):
    """The key of a record that says whose it is."""
    match record:
        case Container():
            return keys.container_key(record.node, record.id)
        case Node():
            return keys.node_key(record.node)
        case Proxy():
            return keys.proxy_key(record.node)
    raise AssertionError(record)


def drained(subject, since=1.0):
    """Key and value of a drain."""
    return keys.wish_key("drain", subject), encode(Drain(since=since))


def shifted(service, **percents):
    """Key and value of a shift."""
    return keys.wish_key("shift", service), encode(Shift(since=1.0, percents=percents))


def claimed(service, host, path="/", idle_since=0.0):
    """Key and value of a claim."""
    return keys.claim_key(Place(host, path)), encode(Claim(service=service, since=1.0, idle_since=idle_since))


def pairs(*things):
    """Records, and pairs of key and value, as pairs."""
    return [one if isinstance(one, tuple) else (key_of(one), encode(one)) for one in things]


def registry(*things):
    """A registry that holds these."""
    made = Registry()
    made.apply(Difference(1, tuple(Entry(key, value, 1, 1) for key, value in sorted(pairs(*things)))))
    return made
