"""The parts of the etcd client that need no server: messages, endpoints, the joining of watch responses, errors."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.catalog.etcd.channel import Endpoint, Status, parse_endpoint
from pilotfish.catalog.etcd.errors import EtcdError
from pilotfish.catalog.etcd.messages import CLASSES, METHODS, TABLE
from pilotfish.catalog.etcd.watch import Joiner, believes_progress
from pilotfish.catalog.io_etcd import EtcdSettings, changes

# --- messages

# Fields that came with etcd 3.4, after the other client's copy; the first two are seen to work on a real server.
NEWER = {("WatchCreateRequest", "fragment"), ("WatchResponse", "fragment"), ("StatusResponse", "isLearner")}


@pytest.mark.parametrize("name", TABLE)
def test_a_message_is_what_the_generated_code_says(name):
    """Every field of every message has the number, kind and label of another client's generated rpc.proto."""
    from etcd3.etcdrpc import kv_pb2, rpc_pb2

    theirs = getattr(kv_pb2 if name in {"KeyValue", "Event"} else rpc_pb2, name).DESCRIPTOR
    same_on_the_wire = {14: 5}  # an enumeration is an int32

    fields = [field for field in CLASSES[name].DESCRIPTOR.fields if (name, field.name) not in NEWER]
    for field in fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, same_on_the_wire.get(other.type, other.type)), field.name
        assert field.is_repeated == other.is_repeated
        assert bool(field.containing_oneof) == bool(other.containing_oneof), field.name


def test_paths_are_what_the_generated_code_calls():
    """Each call goes to a method that the service has, with its request and response."""
    from etcd3.etcdrpc import rpc_pb2

    for method in METHODS.values():
        service, _, call = method.path.removeprefix("/etcdserverpb.").partition("/")
        theirs = rpc_pb2.DESCRIPTOR.services_by_name[service].methods_by_name[call]
        assert method.request.DESCRIPTOR.name == theirs.input_type.name
        assert method.response.DESCRIPTOR.name == theirs.output_type.name


# --- endpoints

ENDPOINTS = {
    "http": ("http://etcd1:2379", Endpoint("http://etcd1:2379", "dns:///etcd1:2379", secure=False)),
    "https": ("https://etcd1", Endpoint("https://etcd1", "dns:///etcd1:2379", secure=True)),
    "no scheme": ("etcd1:4001", Endpoint("http://etcd1:4001", "dns:///etcd1:4001", secure=False)),
    "no port": ("10.0.0.1", Endpoint("http://10.0.0.1", "ipv4:10.0.0.1:2379", secure=False)),
    "IPv6": ("http://[fd00::1]:2379/", Endpoint("http://[fd00::1]:2379", "ipv6:[fd00::1]:2379", secure=False)),
    "IPv6, no scheme": ("[::1]", Endpoint("http://[::1]", "ipv6:[::1]:2379", secure=False)),
}


@pytest.mark.parametrize(("text", "endpoint"), ENDPOINTS.values(), ids=ENDPOINTS.keys())
def test_endpoints_are_read_as_people_write_them(text, endpoint):
    """URLs and host:port, names and literals; the port is etcd's where none is given."""
    assert parse_endpoint(text) == endpoint


def test_an_endpoint_without_scheme_is_secure_when_certificates_are_given():
    """As etcdctl does it: who names a CA means TLS."""
    assert parse_endpoint("etcd1:2379", secure=True).secure
    assert not parse_endpoint("http://etcd1:2379", secure=True).secure


BAD_ENDPOINTS = ["", "http://", "ftp://etcd1", "http://etcd1:port", "http://etcd1:99999", "etcd1/v2",
                 "http://[::1", "http://etcd1?x=1", "fd00::1"]  # fmt: skip


@pytest.mark.parametrize("text", BAD_ENDPOINTS)
def test_what_is_no_endpoint_is_named_with_a_right_one(text):
    """The message quotes what was given and shows the form that is meant."""
    with pytest.raises(ValueError, match=r"etcd endpoint .*http://HOST:2379") as caught:
        parse_endpoint(text)

    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["http://pilot:s3cr3t@etcd1:2379", "pilot:s3cr3t@etcd1", "http://pilot:s3cr3t@[::1"])
def test_a_password_in_an_endpoint_is_refused_and_not_repeated(text):
    """Users write it there by habit; the message says where it belongs, without it."""
    with pytest.raises(ValueError, match="HOST:2379") as caught:
        parse_endpoint(text)

    assert "s3cr3t" not in str(caught.value)


@given(st.text())
def test_any_text_is_an_endpoint_or_a_value_error(text):
    """Nothing else comes out of a setting, whatever is in it."""
    with contextlib.suppress(ValueError):
        assert parse_endpoint(text).target


# --- watch responses


