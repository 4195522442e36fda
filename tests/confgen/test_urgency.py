"""Which changes may wait for old workers: those that only add. On real views, from records."""

from __future__ import annotations

import pytest

from confgen.nginx import urgency
from confgen.nginx.shapes import Location, ServiceView, Site, Upstream
from confgen.nginx.urgency import only_adds
from tests.confgen.kit import DOMAIN, Catalog, claim, container, endpoint, put

WEB = f"web.{DOMAIN}"


def view(*endpoints, claims=((WEB, "/"),), more=()):
    """The view of `web` with these endpoints."""
    catalog = Catalog()
    catalog.feed(put(container("web", *endpoints)), *(claim("web", host, path) for host, path in claims), *more)
    return catalog.views.services.get("web")


def one(port=81, **more):
    return endpoint("web", port, **more)


BOTH = ((WEB, "/"), (WEB, "/api"))
ONE, TWO = view(one()), view(one(), one(82))
API = endpoint("web", 83, path="/api")
ROWS = {
    "a new service": (None, ONE, True),
    "nothing changed": (ONE, ONE, True),
    "a server more": (ONE, TWO, True),
    "a server less": (TWO, ONE, False),
    "a server for another": (ONE, view(one(82)), False),
    "the last server goes": (ONE, view(one(weight=0)), False),
    "the first server comes": (view(one(weight=0)), ONE, True),
    "another weight": (ONE, view(one(weight=7)), True),
    "a path more": (view(one(), claims=BOTH), view(one(), API, claims=BOTH), True),
    "a path less": (view(one(), API, claims=BOTH), view(one(), API), False),
    "the prefix is stripped now": (
        view(endpoint("web", 81, path="/api"), claims=BOTH[1:]),
        view(endpoint("web", 81, path="/api", strip=True), claims=BOTH[1:]),
        False,
    ),
    "the service goes": (ONE, None, False),
    "a host of another service is led by it now": (
        view(endpoint("web", 81, path="/api"), claims=BOTH[1:]),
        view(
            endpoint("web", 81, path="/api"),
            claims=BOTH[1:],
            more=(put(container("top", endpoint("top", hosts=(WEB,)))), claim("top", WEB)),
        ),
        True,
    ),
}


@pytest.mark.parametrize(("before", "after", "expected"), ROWS.values(), ids=ROWS)
def test_only_what_adds_may_wait(before, after, expected):
    assert only_adds(before, after) is expected


@pytest.mark.parametrize("kind", [ServiceView, Site, Location, Upstream])
def test_what_is_free_to_differ_is_there(kind):
    assert urgency._FREE[kind] <= set(kind.__struct_fields__)
