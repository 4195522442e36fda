"""What real programs make of our answers: each asks in its own way, and must be content with what it gets."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lab.host import Host
from lab.lab import Lab
from lab.tools import Tools
from lab.waiting import wait_until
from pilotfish.catalog.record import Container, encode
from tests.dnsserver.kit import container, endpoint, key_of, lan, node

pytestmark = pytest.mark.lab

OURS, SECONDARY = "10.88.0.1", "127.0.0.3"
DEADLINE_S = 20
MANY = 60  # addresses of `big`: more than 512 octets, less than 1232
BIG = frozenset(f"10.3.0.{number}" for number in range(1, MANY + 1))
SRV = "_80._tcp.web.svc.internal"
FOREIGN = {
    "mail/x": {"host": "mx.svc.internal", "mail": True, "priority": 10},
    "mx": {"host": "10.1.0.25"},
    "note": {"text": 'two words; "quoted"'},
    "one": {"host": "two.svc.internal"},
    "two": {"host": "three.svc.internal"},
    "three": {"host": "10.1.0.3"},
}


def web(number: int) -> Container:
    """A container of ours with both kinds of addresses."""
    return container(number, endpoint("web", 80, lan(f"10.2.0.{number}"), lan(f"fd00::{number}"), name=f"web{number}"))


def big(number: int) -> Container:
    """One of many."""
    return container(1000 + number, endpoint("big", 80, lan(f"10.3.0.{number}"), name=f"big{number}"))


def put(lab: Lab, values: dict[str, str]) -> None:
    """Put all of it in one transaction."""
    puts = [f"put {json.dumps(key)} {json.dumps(value)}" for key, value in values.items()]
    lab.hosts[0].run(["etcdctl", "txn"], input_text="\n".join(["", *puts, "", "", ""]))


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host whose name server is ours, with records of ours and of others; Knot is our secondary there."""
    with Lab(hosts=1, etcd=1, env={"PATH": Tools(["lab", "bench"]).path()}) as lab:
        one = lab.hosts[0]
        assert one.address == OURS
        records = (node("lab1", OURS), *(web(number) for number in (1, 2, 3)), *(big(n) for n in range(1, MANY + 1)))
        put(lab, {key_of(record): encode(record).decode() for record in records})
        put(lab, {f"/skydns/internal/svc/{key}": json.dumps(value) for key, value in FOREIGN.items()})
        start_ours(lab, one)
        one.resolver(OURS, search=["svc.internal"])
        yield one


def start_ours(lab: Lab, host: Host) -> None:
    """Our DNS server at port 53, ready."""
    command = [sys.executable, "-m", "pilotfish", "dns", "--etcd", lab.etcd.urls, "--node-name", "lab1"]
    guests = ["--transfer", f"{OURS}/32", "--notify", f"{SECONDARY}:53"]
    process = host.popen([*command, "--listen", f"{OURS}:53", "--status", "127.0.0.1:9702", *guests], name="dns")
    ready = ["curl", "-sf", "http://127.0.0.1:9702/ready"]
    wait_until(lambda: host.run(ready, check=False).returncode == 0, within_s=DEADLINE_S, what=f"dns: {process.log}")


AT, CUT = f"@{OURS}", "Truncated, retrying"


class Client(NamedTuple):
    """A program, and what it must show: each word of `shows`, as often as `times` if that is said."""

    command: str
    shows: tuple[str, ...]
    times: int = 0  # of the first word
    meant: str = ""  # a complaint that this row is about