def response(revision: int = 9, *, events: tuple[tuple[str, int], ...] = (), **fields: object):
    header = CLASSES["ResponseHeader"](cluster_id=7, revision=revision)
    told = [CLASSES["Event"](kv=CLASSES["KeyValue"](key=key.encode(), mod_revision=at)) for key, at in events]
    return CLASSES["WatchResponse"](header=header, events=told, **fields)


def joiner(*, believe: bool = True) -> Joiner:
    return Joiner("http://e", believe=believe)


def test_fragments_are_one_response():
    """Nothing is handed out before the last fragment; then everything, as one."""
    join = joiner().join
    parts = [join(response(events=(("/a", 5),), fragment=True)), join(response(events=(("/b", 5),), fragment=True))]
    whole = join(response(events=(("/c", 5), ("/d", 6))))

    assert parts == [None, None]
    assert whole is not None
    assert [(c.revision, [e.key for e in c.puts]) for c in changes(whole.events)] == [
        (5, ["/a", "/b", "/c"]),
        (6, ["/d"]),
    ]


REFUSALS = {
    "created and canceled, 3.4": (
        {"created": True, "canceled": True, "watch_id": -1, "cancel_reason": "etcdserver: permission denied"},
        ("PERMISSION_DENIED", "etcdserver: permission denied", 0),
    ),
    "token ran out": (
        {"canceled": True, "cancel_reason": "rpc error: code = PermissionDenied desc = etcdserver: permission denied"},
        ("PERMISSION_DENIED", "rpc error: code = PermissionDenied desc = etcdserver: permission denied", 0),
    ),
    "compacted": (
        {"canceled": True, "compact_revision": 40},
        ("OUT_OF_RANGE", "compacted, known are revisions from 40", 40),
    ),
    "no reason": ({"canceled": True}, ("UNAVAILABLE", "the watch was canceled without a reason", 0)),
}


@pytest.mark.parametrize(("fields", "error"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_canceled_watch_is_an_error_even_when_created(fields, error):
    """Canceled is looked at first; compaction and refusal can be told apart."""
    with pytest.raises(EtcdError) as caught:
        joiner().join(response(**fields))

    assert (caught.value.code, caught.value.reason, caught.value.compact_revision) == error


def test_fragments_without_end_are_refused(monkeypatch):
    """A server that never ends a response does not fill our memory."""
    monkeypatch.setattr("pilotfish.catalog.etcd.watch.MAX_JOINED_BYTES", 100)
    join = joiner().join
    join(response(events=(("/" * 50, 5),), fragment=True))
    with pytest.raises(EtcdError, match="more than 100 octets"):
        join(response(events=(("/" * 50, 5),), fragment=True))


SETTLED = {
    "progress": (response(watch_id=-1), True, True),
    "progress of a server that is not believed": (response(watch_id=-1), False, False),
    "created": (response(created=True), True, False),
    "events": (response(events=(("/a", 9),)), True, False),
}


@pytest.mark.parametrize(("message", "believe", "settled"), SETTLED.values(), ids=SETTLED.keys())
def test_only_a_progress_reply_that_is_believed_settles(message, believe, settled):
    """Neither creation nor events say that nothing else is under way."""
    found = joiner(believe=believe).join(message)

    assert found is not None
    assert found.settled == settled


VERSIONS = {
    (3, 4, 23): False, (3, 4, 24): False, (3, 4, 25): True, (3, 4, 33): True, (3, 5, 1): False, (3, 5, 7): False,
    (3, 5, 8): True, (3, 5, 16): True, (3, 6, 0): True, (0,): False,
}  # fmt: skip


@pytest.mark.parametrize(("version", "believed"), VERSIONS.items(), ids=str)
def test_progress_is_believed_from_the_releases_that_mended_it(version, believed):
    """etcd issue 15220 is mended in 3.4.25 and 3.5.8; an unknown version is not believed."""  # noqa: D403
    assert believes_progress(Status(1, version)) == believed
    assert not believes_progress(None)


# --- settings and the process


def test_the_password_is_in_no_representation():
    """Settings may be logged whole."""
    settings = EtcdSettings(endpoints=("http://e",), user="pilot", password="s3cr3t")

    assert "pilot" in f"{settings!r} {settings}"
    assert "s3cr3t" not in f"{settings!r} {settings}"


def test_starting_a_process_beside_the_client_prints_nothing():
    """gRPC's note about fork() reaches nobody's terminal."""  # noqa: D403
    script = (
        "import asyncio, sys\n"
        "from pilotfish.catalog.io_etcd import EtcdSettings, EtcdStore\n"
        "from pilotfish.catalog.store import StoreUnavailable\n"
        "async def main():\n"
        "    store = EtcdStore(EtcdSettings(endpoints=('http://127.0.0.1:1',)))\n"
        "    try: await store.read('/')\n"
        "    except StoreUnavailable as error: print(error)\n"
        "    await (await asyncio.create_subprocess_exec('true')).wait()\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environ, timeout=60, check=False
    )

    assert done.returncode == 0
    assert done.stderr == ""
    assert "http://127.0.0.1:1" in done.stdout
