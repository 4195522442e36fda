"""What the rest of the catalog decides about our exports: names' ways, claims, and the proxies' port."""

from __future__ import annotations

import pytest

from pilotfish.catalog.keys import container_key, proxy_key
from pilotfish.catalog.mirror import Difference
from pilotfish.catalog.record import Container, Endpoint, Proxy, encode
from pilotfish.catalog.route import Route
from pilotfish.catalog.store import Entry
from registrator.writing.around import Around

WEB = Container(
    node="h2",
    id="ab" * 32,
    name="web",
    image="web",
    started=1.0,
    observed=1.0,
    endpoints=(Endpoint(service="web", id="h2:web:80", label="h2-web-80", port=80, route=Route("http")),),
)


def put(key, record, revision=1):
    return Entry(key, encode(record), revision, revision)


def proxies(*ports):
    return [put(proxy_key(f"h{n}"), Proxy(node=f"h{n}", addresses=(), http_port=port)) for n, port in enumerate(ports)]


PORTS = {
    "none has said": ((), 80),
    "one": ((8080,), 8080),
    "most have it": ((80, 8080, 8080), 8080),
    "the lowest of equals": ((8080, 80), 80),
    "one that serves no http does not count": ((0, 8080), 8080),
}


@pytest.mark.parametrize(("ports", "expected"), PORTS.values(), ids=PORTS.keys())
def test_the_proxies_port(ports, expected):
    """Exports of proxied names carry the port at which the proxies really serve."""
    around = Around()
    around.apply(Difference(1, tuple(proxies(*ports))), {})
    assert around.proxy_port == expected


def test_a_port_that_moves_touches_proxied_names_once():
    """Whoever exports a proxied name writes it anew; a proxy that goes changes nothing."""
    around = Around()
    assert around.apply(Difference(1, (put(container_key("h2", WEB.id), WEB),)), {}).names == {"web"}
    assert around.apply(Difference(2, tuple(proxies(8080))), {}).names == {"web"}
    assert around.apply(Difference(3, tuple(proxies(8080))), {}).names == set()
    assert around.apply(Difference(4, (), (proxy_key("h0"),)), {}).names == set()
    assert around.proxy_port == 8080