# Whoever prints one of these is not content.
COMPLAINTS = re.compile(
    r"malformed|extra bytes|badcookie|bad cookie|truncated|warning: (?!recursion requested)|mismatch|unexpected"
    r"|timed out|failed|\berror|formerr|servfail|refused|trailing|Traceback",
    re.IGNORECASE,
)
WEB4 = ("10.2.0.1", "10.2.0.2", "10.2.0.3")
WEB6 = ("fd00::1", "fd00::2", "fd00::3")
WEB = WEB4 + WEB6
PYTHON = """
import dns.resolver, socket
print(sorted({place[4][0] for place in socket.getaddrinfo("web", 80)}))
print(socket.gethostbyname_ex("one"), socket.gethostbyaddr("10.88.0.1")[0])
stub = dns.resolver.Resolver()
print(stub.resolve_address("10.88.0.1")[0], *stub.resolve("mail.svc.internal", "MX"))
print(len(stub.resolve("big.svc.internal", "A")))
stub.use_edns(0, 0, 512)
print(len(stub.resolve("big.svc.internal", "A")), stub.resolve("one.svc.internal").canonical_name)
try:
    stub.resolve("nope.svc.internal")
except dns.resolver.NXDOMAIN as error:
    print(error)
"""
CLIENTS = {
    "dig": Client(f"dig {AT} web.svc.internal A", (*WEB4, "status: NOERROR", "(good)", "udp: 1232")),
    "dig-aaaa-nsid": Client(f"dig {AT} web.svc.internal AAAA +dnssec +nsid", (*WEB6, 'NSID: 6c 61 62 31 ("lab1")')),
    "dig-srv": Client(f"dig {AT} {SRV} SRV", (" 80 h1-web", "10 100 80 ", *WEB)),
    "dig-mx": Client(f"dig {AT} mail.svc.internal MX", ("10 mx.svc.internal.", "10.1.0.25")),
    "dig-txt": Client(f"dig {AT} note.svc.internal TXT", (r'"two words; \"quoted\""',)),
    "dig-chain": Client(
        f"dig {AT} one.svc.internal +noall +answer",
        ("CNAME\ttwo.svc.internal.", "CNAME\tthree.svc.internal.", "10.1.0.3"),
    ),
    "dig-no-such-name": Client(f"dig {AT} nope.svc.internal", ("NXDOMAIN", "SOA\tns.dns.svc.internal.")),
    "dig-any": Client(f"dig {AT} +notcp web.svc.internal ANY", ('HINFO\t"RFC8482" ""',)),
    "dig-all-in-one": Client(f"dig {AT} big.svc.internal", ("\tA\t10.3.0.", "(UDP)"), MANY),
    "dig-no-edns": Client(f"dig {AT} +noedns big.svc.internal", ("\tA\t10.3.0.", "(TCP)"), MANY, CUT),
    "dig-512": Client(f"dig {AT} +bufsize=512 big.svc.internal", ("\tA\t10.3.0.", "(TCP)"), MANY, CUT),
    "dig-512-cut": Client(f"dig {AT} +bufsize=512 +ignore big.svc.internal", ("flags: qr aa tc rd",)),
    "dig-old-cookie": Client(
        f"dig {AT} +cookie=0102030405060708aabbccddeeff0011 web.svc.internal", (*WEB4, "COOKIE: 0102030405060708010000")
    ),
    "dig-keepopen": Client(
        f"dig {AT} +tcp +keepopen web.svc.internal A web.svc.internal AAAA +keepalive",
        (*WEB, "TCP KEEPALIVE: 10.0 secs"),
    ),
    "delv": Client(f"delv -i {AT} {SRV} SRV", ("; authoritative", " 80 h1-web1-80.web.svc.internal.")),
    "delv-elsewhere": Client(f"delv {AT} -a ANCHOR +root=example web.svc.internal", ("; authoritative", *WEB4)),
    "delv-no-such-name": Client(
        f"delv {AT} -a ANCHOR +root=example nope.svc.internal",
        ("; negative response, unsigned answer", "-$NXDOMAIN"),
        meant="resolution failed: ncache nxdomain",
    ),
    "kdig": Client(f"kdig {AT} web.svc.internal A", (*WEB4, "status: NOERROR")),
    "kdig-tcp": Client(
        f"kdig {AT} +tcp +keepopen +padding=128 +nsid web.svc.internal A {SRV} SRV",
        (";; PADDING: ", 'NSID: 6C616231 "lab1"', ";; Received 468 B", *WEB4),
        2,
    ),
    "kdig-udp-padding": Client(f"kdig {AT} +padding=128 web.svc.internal", WEB4),
    "host": Client("host web", tuple(f"web.svc.internal has address {ip}" for ip in WEB4) + WEB6),
    "host-srv": Client(f"host -t SRV {SRV}", ("has SRV record 10 100 80 h1-web",), 3),
    "host-mx": Client("host -t MX mail.svc.internal", ("mail is handled by 10 mx.svc.internal.",)),
    "host-ptr": Client("host 10.88.0.1", ("domain name pointer lab1.node.svc.internal.",)),
    "nslookup": Client("nslookup -type=srv " + SRV, ("service = 10 100 80 h1-web",), 3),
    "busybox-nslookup": Client("busybox nslookup web.svc.internal", WEB),
    "getent": Client("getent ahosts web", (*WEB, "web.svc.internal")),
    "getent-chain": Client("getent hosts one", ("10.1.0.3", "three.svc.internal", "one.svc.internal")),
    "python": Client(
        "PYTHON",
        (str(sorted(WEB)), "'10.1.0.3'", "lab1.node.svc.internal. 10 mx.svc.internal.",
         "60 three.svc.internal.", "The DNS query name does not exist: nope.svc.internal."),
    ),
}  # fmt: skip
GO = ("web.svc.internal 6 <nil>", "one 1 <nil>", "no such host", "big 60 <nil>", "SRV 3 <nil>", "MX 1 <nil>",
      'TXT [two words; "quoted"] <nil>')  # fmt: skip
