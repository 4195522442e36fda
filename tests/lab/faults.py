"""What the fault tests share: the standing suite, a timeline, faults, and "everything converged again".

Converged means equal to a fresh start: what the engines run, what the store holds, what every DNS server answers and
what every proxy serves are one and the same thing. It is looked up, not believed from readiness alone.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dns.exception

from lab.host import Host
from lab.lab import Lab
from lab.waiting import wait_until
from tests.lab.suite import AFTER_LEASE_S, DOMAIN, ESTEST, PARTS, SOAK, STATUS, Suite, additional, answers, ask, run

NAME = f"estest.{DOMAIN}"
PLAIN = f"_9300._tcp.{NAME}"
LASTING = f"lasting.{DOMAIN}"  # a record of somebody else's that nobody touches
FOREIGN = "/skydns/internal/svc"
# A part that is killed and started again must be back within two thirds of it, on a machine that is busy with the rest.
LEASE_S = 30 if SOAK else 8
LEASE_OVER_S = LEASE_S + AFTER_LEASE_S
CALL = ("--etcd-timeout", "2s")  # a call that hangs must leave time for another before a lease is over
QUICK: Mapping[str, tuple[str, ...]] = (
    {}
    if SOAK
    else {
        "registrator": (*CALL, "--lease-ttl", str(LEASE_S), "--docker-ping", "1s", "--docker-timeout", "3s"),
        "dns": (*CALL, "--stale-after", "3s"),
        "confgen": (*CALL, "--proxy-ttl", str(LEASE_S)),
    }
)
CONVERGED_S = 60.0
RECORD = '{{"host": "{}", "port": 80}}'


class Timeline:
    """What happened when; `show` prints it in one line, seconds from the first mark."""

    def __init__(self, row: str) -> None:
        self.row = row
        self.at: dict[str, float] = {}
        self.notes: list[str] = []

    def mark(self, what: str, at: float | None = None) -> float:
        """Note that something happened now, or at a time of the monotonic clock."""
        self.at[what] = time.monotonic() if at is None else at
        return self.at[what]

    def between(self, first: str, then: str) -> float:
        """Seconds from one mark to another."""
        return self.at[then] - self.at[first]

    def note(self, text: str) -> None:
        """A figure, for the second line."""
        self.notes.append(text)

    def show(self) -> None:
        """Print it."""
        begin = min(self.at.values())
        marks = ", ".join(f"{what} {at - begin:.2f}" for what, at in sorted(self.at.items(), key=lambda one: one[1]))
        print(f"\n{self.row}: {marks} s" + (f"\n  {'; '.join(self.notes)}" if self.notes else ""))


class Standing:
    """All parts on three hosts with one `estest` container each, put back to that before every test."""

    def __init__(self, lab: Lab, suite: Suite) -> None:
        self.lab, self.suite = lab, suite
        self.hosts = suite.hosts
        self.proxies = sorted(host.address for host in self.hosts)

    def restore(self) -> None:
        """Heal, resume and start whatever a test left otherwise, and wait until all is as it was."""
        for host in self.hosts:
            host.heal()
            for chain in ("INPUT", "OUTPUT", "DOCKER-USER"):
                host.iptables("-F", chain)
            host.engine.revive()
        for member in self.lab.etcd.members:
            if member.process is not None and member.process.alive:
                member.resume()
        self.lab.etcd.start()
        for host in self.hosts:
            host.engine.wait_ready()
            self.revive_parts(host)
            self._containers(host)
        self._keys()
        self.converged()

    def revive_parts(self, host: Host, parts: Sequence[str] = PARTS) -> None:
        """Start the parts that do not run, as a supervisor does, and resume those that stand still."""
        for part in parts:
            process = self.suite.processes.get((host.name, part))
            if process is None or not process.alive:
                self.suite.start(host, part)
            else:
                process.resume()

    def _containers(self, host: Host) -> None:
        own = f"estest{host.number}"
        found = dict(
            line.split() for line in host.docker(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).stdout.splitlines()
        )
        others = [name for name in found if name != own]
        if others:
            host.docker(["rm", "-f", *others])
        if own not in found:
            run(host, *ESTEST, name=own)
        elif found[own] != "running":
            host.docker(["start", own])

    def _keys(self) -> None:
        """Remove other people's records but the lasting one."""
        kept = f"{FOREIGN}/lasting"
        self.lab.etcd.ctl("del", "--prefix", f"{FOREIGN}/w")
        theirs = [key for key, value in self.lab.etcd.get(f"{FOREIGN}/").items() if '"pilotfish"' not in value]
        for key in theirs:
            if key != kept:
                self.lab.etcd.ctl("del", key)
        if kept not in theirs:
            self.lab.etcd.ctl("put", kept, RECORD.format("10.250.255.1"))

    def converged(self, within_s: float = CONVERGED_S) -> None:
        """Wait until nothing differs any more; the error lists what does."""
        found: list[str] = []

        def same() -> bool:
            found[:] = self.differences()
            return not found

        try:
            wait_until(same, within_s=within_s, what="everything to converge", every_s=0.05)
        except Exception as error:
            error.add_note("\n".join(found))
            for (host, part), process in self.suite.processes.items():
                error.add_note(f"--- {part} on {host}, {process.state or 'ended'}: {process.tail(12)}")
            raise

    def differences(self) -> list[str]:
        """What is not as the engines' containers say it has to be; the first kind that is found."""
        endpoints = {(host.address, *pair) for host in self.hosts for pair in published(host)}
        for look in (self._unready, self._dns, self._proxies, self._exports):
            if found := look(endpoints):
                return found
        return []

    def _unready(self, _: set[tuple[str, int, int]]) -> list[str]:
        ready = {(host.name, part): fetch(host, STATUS[part], "/ready") for host in self.hosts for part in PARTS}
        return [f"{part} on {host}: {said}" for (host, part), (status, said) in ready.items() if status != 200]

    def _dns(self, endpoints: set[tuple[str, int, int]]) -> list[str]:
        plain = {(address, port) for address, inside, port in endpoints if inside == 9300}
        found = []
        for host in self.hosts:
            try:
                seen = answers(host, NAME), srv(host, PLAIN), answers(host, LASTING)
            except dns.exception.Timeout:
                return [f"{host.name}: no answer"]
            if seen != (self.proxies, plain, ["10.250.255.1"]):
                found.append(f"{host.name}: DNS answers {seen}, not {self.proxies, plain}")
        return found

    def _proxies(self, endpoints: set[tuple[str, int, int]]) -> list[str]:
        count = sum(inside == 9200 for _, inside, _ in endpoints)
        found = []
        for host in self.hosts:
            state = json.loads(fetch(host, STATUS["confgen"], "/api/state")[1] or "{}")
            routes = [route for route in state.get("routes", []) if route["host"] == NAME]
            if not state.get("serving") or not state["nginx"]["pid"]:
                found.append(f"{host.name}: nginx does not run: {state.get('nginx')}")
            elif [len(route["servers"]) for route in routes] != [count]:
                found.append(f"{host.name}: the proxy has {routes}, not {count} servers")
            elif fetch(host, 80, "/", NAME)[0] != 200:
                found.append(f"{host.name}: the page is not served")
        return found

    def _exports(self, endpoints: set[tuple[str, int, int]]) -> list[str]:
        expected = {f"{address}:{port}" for address, _, port in endpoints}
        seen = self.lab.etcd.get("/reg/all/")
        nodes = self.lab.etcd.get("/pilotfish/v1/nodes/")
        if set(seen.values()) != expected or len(seen) != len(expected) or len(nodes) != len(self.hosts):
            return [f"the store has {seen} of {sorted(nodes)}, not {expected}"]
        return []


