"""What `shift` and `release` decide: shares, versions, claims. As tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish import operate_claims, operate_shift
from pilotfish.catalog.route import Place, Route
from pilotfish.catalog.settings import BadSettings
from pilotfish.operate import NotMeant, Refused
from tests.operate_kit import HTTP, claimed, container, drained, registry, shifted

PERCENTS = {
    "one": (["v2=10"], {"v2": 10}),
    "several": (["v2=10", "v1=90"], {"v2": 10, "v1": 90}),
    "with its sign": (["v2=10%"], {"v2": 10}),
    "without a VERSION tag": (["=10"], {"": 10}),
    "a version with '='": (["a=b=10"], {"a=b": 10}),
    "nothing and all": (["a=0", "b=100"], {"a": 0, "b": 100}),
}


@pytest.mark.parametrize(("words", "expected"), PERCENTS.values(), ids=PERCENTS)
def test_shares_are_read(words, expected):
    """VERSION=PERCENT."""
    assert operate_shift.percents(words) == expected


BAD = {
    "none": ([], ["give VERSION=PERCENT"]),
    "no number": (["v2"], ["'v2' is no share"]),
    "no whole number": (["v2=1.5"], ["'v2=1.5' is no share"]),
    "negative": (["v2=-1"], ["'v2=-1' is no share"]),
    "too much": (["v2=101"], ["'v2=101' is no share"]),
    "digits of another script": (["v2=\u0661"], ["is no share"]),
    "too much together": (["a=60", "b=41"], ["the shares are 101 percent together"]),
    "twice": (["a=1", "a=2"], ["version 'a' is given twice"]),
    "all that is wrong at once": (["x", "y", "a=1", "a=2"], ["'x' is no", "'y' is no", "twice"]),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD)
def test_bad_shares_are_all_listed(words, said):
    """Each with what is allowed."""
    with pytest.raises(BadSettings) as caught:
        operate_shift.percents(words)
    assert len(caught.value.errors) == len(said)
    assert [part for part, error in zip(said, caught.value.errors, strict=True) if part not in error] == []


BLUE, GREEN = container("a", version="blue"), container("b", "h2", version="green")
REFUSED = {
    "an unknown version": ({"red": 1}, [BLUE, GREEN], NotMeant, "no endpoint of version 'red'; it has 'blue', 'green'"),
    "an unknown version gets nothing": ({"red": 0}, [BLUE, GREEN], None, ""),
    "all of it": ({"green": 100}, [BLUE, GREEN], None, ""),
    "nobody is left": ({"green": 0, "blue": 0}, [BLUE, GREEN], Refused, "no endpoint that is served has a share"),
    "all to one that is drained": ({"green": 100}, [BLUE, GREEN, drained("node:h2")], Refused, "--force"),
    "all to one that fails": (
        {"green": 100}, [BLUE, container("b", "h2", version="green", state="failing")], Refused, "--force",
    ),
    "nobody was served before": (
        {"green": 100}, [container("b", "h2", version="green", state="failing")], None, "",
    ),
    "nobody is served now, and nobody has a share": (
        {"blue": 0, "green": 0}, [container("a", version="blue", state="failing"), GREEN, drained("service:web")],
        Refused, "--force",
    ),
    "nobody is served, and no version that there is has a share": (
        {"green": 0}, [container("b", "h2", version="green", state="failing")], Refused, "--force",
    ),
    "all to one that fails, while all is drained": (
        {"green": 100}, [BLUE, container("b", "h2", version="green", state="failing"), drained("service:web")],
        Refused, "--force",
    ),
    "all to one that fails, while the shares serve nobody": (
        {"green": 100}, [BLUE, container("b", "h2", version="green", state="failing"), shifted("web", blue=0)],
        Refused, "--force",
    ),
    "a way out of shares that serve nobody": ({"blue": 100}, [BLUE, GREEN, shifted("web", blue=0, green=0)], None, ""),
    "all to one, while all is drained": ({"green": 100}, [BLUE, GREEN, drained("service:web")], None, ""),
    "an unknown version beside one without": ({"v2": 100}, [container("a"), BLUE], NotMeant, "it has ''"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "things", "error", "said"), REFUSED.values(), ids=REFUSED)
def test_a_shift_leaves_somebody(asked, things, error, said):
    """Versions that are not there, and shares that empty the service, are refused."""
    if error is None:
        operate_shift.refuse_emptying(registry(*things), "web", asked)
        return
    with pytest.raises(error) as caught:
        operate_shift.refuse_emptying(registry(*things), "web", asked)
    assert said in str(caught.value)


DESCRIBED = {
    "a tenth": ({"green": 10}, "blue 90 %, green 10 %"),
    "nothing": ({"green": 0}, "blue 100 %, green 0 %"),
    "a percent": ({"green": 1}, "blue 99 %, green 1 %"),
}


@pytest.mark.parametrize(("asked", "said"), DESCRIBED.values(), ids=DESCRIBED)
def test_what_comes_of_a_shift_is_said(asked, said):
    """The shares that are served, which are those that were asked for while both can serve."""
    assert operate_shift.described(operate_shift.served_with(registry(BLUE, GREEN), "web", asked)) == said


@settings(deadline=None)
@given(st.integers(1, 99), st.integers(1, 12), st.integers(1, 12))
def test_shares_are_as_asked_however_many_endpoints_there_are(percent, blues, greens):
    """Within a percent."""
    things = [container(f"a{n}", version="blue") for n in range(blues)]
    things += [container(f"b{n}", version="green") for n in range(greens)]
    served = operate_shift.served_with(registry(*things), "web", {"green": percent})
    assert abs(100 * served["green"] / sum(served.values()) - percent) < 1


SMALL = {
    "one percent to 300": (1, 10, 300),
    "three percent to 200": (3, 10, 200),
    "one percent to 50": (1, 10, 50),
    "one percent from 300": (99, 300, 10),
}


@pytest.mark.parametrize(("percent", "blues", "greens"), SMALL.values(), ids=SMALL)
def test_small_shares_of_many_endpoints_are_as_asked(percent, blues, greens):
    """Within a twentieth of a percent: weights are whole numbers, and as large as they can be."""
    things = [container(f"a{n:03}", version="blue") for n in range(blues)]
    things += [container(f"b{n:03}", version="green") for n in range(greens)]
    served = operate_shift.served_with(registry(*things), "web", {"green": percent})
    assert abs(100 * served["green"] / sum(served.values()) - percent) < 0.05


SERVICES = {
    "as it is": ("web", "web"),
    "in another case": ("WEB", "web"),
    "in so many words": ("service:web", "web"),
    "one that is shifted and gone": ("old", "old"),
}


@pytest.mark.parametrize(("text", "expected"), SERVICES.values(), ids=SERVICES)
def test_a_service_is_found(text, expected):
    """By its name."""
    assert operate_shift.service(registry(BLUE, shifted("old", a=1)), text) == expected


def test_a_service_that_is_none_lists_those_that_are():
    """Nothing is guessed."""
    with pytest.raises(NotMeant, match="'wob' is no service that is registered; there is web"):
        operate_shift.service(registry(BLUE), "wob")


WWW = "www.example.com"
RIVAL = container("r", service="rival", route=Route(scheme="http", hosts=(WWW,)))
OWNER = container("o", service="shop", route=Route(scheme="http", hosts=(WWW,)))
CLAIMS = (
    claimed("shop", WWW),
    claimed("web", "web.one.test"),
    claimed("web", "web.two.test"),
    claimed("api", WWW, "/a"),
)
RELEASED = {
    "a host and path": (f"{WWW}/", [OWNER, RIVAL], (Place(WWW, "/"), "shop", ("rival",))),
    "another path": (f"{WWW}/a", [], (Place(WWW, "/a"), "api", ())),
    "a host": ("web.one.test", [], (Place("web.one.test", "/"), "web", ())),
    "in another case": ("Web.One.Test", [], (Place("web.one.test", "/"), "web", ())),
    "nobody uses it": (f"{WWW}/", [], (Place(WWW, "/"), "shop", ())),
    "another waits for it, its owner is gone": (f"{WWW}/", [RIVAL], (Place(WWW, "/"), "shop", ("rival",))),
}


@pytest.mark.parametrize(("text", "things", "expected"), RELEASED.values(), ids=RELEASED)
def test_which_claim_is_released(text, things, expected):
    """And who asks for it."""
    assert operate_claims.release(registry(*CLAIMS, *things), text) == expected


NOT_RELEASED = {
    "several paths": (WWW, [], NotMeant, f"say which: {WWW}/, {WWW}/a"),
    "a name under several domains": ("web", [], NotMeant, "say which: web.one.test/, web.two.test/"),
    "nobody has it": ("shop.one.test", [], NotMeant, "nobody has claimed 'shop.one.test'; claimed are "),
    "its owner uses it": (f"{WWW}/", [OWNER], Refused, "is used by shop, and nobody else asks for it"),
    "its owner uses it under its own name": (
        "web.one.test", [container("w", route=HTTP)], Refused, "is used by web, and nobody else asks for it",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "things", "error", "said"), NOT_RELEASED.values(), ids=NOT_RELEASED)
def test_what_is_not_released(text, things, error, said):
    """Each with what to do."""
    with pytest.raises(error) as caught:
        operate_claims.release(registry(*CLAIMS, *things), text)
    assert said in str(caught.value)
