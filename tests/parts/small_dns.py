"""A name server of a few lines: answers its own domain, and does with other names what it is told to do.

Run as a program it prints one line a question, so that a test can see who was asked what:

    python -m tests.parts.small_dns 127.0.0.1:1053 --domain svc.internal --outside refused
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

ADDRESS = "10.9.8.7"
SOA = "ns.dns.{domain}. hostmaster.{domain}. 7 3600 600 86400 2"
# What is done with names outside the domain. The last three set RA, as a forwarder does.
RCODES = {
    "refused": dns.rcode.REFUSED,
    "nxdomain": dns.rcode.NXDOMAIN,
    "forwards": dns.rcode.NOERROR,
    "upstream-away": dns.rcode.SERVFAIL,
    "upstream-refuses": dns.rcode.REFUSED,
}
OUTSIDE = (*RCODES, "silent")


class SmallDns:
    """A server over UDP in a thread of its own.

    Args:
        address: where it listens; port 0 is any.
        domain: whose names it has: the SOA at the top, `ADDRESS` for every name below except those with `missing`.
        outside: one of `OUTSIDE`.
        said: is called with `name type` for every question.
    """

    def __init__(
        self,
        address: tuple[str, int] = ("127.0.0.1", 0),
        *,
        domain: str = "svc.internal",
        outside: str = "refused",
        said: Callable[[str], None] | None = None,
    ) -> None:
        self.domain, self.outside = dns.name.from_text(domain), outside
        self.asked: list[str] = []
        self._said = said or self.asked.append
        self._socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> SmallDns:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, which waits for a datagram: an empty one tells it."""
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(5)
        self._socket.close()

    def run(self) -> None:
        """Answer until an empty datagram comes."""
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            try:
                reply = self._reply(dns.message.from_wire(data))
            except dns.exception.DNSException:
                continue
            if reply is not None:
                self._socket.sendto(reply.to_wire(), client)

    def _reply(self, question: dns.message.Message) -> dns.message.Message | None:
        [asked] = question.question
        self._said(f"{asked.name.to_text()} {dns.rdatatype.to_text(asked.rdtype)}")
        reply = dns.message.make_response(question)
        if self.outside in {"forwards", "upstream-away", "upstream-refuses"}:
            reply.flags |= dns.flags.RA
        if asked.name.is_subdomain(self.domain):
            return self._inside(reply, asked)
        if self.outside == "silent":
            return None
        if self.outside == "forwards":
            reply.answer = _world(asked)
        top = len(asked.name.labels) == 2  # such as `web.`: there is no such top-level domain
        reply.set_rcode(dns.rcode.NXDOMAIN if top else RCODES[self.outside])
        return reply

    def _inside(self, reply: dns.message.Message, asked: dns.rrset.RRset) -> dns.message.Message:
        reply.flags |= dns.flags.AA
        soa = dns.rrset.from_text(
            self.domain, 2, "IN", "SOA", SOA.format(domain=self.domain.to_text(omit_final_dot=True))
        )
        top = asked.name == self.domain
        if top and asked.rdtype == dns.rdatatype.SOA:
            reply.answer = [soa]
        elif not top and asked.rdtype == dns.rdatatype.A and b"missing" not in asked.name.labels:
            reply.answer = [dns.rrset.from_text(asked.name, 5, "IN", "A", ADDRESS)]
        else:
            reply.authority = [soa]
            if b"missing" in asked.name.labels:
                reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply


def _world(asked: dns.rrset.RRset) -> list[dns.rrset.RRset]:
    answers = {"NS": "a.root-servers.net.", "A": "192.0.2.80"}
    kind = dns.rdatatype.to_text(asked.rdtype)
    return [dns.rrset.from_text(asked.name, 60, "IN", kind, answers[kind])] if kind in answers else []


def main() -> None:
    """Serve until killed; the first line says where."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", metavar="ADDR:PORT")
    parser.add_argument("--domain", default="svc.internal")
    parser.add_argument("--outside", choices=OUTSIDE, default="refused")
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")

    def say(line: str) -> None:
        print(line, flush=True)

    server = SmallDns((host, int(port)), domain=options.domain, outside=options.outside, said=say)
    print(f"listening at {server.address[0]}:{server.address[1]}", flush=True)
    server.run()


if __name__ == "__main__":
    sys.exit(main())