def published(host: Host) -> Iterator[tuple[int, int]]:
    """(container port, host port) of everything that runs on a host and is published, asked of the engine."""
    for one in host.engine.get("/containers/json"):
        for port in one["Ports"]:
            if port.get("PublicPort") and ":" not in port.get("IP", ""):
                yield port["PrivatePort"], port["PublicPort"]


def srv(host: Host, name: str) -> set[tuple[str, int]]:
    """(address, port) of an SRV answer of a host's DNS server."""
    message = ask(host, name, "SRV")
    where = additional(message)
    records = [record for rrset in message.answer for record in rrset]
    return {(address, record.port) for record in records for address in where.get(str(record.target), ())}


def fetch(host: Host, port: int, path: str, name: str = "localhost", within_s: float = 3) -> tuple[int, str]:
    """Status and body of one request to a host's own port, sent on that host; (0, reason) without an answer."""
    with host.inside():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
        try:
            connection.request("GET", path, headers={"Host": name})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()


def children_of(pid: int) -> list[int]:
    """The processes that a process started, such as nginx's workers."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def state(host: Host, part: str) -> dict:
    """A part's /api/state; empty without an answer."""
    status, said = fetch(host, STATUS[part], "/api/state")
    return json.loads(said) if status == 200 else {}


def missing(host: Host, part: str) -> str:
    """What a part says it misses; "" when it is ready."""
    status, said = fetch(host, STATUS[part], "/ready")
    return "" if status == 200 else said


