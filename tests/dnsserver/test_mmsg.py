"""Datagrams in batches: what goes in at one end is what the socket says, slot by slot, whatever the kernel refuses."""

from __future__ import annotations

import ctypes
import errno
import os
import socket

import pytest

from dnsserver.transport.io_mmsg import SLOTS, Mailbox

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"])
def ends(request):
    """A server's socket with its mailbox, and two clients."""
    family, ip = request.param
    opened = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(3)]
    for one in opened:
        one.bind((ip, 0))
        one.settimeout(5)
    opened[0].setblocking(False)
    yield opened[0], Mailbox(family, 64, 32), opened[1:]
    for one in opened:
        one.close()


def handle(opened: socket.socket) -> ctypes.c_int:
    return ctypes.c_int(opened.fileno())


def put(box: Mailbox, slot: int, body: bytes) -> None:
    at = box.outs[slot]
    box.outbox[at : at + len(body)] = body
    box.sizes[box.size_at[slot]] = len(body)


def test_each_answer_goes_to_whom_it_is_for(ends):
    """Two clients' datagrams are read in one batch, with their addresses; each answer has the id of its question."""
    server, box, (one, two) = ends
    asked = [(one, b"\x00\x01first"), (two, b"\x00\x02second"), (one, b"\x00\x03")]
    for client, message in asked:
        client.sendto(message, server.getsockname())
    assert box.receive(handle(server)) == len(asked)
    for slot, (client, message) in enumerate(asked):
        assert box.message(slot) == message
        assert box.address(slot)[:2] == client.getsockname()[:2]
        assert box.client(slot) == socket.inet_pton(client.family, client.getsockname()[0])
        put(box, slot, b"-answer-%d" % slot)
    assert box.send(handle(server), 0, len(asked)) == 0
    assert [one.recv(99) for _ in range(2)] == [b"\x00\x01-answer-0", b"\x00\x03-answer-2"]
    assert two.recv(99) == b"\x00\x02-answer-1"


def test_some_of_the_slots(ends):
    """Answers from slots here and there leave in one go, each to whom it is for; the next batch is whole again."""
    server, box, (one, two) = ends
    for whole in (False, True):
        for number in range(6):
            (one, two)[number % 2].sendto(bytes((0, number)), server.getsockname())
        assert box.receive(handle(server)) == 6
        for slot in range(6):
            put(box, slot, b"-%d" % slot)
        if whole:
            assert box.send(handle(server), 0, 6) == 0
        else:
            assert box.send_some(handle(server), (1, 2, 5)) == 0
        for client, slots in ((one, (0, 2, 4)), (two, (1, 3, 5))):
            expected = [slot for slot in slots if whole or slot in {1, 2, 5}]
            assert [client.recv(99) for _ in expected] == [bytes((0, slot)) + b"-%d" % slot for slot in expected]


def test_a_slot_in_the_middle_may_stay_without_answer(ends):
    """Answers may be sent in parts, around the messages that get none."""
    server, box, (one, _) = ends
    for number in range(4):
        one.sendto(bytes((0, number)) + b"x", server.getsockname())
    assert box.receive(handle(server)) == 4
    for slot in range(4):
        put(box, slot, b"y")
    assert box.send(handle(server), 0, 1) == 0
    assert box.send(handle(server), 2, 4) == 0
    assert [one.recv(99)[1] for _ in range(3)] == [0, 2, 3]


def test_a_batch_has_its_size_and_the_rest_waits(ends):
    """More datagrams than slots come in the next batch; then there is nothing."""
    server, box, (one, _) = ends
    for number in range(SLOTS + 3):
        one.sendto(number.to_bytes(2) + b"x", server.getsockname())
    assert [box.receive(handle(server)) for _ in range(3)] == [SLOTS, 3, 0]


@pytest.mark.parametrize(("size", "read"), [(0, 0), (1, 1), (64, 64), (65, 65), (500, 65)])
def test_long_datagrams_are_cut_one_octet_beyond_the_limit(ends, size, read):
    """Whoever reads sees that a datagram was too long; a short one leaves nothing of the one before."""
    server, box, (one, _) = ends
    one.sendto(b"z" * 64, server.getsockname())
    box.receive(handle(server))
    one.sendto(b"x" * size, server.getsockname())
    assert box.receive(handle(server)) == 1
    assert box.message(0) == b"x" * read


def test_what_the_kernel_does_not_take_is_counted_and_passed_over(ends):
    """A datagram to nowhere (port 0) does not hold up those behind it."""
    server, box, (one, _) = ends
    for number in range(3):
        one.sendto(bytes((0, number)), server.getsockname())
    assert box.receive(handle(server)) == 3
    box.names[32 + 2 : 32 + 4] = b"\x00\x00"  # the second one's port
    for slot in range(3):
        put(box, slot, b"y")
    assert box.send(handle(server), 0, 3) == 1
    assert [one.recv(99)[1] for _ in range(2)] == [0, 2]


def test_a_closed_socket_is_an_error(ends):
    """Reading from what is closed says so, instead of "nothing there"."""
    server, box, _ = ends
    closed = handle(server)
    server.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        box.receive(closed)
    put(box, 0, b"y")
    assert box.send(closed, 0, 1) == 1
