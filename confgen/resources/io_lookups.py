"""What template functions ask of the world: names, interfaces, files, the environment, the clock.

Blocking: templates are rendered in a thread. A look-up that fails gives an empty list, as in confd, and all lists are
sorted, so that the order in which a name server answers changes no file.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import ipaddress
import os
import random
import re
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import dnslib

from confgen.resources import resolv
from confgen.resources.functions import World
from confgen.resources.gotime import Moment
from confgen.resources.keyspace import Strings
from confgen.resources.resolv import Resolv
from pilotfish.catalog.gotemplate.values import Slice, Struct
from pilotfish.catalog.values import is_ip

DNS_PORT = 53
SRV_TIMEOUT_S = 2.0  # for each server and try
MAX_MESSAGE = 65535
_NUMBERS = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\Z")
RESOLV_CONF = Path("/etc/resolv.conf")
SIOCGIFADDR = 0x8915  # netdevice(7)
INET6 = Path("/proc/net/if_inet6")


class Srv(Struct):
    """An SRV record: Target, Port, Priority, Weight."""

    go_type: ClassVar[str] = "*net.SRV"


class SrvSlice(Slice):
    """[]*net.SRV."""

    go_type: ClassVar[str] = "[]*net.SRV"


class Lookups:
    """The world as one rendering sees it.

    Args:
        environ: what `getenv` sees.
        now_ns: the moment that `datetime` gives, in nanoseconds since 1970.
        resolv_conf: where the name servers for `lookupSRV` are listed.

    Attributes:
        asked_time: True once `datetime` was called.
    """

    def __init__(self, environ: Mapping[str, str], now_ns: int, resolv_conf: Path = RESOLV_CONF) -> None:
        self._environ, self._now_ns, self._resolv_conf = environ, now_ns, resolv_conf
        self.asked_time = False

    @property
    def world(self) -> World:
        """The functions by their names in templates."""
        return World(
            {
                "datetime": self.datetime,
                "fileExists": file_exists,
                "getenv": self.getenv,
                "hostname": socket.gethostname,
                "lookupIP": lookup_ip,
                "lookupIPV4": lambda name: Strings(ip for ip in lookup_ip(name) if "." in str(ip)),
                "lookupIPV6": lambda name: Strings(ip for ip in lookup_ip(name) if ":" in str(ip)),
                "lookupIfaceIPV4": interface_ipv4,
                "lookupIfaceIPV6": interface_ipv6,
                "lookupSRV": self.lookup_srv,
            }
        )

    def datetime(self) -> Moment:
        """The moment of this rendering, in the local zone."""
        self.asked_time = True
        zone = dt.datetime.fromtimestamp(self._now_ns // 10**9).astimezone().tzinfo or dt.UTC
        return Moment(self._now_ns, zone)

    def getenv(self, name: str, *default: str) -> str:
        """A variable of the environment; empty counts as unset."""
        return self._environ.get(name, "") or (default[0] if default else "")

    def lookup_srv(self, service: str, protocol: str, name: str) -> SrvSlice:
        """SRV records of `_service._protocol.name`, or of the name alone where both are empty; [] when that fails."""
        whole = f"_{service}._{protocol}.{name}" if service or protocol else name
        asked = self._resolv()
        for candidate in asked.candidates(whole):
            answers = (_ask_srv(server, candidate) for server in asked.servers)
            found = next((answer for answer in answers if answer is not None), None)
            if found:
                found.sort(key=_as_text)
                return SrvSlice(found)
        return SrvSlice()

    def _resolv(self) -> Resolv:
        try:
            text = self._resolv_conf.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        return resolv.parse(text, socket.gethostname())


def _as_text(record: Srv) -> str:
    return "".join(str(record.fields[name]) for name in ("Target", "Port", "Priority", "Weight"))


def file_exists(path: str) -> bool:
    """True unless it is certain that nothing is there: what we may not look at counts as being there, as in confd."""
    try:
        os.stat(path)  # noqa: PTH116  a path of any shape
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return True


def lookup_ip(name: str) -> Strings:
    """All addresses of a name, sorted as text."""
    if _NUMBERS.match(name) and not is_ip(name):
        return Strings()  # the C library takes 7 for 0.0.0.7 and 127.1 for 127.0.0.1, Go does not
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Strings()
    return Strings(sorted({_as_go_prints(str(address[4][0]).partition("%")[0]) for address in found}))


def _as_go_prints(address: str) -> str:
    """Go does not tell an IPv4 address from the same one mapped into IPv6."""
    mapped = ipaddress.ip_address(address)
    if isinstance(mapped, ipaddress.IPv6Address) and mapped.ipv4_mapped:
        return str(mapped.ipv4_mapped)
    return address


def interface_ipv4(name: str) -> str:
    """The IPv4 address of an interface; "" where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def interface_ipv6(name: str) -> str:
    """The first IPv6 address of an interface; "" where there is none."""
    try:
        lines = INET6.read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    found = (line.split() for line in lines)
    return next((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[0])) for row in found if row[-1] == name), "")


def _ask_srv(server: str, name: str) -> list[Srv] | None:
    """Ask one server; None when it gives no usable answer, [] when it says that there is nothing."""
    try:
        question = dnslib.DNSRecord(dnslib.DNSHeader(id=random.SystemRandom().randrange(65536), rd=1))
        question.add_question(dnslib.DNSQuestion(name, dnslib.QTYPE.SRV))
        answer = _exchange(server, question, _over_udp)
        if answer.header.tc:
            answer = _exchange(server, question, _over_tcp)
    except (OSError, ValueError, UnicodeError, dnslib.DNSError):
        return None
    if answer.header.rcode not in {dnslib.RCODE.NOERROR, dnslib.RCODE.NXDOMAIN}:
        return None
    return [
        Srv({"Target": str(one.rdata.target), "Port": one.rdata.port, "Priority": one.rdata.priority,
             "Weight": one.rdata.weight})
        for one in answer.rr
        if one.rtype == dnslib.QTYPE.SRV
    ]  # fmt: skip


def _exchange(server: str, question: dnslib.DNSRecord, ask: Callable[[str, bytes], bytes]) -> dnslib.DNSRecord:
    answer = dnslib.DNSRecord.parse(ask(server, question.pack()))
    if answer.header.id != question.header.id or str(answer.q.qname).lower() != str(question.q.qname).lower():
        raise ValueError("an answer to another question")
    return answer


def _over_udp(server: str, message: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(SRV_TIMEOUT_S)
        asking.connect((server, DNS_PORT))
        asking.send(message)
        return asking.recv(MAX_MESSAGE)


def _over_tcp(server: str, message: bytes) -> bytes:
    with socket.create_connection((server, DNS_PORT), timeout=SRV_TIMEOUT_S) as asking:
        asking.sendall(struct.pack("!H", len(message)) + message)
        reader = asking.makefile("rb")
        (length,) = struct.unpack("!H", reader.read(2).rjust(2, b"\0"))
        return reader.read(length)
