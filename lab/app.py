"""The sample application that the lab's containers run: a small HTTP server that says who it is and what it was asked.

It answers every request with one line of JSON (container, port, the request's number ``n`` from ``?n=`` or
``X-Request-Number``, method, path, headers, how many it served) and prints one line of JSON per request it received,
so that a checker can join both ends: lost, doubled, sent to the wrong place. Standard library only, threads.

    /                    200                     /health       200, or 503 while /tmp/unhealthy exists
    /slow/MS             200 after MS ms         /status/CODE  that status
    /big/OCTETS          that many octets        Upgrade: websocket   an echo of every message

Environment: PORTS (9200,9300), UDP_PORTS (none; echo), TLS_PORTS (none; those of PORTS that speak TLS, with the
certificate and key in the PEM file TLS_CERT), NAME (the host name), START_DELAY_S (0: before it listens),
LATENCY_MS (0: of every answer), ON_TERM: ``drain`` goes on for DRAIN_S (1) answering ``Connection: close``, lets
running requests finish and exits 0; ``exit`` exits at once; ``ignore`` stays until SIGKILL.
``app.py health`` asks the first port for /health and exits 0 or 1: for HEALTHCHECK.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LARGEST_HEAD = 65536  # octets; beyond it a client is not one of ours
LARGEST_BODY = 64 * 1024 * 1024
FINISH_WITHIN_S = 30
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@dataclass
class State:
    """What all connections share."""

    name: str
    latency_s: float
    draining: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    served: int = 0
    running: int = 0


@dataclass(frozen=True)
class Request:
    """One request as it was read."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def number(self) -> str | None:
        """The request's number, as the client gave it."""
        query = self.target.partition("?")[2]
        pairs = dict(pair.partition("=")[::2] for pair in query.split("&"))
        return self.headers.get("x-request-number") or pairs.get("n")

    @property
    def keeps_connection(self) -> bool:
        """Whether the client wants to use the connection again (RFC 9112 section 9.3)."""
        wish = self.headers.get("connection", "").lower()
        return wish != "close" and (self.version != "HTTP/1.0" or wish == "keep-alive")


def main() -> int:
    """Run until told to stop; returns the exit code."""
    ports = [int(port) for port in os.environ.get("PORTS", "9200,9300").split(",") if port]
    if sys.argv[1:] == ["health"]:
        return _ask_health(ports[0])
    # Blocked before any thread starts, so that only sigwait receives them, also as process 1 of a container.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    time.sleep(float(os.environ.get("START_DELAY_S", "0")))
    latency_s = float(os.environ.get("LATENCY_MS", "0")) / 1000
    state = State(name=os.environ.get("NAME") or socket.gethostname(), latency_s=latency_s)
    listeners = [_listen(port) for port in ports]
    in_tls = os.environ.get("TLS_PORTS", "").split(",")
    for port, listener in zip(ports, listeners, strict=True):
        pem = os.environ["TLS_CERT"] if str(port) in in_tls else ""
        threading.Thread(target=_accept, args=(listener, state, pem), daemon=True).start()
    for text in os.environ.get("UDP_PORTS", "").split(","):
        if text:
            threading.Thread(target=_echo_datagrams, args=(int(text),), daemon=True).start()
    _print({"event": "listening", "name": state.name, "ports": ports})
    return _until_stopped(state, listeners, os.environ.get("ON_TERM", "drain"))


def _until_stopped(state: State, listeners: list[socket.socket], on_term: str) -> int:
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    while on_term == "ignore":
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
    if on_term == "exit":
        _leave(0)
    _print({"event": "draining"})
    state.draining.set()
    time.sleep(float(os.environ.get("DRAIN_S", "1")))
    for listener in listeners:
        listener.close()
    deadline = time.monotonic() + FINISH_WITHIN_S
    while state.running and time.monotonic() < deadline:
        time.sleep(0.005)
    _print({"event": "drained", "unfinished": state.running})
    _leave(0 if not state.running else 1)
    return 0


def _leave(code: int) -> None:
    """End without waiting for connections that only stand open."""
    sys.stdout.flush()
    os._exit(code)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server(("0.0.0.0", port), backlog=1024)


def _accept(listener: socket.socket, state: State, pem: str) -> None:
    port = listener.getsockname()[1]
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # closed by the drain
        threading.Thread(target=_serve, args=(connection, port, state, pem), daemon=True).start()


