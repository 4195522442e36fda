"""`--only` and `--ignore`: which containers count at all."""

import pytest
from hypothesis import given as forall
from hypothesis import strategies as st

from pilotfish.catalog.settings import BadSettings, resolve
from pilotfish.catalog.values import BadValue
from registrator.rules.filters import KINDS, Filter, left_out, parse_filter
from registrator.settings import RegistratorSettings
from tests.registrator import harness
from tests.registrator.builders import decide, given, reasons

COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "tier": "front", "empty": ""}
CONTAINER = {
    "name": "shop-web-1",
    "image": "reg.io:5000/team/nginx:1.29@sha256:ab12",
    "labels": COMPOSE,
    "ports": {"80/tcp": 8000},
    "expose": ["90/tcp"],
    "networks": {"shop_default": "10.9.0.2", "shop_back": "10.8.0.2"},
    "mode": "shop_default",
}

FITS = [
    ("a label", "label=tier", True),
    ("a label that is not there", "label=tie", False),
    ("a label's value", "label=tier=front", True),
    ("another value", "label=tier=back", False),
    ("an empty value", "label=empty=", True),
    ("a value with a star", "label=tier=f*", True),
    ("a key with a star", "label=com.docker.*", True),
    ("a key with a star and a value", "label=*.project=shop", True),
    ("the name", "name=shop-web-1", True),
    ("part of the name", "name=shop-web", False),
    ("a name with stars", "name=*web*", True),
    ("a name in another case", "name=SHOP-web-1", False),
    ("a question mark stands for itself", "name=shop-web-?", False),
    ("brackets stand for themselves", "name=shop-web-[1]", False),
    ("the image as written", "image=reg.io:5000/team/nginx:1.29@sha256:ab12", True),
    ("the image without digest", "image=reg.io:5000/team/nginx:1.29", True),
    ("the image without tag", "image=reg.io:5000/team/nginx", True),
    ("the image's base name", "image=nginx", False),
    ("the image's base name with a star", "image=*/nginx", True),
    ("a registry's port is no tag", "image=reg.io", False),
    ("a network", "network=shop_back", True),
    ("no network of it", "network=back", False),
    ("a network with a star", "network=*_back", True),
    ("the project", "project=shop", True),
    ("another project", "project=sho", False),
]


@pytest.mark.parametrize(("text", "fits"), [row[1:] for row in FITS], ids=[row[0] for row in FITS])
def test_fits(text, fits):
    """One filter on one container; --ignore and --only are each other's opposite."""
    facts = given(**CONTAINER)

    assert parse_filter(text).fits(facts) is fits
    assert bool(left_out(facts, [], [parse_filter(text)])) is fits
    assert bool(left_out(facts, [parse_filter(text)], [])) is not fits


MODES = [
    ("the default bridge", {}, "network=bridge"),
    ("the host's network", {"mode": "host"}, "network=host"),
    ("no network", {"mode": "none"}, "network=none"),
    ("another container's network", {"mode": "container:abc"}, "network=container:*"),
]


@pytest.mark.parametrize(("container", "text"), [row[1:] for row in MODES], ids=[row[0] for row in MODES])
def test_networks_without_a_name(container, text):
    assert parse_filter(text).fits(given(**container))


TOGETHER = [
    ("one of two projects", ["project=blog", "project=shop"], [], ""),
    ("one of each kind", ["project=shop", "label=tier=front"], [], ""),
    (
        "one kind does not fit",
        ["project=shop", "label=tier=back"],
        [],
        "--only asks for label=tier=back, and it has no such label",
    ),
    (
        "none of two",
        ["image=redis", "image=php"],
        [],
        "--only asks for image=redis or image=php, and its image is 'reg.io:5000/team/nginx:1.29@sha256:ab12'",
    ),
    ("ignore beats only", ["project=shop"], ["name=*"], "--ignore name=* fits it"),
    ("the network", ["network=x"], [], "--only asks for network=x, and its network is 'shop_default', 'shop_back'"),
]


@pytest.mark.parametrize(("only", "ignore", "why"), [row[1:] for row in TOGETHER], ids=[row[0] for row in TOGETHER])
def test_together(only, ignore, why):
    """Several of a kind: one is enough; several kinds: each; and the reason names the filter."""
    asked = [parse_filter(text) for text in only], [parse_filter(text) for text in ignore]

    assert left_out(given(**CONTAINER), *asked) == why


