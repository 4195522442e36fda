"""`make run`: the suite on the local Docker engine, or, where none answers, on a throwaway one with sample containers.

ONCE=1 fetches one page by its name and ends; otherwise everything stays up until Ctrl-C.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from lab.debian import PackagesUnavailable
from lab.host import Host
from lab.lab import Lab
from lab.process import Process
from lab.tools import ToolMissing
from lab.waiting import LabError, wait_until

ENGINE_TIMEOUT_S = 2.0
READY_WITHIN_S = 60
NAME = "hello.svc.internal"
IMAGE = "pilotfish-lab/app:1"


def main() -> int:
    """Returns the exit code: 0 done, 1 failed, 3 neither an engine nor the rights to start one."""
    once = os.environ.get("ONCE") == "1"
    engine = local_engine()
    if engine:
        return on_local_engine(engine, once=once)
    print("No Docker engine answers on this machine: starting a throwaway one, in a network namespace of its own.")
    if sys.platform != "linux" or os.geteuid() != 0:
        print("pilotfish: that needs root on Linux; start Docker, or run this as root", file=sys.stderr)
        return 3
    try:
        with Lab(hosts=1) as lab:
            return in_lab(lab, once=once)
    except (LabError, ToolMissing, PackagesUnavailable) as error:
        print(f"pilotfish: {error}", file=sys.stderr)
        return 1


def local_engine() -> str:
    """The local engine's URL if it answers a ping, else nothing."""
    url = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not url.startswith("unix://"):
        return url
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ENGINE_TIMEOUT_S)
            connection.connect(url.removeprefix("unix://"))
            asking = http.client.HTTPConnection("docker")
            asking.sock = connection
            asking.request("GET", "/_ping")
            return url if asking.getresponse().status == http.HTTPStatus.OK else ""
    except (OSError, http.client.HTTPException):
        return ""


def on_local_engine(engine: str, *, once: bool) -> int:
    """Run `pilotfish up` beside the local engine; with `once`, end it as soon as it is ready."""
    command = [*pilotfish(), "up", "--docker", engine]
    if not once:
        os.execv(command[0], command)  # noqa: S606  becomes the program, so that Ctrl-C and exit code are its own
    with subprocess.Popen(command) as process:
        ready = [*pilotfish(), "health", "--ready"]
        try:
            wait_until(
                lambda: (
                    process.poll() is not None
                    or subprocess.run(ready, check=False, capture_output=True).returncode == 0
                ),
                within_s=READY_WITHIN_S,
                what="pilotfish to be ready",
            )
            return process.returncode or 0
        finally:
            process.terminate()


def pilotfish() -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-m", "pilotfish"]


def in_lab(lab: Lab, *, once: bool) -> int:
    """Run the suite on the lab's first host, start two sample containers, and fetch their page by name."""
    host = lab.hosts[0]
    up = start(host, lab.folder / "up")
    for number in (1, 2):
        tags = ["-e", "SERVICE_NAME=hello", "-e", "SERVICE_9200_PROXY=http"]
        show(f"docker run -d -P --name hello-{number} {' '.join(tags)} {IMAGE}")
        host.docker(["run", "-d", "-P", "--name", f"hello-{number}", *tags, IMAGE])
    try:
        wait_until(lambda: "Try:" in up.text() and page(host) != "", within_s=READY_WITHIN_S, what=f"http://{NAME}/")
    finally:
        print(up.text(), end="", flush=True)
    show(f"getent hosts {NAME}")
    print(host.run(["getent", "hosts", NAME]).stdout, end="")
    for _ in range(2):
        show(f"curl http://{NAME}/")
        print(page(host))
    if once:
        return 0
    print(f"\nThe host is {host.name}. From another terminal, for example:")
    print(f"  {sys.executable} -m lab enter {host.name} curl -s http://{NAME}/")
    print(f"  {sys.executable} -m lab enter {host.name} docker stop hello-1")
    print("Ctrl-C ends everything.", flush=True)
    return until_stopped(up)


def start(host: Host, data: Path) -> Process:
    """Start `pilotfish up` on a host, on the ports that programs expect, and make it the host's resolver."""
    host.resolver("127.0.0.1")
    return host.popen(
        [*pilotfish(), "up", "--data", data, "--listen", "0.0.0.0:53", "--http-port", "80"], name="pilotfish"
    )


def page(host: Host) -> str:
    """The page at NAME as a client on the host gets it; nothing while it cannot be had."""
    return host.run(["curl", "-fsS", "-m", "2", f"http://{NAME}/"], check=False).stdout.strip()


def show(command: str) -> None:
    """Print a command as one would type it."""
    print(f"$ {command}", flush=True)


def until_stopped(up: Process) -> int:
    """Wait for Ctrl-C, or for the end of the suite."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    while not stopped.wait(0.5):
        if not up.alive:
            print(up.text(), file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
