"""Hostile values in nginx-proxy's variables, all the way to the configuration: none leaves its place."""

import json

import pytest

from tests.confgen.test_hostile_tags import Door, is_clean, shape, variants

HOST = "VIRTUAL_HOST=www.example.com"
# Variable -> what stands beside it, a harmless value, and others whose shape a value that is not refused may have.
VARIABLES = {
    "VIRTUAL_HOST": ([], "www.example.com", ["www", "a.test,b.test"]),
    "VIRTUAL_PORT": ([HOST], "80", ["81"]),
    "VIRTUAL_PATH": ([HOST], "/shop", ["/", "/shop/"]),
    "VIRTUAL_DEST": ([HOST, "VIRTUAL_PATH=/p"], "/shop", ["/", ""]),
    "VIRTUAL_PROTO": ([HOST], "https", ["http", "grpc", "grpcs"]),
    "HTTPS_METHOD": ([HOST], "nohttps", ["redirect", "nohttp", "noredirect"]),
    "HSTS": ([HOST], "max-age=86400", [""]),
    "CERT_NAME": ([HOST], "shared", [""]),
    "NETWORK_ACCESS": ([HOST], "internal", ["external"]),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_no_value_of_a_variable_leaves_its_place(variable, tmp_path):
    """Several hundred values each, as for our own tags."""
    beside, good, others = VARIABLES[variable]
    values = sorted(set(variants(good)))
    assert len(values) > 300
    stays_in_place(tmp_path / "x.conf", beside, variable, (good, *others), values)


def several(host="www.example.com", path="/shop", port="80", dest="/v1"):
    return json.dumps({host: {path: {"port": port, "dest": dest}}})


PARTS = {"host": "www.example.com", "path": "/shop", "port": "80", "dest": "/v1"}


@pytest.mark.parametrize("part", [*PARTS, "all of it"])
def test_no_value_in_a_map_of_ports_leaves_its_place(part, tmp_path):
    """Each of its parts, and its text around them."""
    harmless = [several(), several(path="/", dest=""), several(path="/"), several(dest=""), several(dest="/")]
    harmless += [several(host="www"), several(host="www", dest="")]
    values = [several(**{part: one}) for one in variants(PARTS[part])] if part in PARTS else list(variants(several()))
    stays_in_place(tmp_path / "x.conf", [], "VIRTUAL_HOST_MULTIPORTS", harmless, sorted(set(values)))


def stays_in_place(tmp, beside, variable, harmless, values):
    """Every value gives the shape of a harmless one or none, and is not there for the neighbours."""
    door, seen, served = Door(), set(), 0
    trees = [door.of(["SERVICE_NAME=web", *beside, f"{variable}={one}"])[1] for one in harmless]
    refused = door.of(["SERVICE_NAME=web"])[1]
    allowed = [shape(tmp, tree) for tree in (refused, *trees)]
    for value in values:
        decided, tree = door.of(["SERVICE_NAME=web", *beside, f"{variable}={value}"])
        if id(tree) not in seen:
            assert shape(tmp, tree) in allowed, value
            is_clean(tree, refused)
            seen.add(id(tree))
        served += any(one.route for one in decided.container.endpoints)
    assert served > 0  # the door is not simply shut
    assert (served == len(values)) is (variable == "HSTS")  # which costs no route when it is none