def test_every_port_says_so():
    """The whole container is left out, each of its ports by name, whatever its tags ask for."""
    flags = {"ignore": (parse_filter("project=shop"),)}
    decided = decide(flags, **CONTAINER, env=["SERVICE_NAME=web", "SERVICE_PROXY=http"])

    assert decided.container.endpoints == ()
    assert reasons(decided) == {"80/tcp": "filter", "90/tcp": "filter"}
    assert {left.reason for left in decided.left_out} == {"--ignore project=shop fits it"}


async def test_the_state_and_the_store_have_it(tmp_path):
    """Nothing is written of what is filtered, and /api/state names the filter."""
    async with harness.world(tmp_path) as world:
        out, stays = harness.web("web-1"), harness.web("web-2", host_port=8081)
        for one in (out, stays):
            world.engine.add(one, quiet=True)
        registrator = world.start(ignore=(parse_filter("name=web-1"),))
        await world.see("one is recorded", lambda found: harness.records(found) == {stays["Id"]})
        await harness.until(lambda: not registrator.telemetry.ready.missing, "it is ready")
        shown = {one["name"]: one["left_out"] for one in registrator.service.state()["containers"]}

    left = {"port": "80/tcp", "rule": "filter", "reason": "--ignore name=web-1 fits it"}
    assert shown == {"web-1": [left], "web-2": []}


def test_a_container_without_ports_says_so_too():
    assert decide({"ignore": (parse_filter("name=c"),)}).notices[-1] == "--ignore name=c fits it"


def test_a_filtered_container_still_lends_its_network():
    """Who shares the network of one that is left out is published by that one's ports."""
    pause = given(id_="b" * 64, name="pause", ports={"80/tcp": 8000})
    flags = {"ignore": (parse_filter("name=pause"),)}
    decided = decide(flags, others=[pause], mode=f"container:{'b' * 64}", expose=["80/tcp"], env=["SERVICE_NAME=a"])

    assert [one.service for one in decided.container.endpoints] == ["a"]


def test_wrong_ones_are_all_said_at_once():
    """Of one flag and of several."""
    flags = {"only": ("labl=x", "name=a", "project="), "ignore": ("x", "label==1", "network=a\nb")}
    with pytest.raises(BadSettings) as caught:
        resolve(RegistratorSettings, flags, {}, {})

    kinds = "KIND=PATTERN with one of label, name, image, network, project"
    assert caught.value.errors == (
        f"--only: 'labl=x' is no filter: {kinds}; did you mean label?",
        "--only: 'project=' is no filter: project=PATTERN, printable, in which * stands for any text",
        f"--ignore: 'x' is no filter: {kinds}",
        "--ignore: 'label==1' is no filter: label=KEY or label=KEY=VALUE",
        r"--ignore: 'network=a\nb' is no filter: network=PATTERN, printable, in which * stands for any text",
    )


def test_from_environment_and_file():
    """A comma list, as every setting that may be repeated."""
    env = {"PILOTFISH_ONLY": "project=a, project=b"}
    settings = resolve(RegistratorSettings, {}, env, {"ignore": ["name=x", "image=y"]})

    assert settings.only == (Filter("project", "a"), Filter("project", "b"))
    assert settings.ignore == (Filter("name", "x"), Filter("image", "y"))


@forall(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text):
    """What is taken comes out as it was written, and fits or not without an error."""
    try:
        one = parse_filter(text)
    except BadValue:
        return
    assert str(one) == text
    assert one.fits(given(**CONTAINER)) in {True, False}


@forall(st.sampled_from(sorted(KINDS)), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8))
def test_a_pattern_without_a_star_means_itself(kind, text):
    """Whatever the pattern holds, it never fits more than its own letters."""
    facts = given(name="a-b", image="a.b", labels={"a.b": "a"}, networks={"a.b": "10.0.0.2"}, mode="a.b")
    if "*" not in text and not (kind == "label" and text.startswith("=")):
        assert Filter(kind, text).fits(facts) is (text in KINDS[kind](facts))
