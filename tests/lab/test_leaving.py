"""Taking things out of a cluster under load: what `pilotfish drain` says is safe to stop, is."""

from __future__ import annotations

import sys

import pytest

from lab.host import Host
from tests.lab.faults import NAME, PLAIN, Timeline, srv, state
from tests.lab.load import Load
from tests.lab.suite import answers
from tests.parts import checker

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

TTL_S = 5.0  # of endpoints, in the clients' caches
PROXY_S = 60.0  # how long the address of a proxy is held to be cached


def pilotfish(standing, host: Host, *arguments: str, code: int = 0) -> str:
    """Run the command line on a host; what it printed."""
    command = [sys.executable, "-m", "pilotfish", *arguments, "--etcd", standing.lab.etcd.urls]
    done = host.run(command, check=False, within_s=150)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def servers(host: Host) -> int:
    """How many servers a host's proxy has for the page."""
    return sum(len(route["servers"]) for route in state(host, "confgen")["routes"] if route["host"] == NAME)


async def test_what_is_drained_can_be_stopped(standing, tmp_path):
    """A drained container is killed with SIGKILL, a drained host leaves DNS with its proxy: no request fails."""
    first, _, third = standing.hosts
    line = Timeline("drain")
    async with Load(standing, tmp_path) as load:
        line.mark("container drained")
        said = pilotfish(standing, first, "drain", "estest3", "--timeout", "60s")
        line.mark("safe")
        assert "is out: it is safe to stop it" in said
        assert line.between("container drained", "safe") >= TTL_S
        assert [servers(host) for host in standing.hosts] == [2, 2, 2]
        assert all(third.address not in {ip for ip, _ in srv(host, PLAIN)} for host in standing.hosts)
        third.docker(["kill", "--signal", "KILL", "estest3"])
        await load.flow()
        third.docker(["start", "estest3"])
        line.mark("killed and started")
        pilotfish(standing, first, "undrain", "estest3")
        line.mark("undrained")
        standing.converged()
        await load.flow()

        line.mark("host drained")
        said = pilotfish(standing, first, "drain", third.name, "--timeout", "120s")
        line.mark("host safe")
        assert line.between("host drained", "host safe") >= PROXY_S
        others = [host.address for host in standing.hosts[:2]]
        assert [answers(host, NAME) for host in standing.hosts] == [others] * 3
        assert [servers(host) for host in standing.hosts] == [2, 2, 2]
        pilotfish(standing, first, "drain", standing.hosts[1].name, "--no-wait")
        said = pilotfish(standing, first, "drain", first.name, "--no-wait", code=1)
        assert "nothing would be left of estest" in said
        for host in (standing.hosts[1], third):
            pilotfish(standing, first, "undrain", host.name)
        line.mark("hosts undrained")
        standing.converged()
        await load.flow()
    verdict = load.requests()
    line.note(f"requests: {checker.text(verdict)}")
    line.show()
    assert verdict.bad == 0, checker.text(verdict)
    assert verdict.good > 1000