if shutil.which("go"):  # not a program of Debian that we unpack: where it is, it is asked
    CLIENTS["go-by-resolv-conf"] = Client("GO", GO)
    CLIENTS["go-by-dial"] = Client(f"GO {OURS}:53", GO)

# Ed25519 keys may be any 32 octets: it stands for a zone that is not ours.
ANCHOR = 'trust-anchors {{ example. static-key 257 3 15 "{key}"; }};\n'.format(key="A" * 43 + "=")


@pytest.fixture(scope="module")
def words(host: Host) -> dict[str, list[str]]:
    """What the capital words in a command stand for."""
    anchor, ask = host.folder / "anchor", host.folder / "ask"
    anchor.write_text(ANCHOR)
    if shutil.which("go"):
        source = Path(__file__).with_name("ask.go")
        subprocess.run(
            ["go", "build", "-o", str(ask), str(source)], check=True, env={**host.place.env, "CGO_ENABLED": "0"}
        )
    return {"ANCHOR": [str(anchor)], "GO": [str(ask)], "PYTHON": [sys.executable, "-c", PYTHON]}


@pytest.mark.parametrize("name", CLIENTS)
def test_content(host: Host, words: dict[str, list[str]], name: str):
    """It shows what we have, and complains of nothing."""
    client = CLIENTS[name]
    done = host.run([one for word in client.command.split(" ") for one in words.get(word, [word])], check=False)
    said = done.stdout + done.stderr

    assert [word for word in client.shows if word not in said] == [], said
    assert not client.times or said.count(client.shows[0]) == client.times, said
    assert client.meant in said
    complaint = COMPLAINTS.search(said.replace(client.meant, "") if client.meant else said)
    assert complaint is None, said


def test_a_cookie_comes_back(host: Host):
    """A client hands our cookie back, and gets the same one: it is good."""
    first = host.run(["kdig", AT, "+cookie", "web.svc.internal"]).stdout
    [cookie] = re.findall(r"COOKIE: ([0-9A-F]{48})$", first, re.MULTILINE)
    second = host.run(["kdig", AT, f"+cookie={cookie}", "+badcookie", "web.svc.internal"]).stdout

    assert re.findall(r"COOKIE: ([0-9A-F]+)$", second, re.MULTILINE) == [cookie]


KNOT = """\
server:
    rundir: "{folder}"
    listen: {at}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
log:
  - target: stdout
    any: info
remote:
  - id: ours
    address: {ours}@53
acl:
  - id: notices
    address: {ours}
    action: notify
zone:
  - domain: svc.internal
    storage: "{folder}"
    master: ours
    acl: notices
    semantic-checks: on
"""
PLAIN = (*(f"h1-web{n}-80.web" for n in (1, 2, 3)), *(f"h1-big{n}-80.big" for n in range(1, 41)), "web", "big", "one",
         "three", "mx", "two", "lab1.node")  # fmt: skip


def asked(host: Host, at: str, *questions: str) -> set[str]:
    """The answers to many questions over one connection, TTLs and all."""
    words = [word for question in questions for word in question.split(" ")]
    said = host.run(["kdig", f"@{at}", "+tcp", "+keepopen", "+noall", "+answer", *words]).stdout
    return {" ".join(line.split()) for line in said.splitlines() if line and not line.startswith(";")}


def test_knot_follows(host: Host):
    """A secondary has the zone, says what we say, and follows a change as soon as it is told."""
    folder = host.folder / "knot"
    folder.mkdir()
    (folder / "conf").write_text(KNOT.format(folder=folder, at=SECONDARY, ours=OURS))
    knot = host.popen(["knotd", "--config", folder / "conf"], name="knotd")
    knot.wait_line(r"AXFR, incoming, .* finished", within_s=DEADLINE_S)
    knot.wait_line(r"zone updated, .* serial none -> \d+", within_s=DEADLINE_S)
    questions = [f"{name}.svc.internal" for name in PLAIN]
    assert len(questions) == 50
    assert asked(host, SECONDARY, *questions) == asked(host, OURS, *questions)

    before = len(knot.text())
    record = web(4)
    host.run(["etcdctl", "put", key_of(record), encode(record).decode()])
    knot.wait_line(r"notify, incoming, .* serial \d+", within_s=5, after=before)
    knot.wait_line(r"zone updated, .* serial \d+ -> \d+", within_s=5, after=before)
    told = asked(host, SECONDARY, "web.svc.internal", "svc.internal SOA")
    assert told == asked(host, OURS, "web.svc.internal", "svc.internal SOA")
    assert "web.svc.internal. 5 IN A 10.2.0.4" in told
    assert "warning" not in knot.text()
