"""A lab: hosts on one switch, an engine on each, an etcd cluster across them.

    with Lab(hosts=3, etcd=3) as lab:
        lab.hosts[0].docker(["run", "-d", "-p", "8000:9200", "pilotfish-lab/app:1"])
        lab.hosts[1].run(["curl", "-fsS", f"http://{lab.hosts[0].address}:8000/"])

It needs root and Linux. Nothing outside its own namespaces, folder and control group is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from lab import cgroup, image, keeper, state
from lab.etcd import PEER_PORT, Etcd, Member
from lab.host import Host
from lab.process import started_at
from lab.switch import Switch
from lab.tools import Tools
from lab.waiting import LabError

# These would lead programs out of the lab, or to an engine that is not the host's.
NOT_PASSED_ON = ("DOCKER_", "ETCDCTL_", "ETCD_", "PILOTFISH_ETCD", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
                 "http_proxy", "https_proxy", "all_proxy", "PYTEST_")  # fmt: skip


class Lab:
    """Hosts, switch and etcd, from `start` to `close`.

    Args:
        hosts: how many, 1 to 99; named docker01, docker02, ... unless `names` are given.
        etcd: members, on the first hosts; 0 for none.
        engines: whether each host gets a Docker engine with the sample images (`lab.image`).
        names: host names.
        env: more environment for every program.
        say: receives one line for every step that takes time.
    """

    def __init__(
        self,
        hosts: int = 1,
        etcd: int = 0,
        *,
        engines: bool = True,
        names: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._names = list(names or [f"docker{number:02}" for number in range(1, hosts + 1)])
        if not 0 <= etcd <= len(self._names) <= 99:
            raise LabError(f"a lab has 1 to 99 hosts and at most one etcd member a host, not {hosts} and {etcd}")
        self._members = etcd
        self._engines = engines
        self._more_env = dict(env or {})
        self._say = say
        self._claim: state.Claim | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Bring everything up; on any failure, everything is taken away again.

        Raises:
            LabError: not root, not Linux, or a part did not come up, with what it said.
        """
        require_root()
        self.tools = Tools(["lab"], say=self._say)
        for stale in state.sweep():
            self._say(f"lab: cleaned lab {stale}, whose owner is gone")
        self._claim = state.claim_new()
        self._keeper = keeper.start(self._claim.folder)
        try:
            self._bring_up(self._claim)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Take everything away: processes, namespaces, files."""
        if self._claim is not None:
            with state.held(self._claim):
                self._reap(self._claim)
                self._claim.clean()
            self._claim = None
        if self._keeper is not None:
            self._keeper.communicate(timeout=60)
            self._keeper = None

    @property
    def id(self) -> str:
        """Names the lab among others on this machine."""
        return self._held().id

    @property
    def folder(self) -> Path:
        """Everything the lab has on disk; ``<host>/log/`` has what programs said. Gone after `close`."""
        return self._held().folder

    def host(self, name: str) -> Host:
        """The host called `name`."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"no host {name}; there are {' '.join(host.name for host in self.hosts)}")

    def reset(self) -> None:
        """Put the lab back to how it started, for the next test.

        Hosts are up and plugged in, no rule of ours is in iptables, engines and etcd run; there is no container, no key
        and no program that a test started.
        """
        for host in self.hosts:
            if not host.is_up:
                host.open()
            host.heal()
            member = self._member_on(host)
            host.place.end_all_but([host.engine.process, member.process if member else None])
            self._revive(host, member)
        self.switch.end_all_but([])
        self.etcd.start()
        for host in self.hosts if self._engines else ():
            host.engine.wait_ready()
            host.engine.remove_containers()
        if self.etcd.members:
            self.etcd.ctl("del", "--prefix", "")

    def _revive(self, host: Host, member: Member | None) -> None:
        for chain in ("INPUT", "OUTPUT", "FORWARD") if not self._engines else ("INPUT", "OUTPUT", "DOCKER-USER"):
            host.place.run(["iptables", "-w", "-F", chain], check=False)
        host.resolver()
        if self._engines:
            host.engine.revive()
        if member is not None and member.process is not None:
            member.resume()

    def _member_on(self, host: Host) -> Member | None:
        return self.etcd.members[host.number - 1] if host.number <= len(self.etcd.members) else None

    def _bring_up(self, claim: state.Claim) -> None:
        self._say(f"lab: {len(self._names)} hosts, {self._members} etcd members, in {claim.folder}")
        group = cgroup.of_lab(claim.id).create()
        self._env = env = self._environment(claim.folder)
        self.switch = Switch(claim.folder / "switch", group.child("switch"), env)
        self.switch.open()
        self.hosts = [
            Host(number, name, claim.folder / name, group=group.child(name), switch=self.switch, env=env)
            for number, name in enumerate(self._names, start=1)
        ]
        for host in self.hosts:
            host.open()
        self.etcd = self._make_etcd(claim.folder)
        if self._engines:
            for host in self.hosts:
                host.engine.start(wait=False)
        self.etcd.start()
        if self._engines:
            self._load_images()
        claim.write(self._facts(claim))

    def _environment(self, folder: Path) -> dict[str, str]:
        kept = {name: value for name, value in self.tools.env().items() if not name.startswith(NOT_PASSED_ON)}
        env = {**kept, "DOCKER_CONFIG": str(folder / "docker-config"), "PYTHONUNBUFFERED": "1", **self._more_env}
        return {**env, "LAB_IPTABLES": working_iptables(env)}

    def _make_etcd(self, folder: Path) -> Etcd:
        servers = self.hosts[: self._members]
        cluster = ",".join(f"etcd{host.number}=http://{host.address}:{PEER_PORT}" for host in servers)
        members = [
            Member(host.number, host.place, host.address, folder / host.name / "etcd", cluster) for host in servers
        ]
        return Etcd(members, self.switch)

    def _load_images(self) -> None:
        packed = image.archive(self.tools.find("busybox"))

        def load(host: Host) -> None:
            host.engine.wait_ready()
            host.engine.load_images(packed)

        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(load, self.hosts))

    def _reap(self, claim: state.Claim) -> None:
        """End everything; the hosts' own objects then collect their children."""
        cgroup.of_lab(claim.id).kill()
        for host in getattr(self, "hosts", []):
            host.place.close()
        if hasattr(self, "switch"):
            self.switch.close()

    def _facts(self, claim: state.Claim) -> state.LabFacts:
        hosts = tuple(
            state.HostFacts(host.name, host.address, host.address6, str(host.docker_socket), host.place.holder,
                            host.place.holder_started)
            for host in self.hosts
        )  # fmt: skip
        env = {name: self._env[name] for name in ("PATH", "DOCKER_CONFIG", "LAB_IPTABLES")}
        owner = os.getpid()
        return state.LabFacts(claim.id, str(claim.folder), owner, started_at(owner), self.etcd.urls, env, hosts)

    def _held(self) -> state.Claim:
        if self._claim is None:
            raise LabError("the lab is not up")
        return self._claim


def require_root() -> None:
    """Raise unless network namespaces can be made here.

    Raises:
        LabError: with what to do.
    """
    if sys.platform != "linux":
        raise LabError("the lab makes hosts out of Linux network namespaces; this is not Linux")
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and mounts, which takes root: run it with sudo")


def working_iptables(env: Mapping[str, str]) -> str:
    """Which of Debian's two iptables this kernel can do: ``nft`` or ``legacy``.

    Raises:
        LabError: neither.
    """
    said = []
    for kind in ("nft", "legacy"):
        command = ["unshare", "--net", "--", "iptables", "-t", "nat", "-A", "OUTPUT", "-m", "addrtype",
                   "--dst-type", "LOCAL", "-j", "ACCEPT"]  # fmt: skip
        answer = subprocess.run(
            command, env={**env, "LAB_IPTABLES": kind, "XTABLES_LOCKFILE": "/dev/null"}, capture_output=True,
            text=True, check=False, timeout=30,
        )  # fmt: skip
        if answer.returncode == 0:
            return kind
        said.append(f"{kind}: {answer.stderr.strip()}")
    raise LabError(f"no iptables works on this kernel ({'; '.join(said)})")