def metric(host: Host, part: str, line: str) -> float:
    """The value of the one metric line that begins with `line`, name and labels; 0 without it."""
    text = fetch(host, STATUS[part], "/metrics")[1]
    return sum(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line))


def born(lab: Lab, *prefixes: str, leases: bool = False) -> dict[str, int]:
    """Key -> revision at which it came: a key that was gone in between has another one. Or key -> its lease."""
    found: dict[str, int] = {}
    for prefix in prefixes:
        said = lab.etcd.ctl("get", "--prefix", prefix, "-w", "json").stdout
        for one in json.loads(said).get("kvs", []):
            key = base64.b64decode(one["key"]).decode()
            found[key] = one.get("lease", 0) if leases else one["create_revision"]
    return found


def keys_of(lab: Lab, host: Host) -> dict[str, int]:
    """The keys of a host's registrator -> revision at which each came."""
    found = born(lab, "/pilotfish/v1/nodes/", "/pilotfish/v1/containers/", "/reg/", "/skydns/")
    return {key: revision for key, revision in found.items() if f"/{host.name}" in key}


def revision(lab: Lab) -> int:
    """The store's revision, asked from outside the hosts."""
    found = json.loads(lab.etcd.ctl("get", "/", "-w", "json").stdout)
    return int(found["header"]["revision"])


def watchers(standing: Standing) -> dict[str, int]:
    """Member -> how many watches it holds, in its own words; paused and dead members are left out."""
    found = {}
    for member, host in zip(standing.lab.etcd.members, standing.hosts, strict=False):
        text = fetch(host, 2379, "/metrics")[1] if member.process and member.process.state not in {"", "T"} else ""
        lines = [line for line in text.splitlines() if line.startswith("etcd_debugging_mvcc_watcher_total ")]
        for line in lines:
            found[member.name] = int(float(line.split()[1]))
    return found


def dropped(host: Host, *chains: str) -> int:
    """Packets that rules of ours refused, by iptables' own count."""
    rows = [
        line.split() for chain in chains or ("INPUT", "OUTPUT") for line in host.iptables("-nvxL", chain).splitlines()
    ]
    return sum(int(row[0]) for row in rows if len(row) > 2 and row[2] in {"DROP", "REJECT"})


def cut_off_from_etcd(host: Host, how: str) -> None:
    """Refuse what programs on a host send to etcd's clients' port, its own member's too: "DROP" or "REJECT"."""
    more = ("--reject-with", "tcp-reset") if how == "REJECT" else ()
    host.iptables("-I", "OUTPUT", "-p", "tcp", "--dport", "2379", "-j", how, *more)


def started(standing: Standing, host: Host, part: str, *arguments: str) -> None:
    """Start a part and wait until it has loaded its code and begun: what comes then is its own doing."""
    standing.suite.start(host, part, *arguments)
    wait_until(lambda: fetch(host, STATUS[part], "/health")[0] == 200, within_s=30, what=f"{part} to begin")


def out_of_time(until: float) -> None:
    """Let time pass until a moment of the monotonic clock: a lease can only be waited for."""
    wait_until(lambda: time.monotonic() >= until, within_s=600, what="that moment", every_s=0.05)
