"""A real gRPC server and client for processes of their own: the server in a container, the client on a host.

    grpc_echo.py serve PORTS TLS_PORT PEM      in the clear, and over TLS with the certificate and key of a PEM file
    grpc_echo.py call ADDR:PORT NAME [CA]      as the host NAME, over TLS if the file CA is given; prints JSON

The call sends one message, then a stream of two, and prints ``{"echo", "chat", "seen"}``, where `seen` is the metadata
that the server was sent; or ``{"code": ...}``, the name of the status that it was refused with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

WITHIN_S = 10


class Echo(grpc.GenericRpcHandler):
    """Sends back a message, each message of a stream, or the metadata of the call."""

    def service(self, handler_call_details):
        seen = dict(handler_call_details.invocation_metadata)
        text = json.dumps({key: value for key, value in seen.items() if isinstance(value, str)}).encode()
        handlers: dict[str, Callable] = {
            "/t.T/Echo": lambda: grpc.unary_unary_rpc_method_handler(lambda request, _: request),
            "/t.T/Chat": lambda: grpc.stream_stream_rpc_method_handler(chat),
            "/t.T/Seen": lambda: grpc.unary_unary_rpc_method_handler(lambda *_: text),
        }
        made = handlers.get(handler_call_details.method)
        return made() if made else None


def chat(requests, _) -> Iterator[bytes]:
    for one in requests:
        yield one + b"!"


def serve(ports: str, tls_port: str, pem: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Echo(),))
    for port in ports.split(","):
        server.add_insecure_port(f"0.0.0.0:{port}")
    octets = Path(pem).read_bytes()
    server.add_secure_port(f"0.0.0.0:{tls_port}", grpc.ssl_server_credentials([(octets, octets)]))
    server.start()
    server.wait_for_termination()


def call(address: str, name: str, ca: str = "") -> None:
    options = [("grpc.default_authority", name), ("grpc.ssl_target_name_override", name)]
    trust = grpc.ssl_channel_credentials(Path(ca).read_bytes()) if ca else None
    made = grpc.secure_channel(address, trust, options[1:]) if trust else grpc.insecure_channel(address, options[:1])
    with made as channel:
        try:
            echo = channel.unary_unary("/t.T/Echo")(b"hello", timeout=WITHIN_S)
            several = list(channel.stream_stream("/t.T/Chat")(iter([b"a", b"b"]), timeout=WITHIN_S))
            seen = json.loads(channel.unary_unary("/t.T/Seen")(b"", timeout=WITHIN_S))
        except grpc.RpcError as error:
            print(json.dumps({"code": error.code().name}))
        else:
            print(json.dumps({"echo": echo.decode(), "chat": [one.decode() for one in several], "seen": seen}))


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