def _serve(connection: socket.socket, port: int, state: State, pem: str) -> None:
    """All requests of one connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sni = None
    if pem:
        try:
            connection, sni = _secured(connection, pem)
        except OSError as error:
            _print({"event": "broken", "why": str(error)})
            return
    with connection, connection.makefile("rb") as stream:
        try:
            while (request := _read_request(stream.readline, stream.read)) is not None:
                with _counted(state):
                    goes_on = _reply(connection, request, port, state, sni)
                if request.headers.get("upgrade", "").lower() == "websocket":
                    _echo_messages(connection, stream.read)
                    return
                if not goes_on:
                    return
        except (OSError, ValueError) as error:
            _print({"event": "broken", "why": str(error)})


def _secured(connection: socket.socket, pem: str) -> tuple[socket.socket, str | None]:
    """The connection in TLS, and the name that the client greeted with; OSError when there is no handshake."""
    import ssl  # noqa: PLC0415  few containers need it, and the others start faster without

    names: list[str | None] = []

    def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        names.append(name)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = note
    return context.wrap_socket(connection, server_side=True), names[0]


class _counted:  # noqa: N801  a context manager is used like a function
    def __init__(self, state: State) -> None:
        self._state = state

    def __enter__(self) -> None:
        with self._state.lock:
            self._state.running += 1

    def __exit__(self, *_: object) -> None:
        with self._state.lock:
            self._state.running -= 1


def _read_request(readline: Callable[[int], bytes], read: Callable[[int], bytes]) -> Request | None:
    """The next request, or None when the client closed; ValueError when it is not HTTP/1."""
    first = readline(LARGEST_HEAD)
    if not first.strip():
        return None
    method, target, version = first.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := readline(LARGEST_HEAD)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _read_chunks(readline, read)
    else:
        body = read(min(int(headers.get("content-length", "0")), LARGEST_BODY))
    return Request(method, target, version, headers, body)


def _read_chunks(readline: Callable[[int], bytes], read: Callable[[int], bytes]) -> bytes:
    body = b""
    while size := int(readline(64).split(b";")[0], 16):
        body += read(size)
        readline(64)
    readline(64)
    return body


def _reply(connection: socket.socket, request: Request, port: int, state: State, sni: str | None) -> bool:
    """Answer one request; True if the connection may be used again."""
    with state.lock:
        state.served += 1
        served = state.served
    path = request.target.partition("?")[0]
    _print({"event": "request", "n": request.number, "method": request.method, "target": request.target, "port": port})
    if request.headers.get("upgrade", "").lower() == "websocket":
        connection.sendall(_handshake(request.headers.get("sec-websocket-key", "")))
        return True
    client, client_port, *_ = connection.getpeername()
    facts = {
        "name": state.name, "container": socket.gethostname(), "port": port, "n": request.number,
        "method": request.method, "target": request.target, "body": len(request.body), "served": served,
        "client": client.removeprefix("::ffff:"), "client_port": client_port, "sni": sni,
        "headers": dict(request.headers),
    }  # fmt: skip
    status, body = _page(path, facts)
    time.sleep(state.latency_s)
    goes_on = request.keeps_connection and not state.draining.is_set()
    head = (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Served-By: {socket.gethostname()}:{port}\r\n"
        f"Connection: {'keep-alive' if goes_on else 'close'}\r\n\r\n"
    )
    connection.sendall(head.encode() + (b"" if request.method == "HEAD" else body))
    return goes_on


def _page(path: str, facts: Mapping[str, object]) -> tuple[int, bytes]:
    text = json.dumps(facts).encode() + b"\n"
    kind, _, value = path.strip("/").partition("/")
    if kind == "health":
        return (503 if os.path.exists("/tmp/unhealthy") else 200), text  # noqa: PTH110, S108  pathlib starts slowly
    if kind == "slow" and value.isdecimal():
        time.sleep(int(value) / 1000)
    if kind == "status" and value.isdecimal():
        return int(value), text
    if kind == "big" and value.isdecimal():
        return 200, b"x" * min(int(value), LARGEST_BODY)
    return 200, text


def _handshake(key: str) -> bytes:
    digest = hashlib.sha1(key.encode() + WEBSOCKET_GUID, usedforsecurity=False).digest()
    accept = base64.b64encode(digest)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + (accept + b"\r\n\r\n")
    )


def _echo_messages(connection: socket.socket, read: Callable[[int], bytes]) -> None:
    """Send every frame back unmasked, until a close frame (RFC 6455 section 5.2)."""
    while len(head := read(2)) == 2:
        code, size = head[0] & 0x0F, head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(read(2 if size == 126 else 8), "big")
        mask = read(4) if head[1] & 0x80 else bytes(4)
        data = bytes(octet ^ mask[index % 4] for index, octet in enumerate(read(size)))
        answer_code = 0x0A if code == 0x09 else code  # a ping is answered by a pong
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else (
            b"\x7f" + size.to_bytes(8, "big")
        )  # fmt: skip
        connection.sendall(bytes([0x80 | answer_code]) + length + data)
        if code == 0x08:
            return


def _echo_datagrams(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", port))
        while True:
            data, client = server.recvfrom(65535)
            _print({"event": "datagram", "port": port, "octets": len(data)})
            server.sendto(f"{socket.gethostname()}:{port} ".encode() + data, client)


def _ask_health(port: int) -> int:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return 0 if b" 200 " in connection.recv(100) else 1
    except OSError:
        return 1


def _print(fact: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
