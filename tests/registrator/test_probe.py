"""Which check a port gets from its tags, and what those that ask for none of ours are told."""

from __future__ import annotations

import pytest

from registrator.rules.probe import How, Probe
from tests.registrator.builders import decide

CHOSEN = {
    "none": ((), None),
    "http": (("SERVICE_CHECK_HTTP=/health?a=%20b",), Probe(How.HTTP, "/health?a=%20b")),
    "https": (("SERVICE_CHECK_HTTPS=/",), Probe(How.HTTPS, "/")),
    "https, with its certificate": (
        ("SERVICE_CHECK_HTTPS=/", "SERVICE_CHECK_TLS_SKIP_VERIFY=false"),
        Probe(How.HTTPS, "/", verify=True),
    ),
    "tcp": (("SERVICE_CHECK_TCP=true",), Probe(How.TCP)),
    "tcp, no": (("SERVICE_CHECK_TCP=false",), None),
    "grpc": (("SERVICE_CHECK_GRPC=true",), Probe(How.GRPC)),
    "grpc, a service": (("SERVICE_CHECK_GRPC=shop.v1.Cart",), Probe(How.GRPC, "shop.v1.Cart")),
    "grpc, no": (("SERVICE_CHECK_GRPC=no",), None),
    "all that can be said of http": (
        (
            "SERVICE_CHECK_HTTP=/x",
            "SERVICE_CHECK_HTTP_METHOD=head",
            "SERVICE_CHECK_INTERVAL=1m",
            "SERVICE_CHECK_TIMEOUT=500ms",
            "SERVICE_CHECK_RISE=2",
            "SERVICE_CHECK_FALL=5",
            "SERVICE_CHECK_INITIAL_STATUS=passing",
        ),
        Probe(How.HTTP, "/x", "HEAD", interval_s=60.0, timeout_s=0.5, rise=2, fall=5, trusted=True),
    ),
    "the port's before the container's": (
        ("SERVICE_CHECK_HTTP=/", "SERVICE_80_CHECK_TCP=1"),
        Probe(How.TCP),
    ),
    "none for this port": (("SERVICE_CHECK_HTTP=/", "SERVICE_80_CHECK=none"), None),
    "none but for this port": (("SERVICE_CHECK=none", "SERVICE_80_CHECK_HTTP=/"), Probe(How.HTTP, "/")),
    "none beside one": (("SERVICE_CHECK=none", "SERVICE_CHECK_HTTP=/"), None),
    "set to nothing for this port": (("SERVICE_CHECK_HTTP=/", "SERVICE_80_CHECK_HTTP="), None),
    "one that cannot be read": (("SERVICE_CHECK_HTTP=health",), None),
}


@pytest.mark.parametrize(("env", "probe"), CHOSEN.values(), ids=CHOSEN)
def test_which_check_a_port_gets(env, probe):
    """Port beats container; what is not said is registrator's default."""
    assert decide(ports={"80/tcp": 8000}, env=["SERVICE_NAME=web", *env]).checks[80, "tcp"].probe == probe


def test_a_check_of_the_container_is_for_all_its_tcp_ports():
    """Nobody is told that a port over UDP is not asked by it."""
    decided = decide(ports={"80/tcp": 80, "53/udp": 53}, env=["SERVICE_NAME=web", "SERVICE_CHECK_HTTP=/"])
    assert decided.checks[80, "tcp"].probe == Probe(How.HTTP, "/")
    assert decided.checks[53, "udp"].probe is None
    assert decided.notices == ()


