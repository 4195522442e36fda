"""Facts, addresses and names of real containers, as a real engine describes them."""

import json

import pytest

from registrator.explaining.inspect import inspect
from registrator.rules.address import Host
from registrator.rules.container import facts
from registrator.settings import RegistratorSettings

pytestmark = pytest.mark.lab

APP = "pilotfish-lab/app:1"
IP = "10.88.0.1"

# name -> options of `docker run`, then what is registered: service, address, ports (or None where the engine chose).
RUNS = {
    "plain": (["-p", "8001:80", "-e", "SERVICE_NAME=plain"], [("plain", IP, 8001)]),
    "chosen": (["-p", "80", "-e", "SERVICE_NAME=chosen"], [("chosen", IP, None)]),
    "loopback": (["-p", "127.0.0.1:8002:80", "-e", "SERVICE_NAME=loopback"], [("loopback", None, 8002)]),
    "onhost": (
        ["--network", "host", "-e", "SERVICE_8003_NAME=onhost", "-e", "SERVICE_IGNORE=1", "-e", "SERVICE_8003_IGNORE="],
        [("onhost", IP, 8003)],
    ),
    "user": (
        ["--network", "shop", "-p", "8004:80", "-l", "SERVICE_NAME=user", "-l", "com.docker.compose.project=p"],
        [("user", IP, 8004)],
    ),
    "pause": (["-p", "8005:80"], [("app", IP, 8005)]),
    "sharing": (["--network", "container:pause", "-e", "SERVICE_80_NAME=sharing"], [("sharing", IP, 8005)]),
    "both": (
        [
            "-p",
            "8006:80",
            "-p",
            "8006:80/udp",
            "-e",
            "SERVICE_NAME=both",
            "--stop-signal",
            "SIGQUIT",
            "--stop-timeout",
            "3",
        ],
        [("both", IP, 8006), ("both", IP, 8006)],
    ),
    "closed": (["-e", "SERVICE_NAME=closed"], []),
}


@pytest.fixture(scope="module")
def documents(lab1):
    """The inspect documents of all of `RUNS`, by name."""
    host = lab1.hosts[0]
    host.docker(["network", "create", "shop"])
    for name, (options, _) in RUNS.items():
        host.docker(["create", "--name", name, *options, APP])
        host.docker(["start", name])
    listed = json.loads(host.docker(["inspect", *RUNS]).stdout)
    yield {document["Name"][1:]: document for document in listed}
    lab1.reset()


@pytest.mark.parametrize("name", RUNS)
def test_real_container(documents, name):
    """Each way to run a container ends at the address that it is reached at."""
    result = inspect(list(documents.values()), Host("docker01"), RegistratorSettings(ip=(IP,)))
    [container] = [one for one in result["containers"] if one["name"] == name]
    expected = RUNS[name][1]

    found = [(one["service"], one["address"], one["port"]) for one in container["endpoints"]]
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    assert all(want[2] in (None, got[2]) for want, got in zip(expected, found, strict=True))


def test_real_facts(documents):
    """What only a running engine fills in."""
    read = facts(documents["both"])

    assert (read.running, read.paused, read.health, read.exit_code) == (True, False, "none", 0)
    assert (read.stop_signal, read.stop_timeout_s) == (3, 3.0)
    assert read.pid > 1
    assert read.started > 1.7e9
    assert read.networks[0].ipv4.startswith("172.")
    assert read.networks[0].gateways
    assert read.env == (("SERVICE_NAME", "both"),)


def test_real_user_network_comes_first(documents):
    """The network of its mode, with the address that it has there."""
    read = facts(documents["user"])

    assert (read.network_mode, read.networks[0].name) == ("shop", "shop")
    assert read.networks[0].ipv4
