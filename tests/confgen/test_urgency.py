"""Which changes may wait for old workers: those that only add. On real views, from records."""

from __future__ import annotations

import pytest

from confgen.nginx import urgency
from confgen.nginx.shapes import Location, ServiceView, Site, Upstream
from confgen.nginx.urgency import Answering, only_adds
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


OTHERS = {
    "a host that nobody has": ("a.test", "/", ("b.test", "/"), False),
    "a host below another's wildcard": ("*.test", "/", ("b.test", "/"), True),
    "a path there": ("*.test", "/x", ("b.test", "/y"), True),
    "a wildcard below another's": ("*.test", "/", ("*.b.test", "/"), True),
    "a wildcard above another's": ("*.b.test", "/", ("*.test", "/"), False),
    "a host of two labels more": ("*.test", "/", ("c.b.test", "/"), True),
    "the wildcard's own domain": ("*.test.test", "/", ("test.test", "/"), False),
    "a path below another's": ("a.test", "/", ("a.test", "/api"), True),
    "the same path with a slash": ("a.test", "/api", ("a.test", "/api/x"), True),
    "a path that begins alike": ("a.test", "/api", ("a.test", "/apis"), False),
    "a path above another's": ("a.test", "/api", ("a.test", "/"), False),
}


@pytest.mark.parametrize(("host", "path", "new", "taken"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("mine", [False, True], ids=["another's", "its own"])
def test_a_new_place_that_another_service_answers_until_now_does_not_wait(host, path, new, taken, mine):
    owner = "web" if mine else "other"
    catalog = Catalog()
    catalog.feed(claim(owner, host, path))
    answering = Answering(list(catalog.views.services.values()))
    catalog.feed(claim("web", *new))
    assert answering.takes(catalog.views.services["web"]) is (taken and not mine)
    assert not Answering(catalog.views.services.values()).takes(catalog.views.services["web"])  # it is served by now


@pytest.mark.parametrize("kind", [ServiceView, Site, Location, Upstream])
def test_what_is_free_to_differ_is_there(kind):
    assert urgency._FREE[kind] <= set(kind.__struct_fields__)