REFUSED = {
    "a script's text": (
        "CHECK_SCRIPT=curl $SERVICE_IP",
        (
            "SERVICE_CHECK_SCRIPT (env): is not supported: what stands in a tag is never run; CHECK_CMD names a "
            "script in the folder of --check-dir; it is not checked so"
        ),
    ),
    "being told": (
        "CHECK_TTL=30s",
        (
            "SERVICE_CHECK_TTL (env): is not supported: there is nobody whom the application could tell; give it "
            "a CHECK_HTTP that answers for it; it is not checked so"
        ),
    ),
    "deletion": (
        "CHECK_DEREGISTER_AFTER=1m",
        (
            "SERVICE_CHECK_DEREGISTER_AFTER (env): is not supported: an endpoint that fails gets no traffic and "
            "comes back when it passes; it is never deleted; it has no effect"
        ),
    ),
    "a script without a folder": (
        "CHECK_CMD=deep",
        (
            "80/tcp: CHECK_CMD: scripts are run only from the folder that --check-dir names, and none is named; "
            "it is not checked so"
        ),
    ),
    "gRPC over TLS": (
        "CHECK_GRPC=true|CHECK_GRPC_USE_TLS=true",
        (
            "80/tcp: CHECK_GRPC: gRPC over TLS (CHECK_GRPC_USE_TLS) cannot be asked here; CHECK_TCP can, or a "
            "script (CHECK_CMD); it is not checked so"
        ),
    ),
    "two at once": ("CHECK_HTTP=/|CHECK_TCP=1", "80/tcp: CHECK_HTTP is used, not CHECK_TCP: one check a port"),
    "none and another": (
        "CHECK=none|CHECK_HTTP=/|CHECK_TCP=1",
        "80/tcp: CHECK: none is said too, so it is not asked by CHECK_HTTP, CHECK_TCP",
    ),
    "none and another, of one port": (
        "80_CHECK=none|80_CHECK_HTTP=/|CHECK_TCP=1",
        "80/tcp: CHECK: none is said too, so it is not asked by CHECK_HTTP",
    ),
    "another word than none": (
        "CHECK=off",
        "SERVICE_CHECK (env): 'off' is not what may stand here: none; it is not checked so",
    ),
    "another word than ignore": (
        "HEALTH=no",
        "SERVICE_HEALTH (env): 'no' is not what may stand here: ignore; the default is used",
    ),
    "an interval out of bounds": (
        "CHECK_HTTP=/|CHECK_INTERVAL=1ms",
        "SERVICE_CHECK_INTERVAL (env): '1ms' is out of bounds: from 0.1 s to 86400 s; the default is used",
    ),
    "a path with a line end": (
        "CHECK_HTTP=/ HTTP/1.1\r\nX: y",
        (
            "SERVICE_CHECK_HTTP (env): '/ HTTP/1.1\\r\\nX: y' is no path to check: begin with '/', at most 1024 "
            "characters of a URL; it is not checked so"
        ),
    ),
    "a script elsewhere": (
        "CHECK_CMD=../../bin/sh",
        (
            "SERVICE_CHECK_CMD (env): '../../bin/sh' is no script's name: letters, digits, '_', '.' and '-', "
            "without a folder; it is not checked so"
        ),
    ),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_by_name(given, message):
    """With the reason, and the port goes on without it."""
    env = ["SERVICE_NAME=web", *(f"SERVICE_{one}" for one in given.split("|"))]
    decided = decide(ports={"80/tcp": 8000}, env=env)
    assert decided.notices == (message,)
    assert len(decided.container.endpoints) == 1


def test_one_port_is_taken_out_of_a_containers_check():
    """That is what CHECK=none of a port is for: nothing is said."""
    env = ["SERVICE_NAME=web", "SERVICE_CHECK_HTTP=/", "SERVICE_80_CHECK=none"]
    decided = decide(ports={"80/tcp": 8000}, env=env)
    assert (decided.notices, decided.checks[80, "tcp"].unasked) == ((), True)


def test_a_folder_of_scripts():
    """With --check-dir a script may be named, over UDP too."""
    decided = decide(
        {"check_dir": "/etc/checks"}, ports={"53/udp": 53}, env=["SERVICE_NAME=a", "SERVICE_CHECK_CMD=dig"]
    )
    assert decided.checks[53, "udp"].probe == Probe(How.CMD, "dig")


def test_checks_are_kept_for_templates():
    """Other readers of the exports know registrator's words."""
    env = ["SERVICE_NAME=web", "SERVICE_CHECK_HTTP=/", "SERVICE_CHECK_TTL=30s"]
    [endpoint] = decide(ports={"80/tcp": 8000}, env=env).container.endpoints
    assert endpoint.attrs == {"check_http": "/", "check_ttl": "30s"}
