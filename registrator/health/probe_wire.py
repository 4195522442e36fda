"""What a check says and hears, as octets: HTTP/1.1 requests and the status of answers, grpc.health.v1 messages. Pure.

No more of HTTP is read than the status decides by, and nothing that comes back is acted on: no redirect is followed, no
cookie kept, no body understood.
Source: RFC 9112 §3, §4; RFC 9110 §15; https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

from __future__ import annotations

import re

from pilotfish.catalog.values import join_host_port

MAX_HEAD = 16 * 1024  # octets of all status lines and headers until the final status
GOOD = range(200, 400)  # a redirect is an answer: the application is there

_STATUS = re.compile(rb"^HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")


def http_request(method: str, path: str, ip: str, port: int) -> bytes:
    """One request whose answer ends the connection.

    >>> http_request("GET", "/", "fd00::1", 80).partition(bytes((13, 10)))[0]
    b'GET / HTTP/1.1'
    """
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    lines = f"Host: {join_host_port(ip, port)}\r\nUser-Agent: pilotfish-check\r\nAccept: */*\r\n{length}"
    return f"{method} {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode("ascii")


class NotHttp(Exception):
    """What came is no answer in HTTP/1."""


def http_status(received: bytes) -> int | None:
    """The final status of an answer, as far as it was received; None: more is needed.

    Raises:
        NotHttp: it never will be one.

    >>> http_status(b"HTTP/1.1 103 Early Hints" + bytes((13, 10)) * 2 + b"HTTP/1.1 204 No Content" + bytes((13, 10)))
    204
    """
    at = 0
    while True:
        line_end = received.find(b"\n", at)
        if line_end < 0:
            if len(received) > MAX_HEAD or not b"HTTP/1.".startswith(received[at : at + 7]):
                raise NotHttp
            return None
        found = _STATUS.match(received[at : line_end + 1])
        if found is None:
            raise NotHttp
        status = int(found[1])
        if status >= 200 or status == 101:
            return status
        end = _END_OF_HEAD.search(received, at)
        if end is None:
            if len(received) > MAX_HEAD:
                raise NotHttp
            return None
        at = end.end()


HEALTH_CHECK = "/grpc.health.v1.Health/Check"
MAX_REPLY = 4096  # octets of a HealthCheckResponse; it has two
_SERVING = {0: "UNKNOWN", 1: "", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def health_request(service: str) -> bytes:
    r"""A HealthCheckRequest: `string service = 1`; at most 256 octets.

    >>> health_request("a.B")
    b'\n\x03a.B'
    """
    name = service.encode()
    return b"\n" + _varint(len(name)) + name if name else b""


def _varint(value: int) -> bytes:
    return bytes((value,)) if value < 128 else bytes((value & 127 | 128, value >> 7))


def health_problem(reply: bytes) -> str:
    """What a HealthCheckResponse says: "" for SERVING, else the status, or that it is none.

    >>> health_problem(bytes((8, 1))), health_problem(bytes((8, 2))), health_problem(b"")
    ('', 'NOT_SERVING', 'UNKNOWN')
    """
    if not reply:
        return _SERVING[0]  # protobuf leaves a zero out
    if len(reply) == 2 and reply[0] == 8 and reply[1] in _SERVING:
        return _SERVING[reply[1]]
    return "no HealthCheckResponse"
