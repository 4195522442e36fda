"""confd, where it is on PATH: the file of a whole estate, rendered anew when one of its keys changes.

It reads a file of keys, the quickest of its sources: nothing goes over a network. Each change is one run of it, since
it overlooks changes of a file that it watches; that it starts first costs some milliseconds. The template is the one
that people use with it for nginx: an upstream and a server block for every service.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

from bench.estate import DOMAIN, Estate, container, service_name
from bench.parts import Folder

RESOURCE = """\
[template]
src = "nginx.tmpl"
dest = "{dest}"
keys = ["/proxy"]
"""
TEMPLATE = """\
{{range $name := lsdir "/proxy/http"}}upstream host-{{$name}} {
{{range getvs (printf "/proxy/http/%s/*" $name)}}    server {{.}};
{{end}}}
server {
    listen 80;
    server_name {{$name}}.DOMAIN;
    location / {
        proxy_pass http://host-{{$name}}/;
    }
}
{{end}}""".replace("DOMAIN", DOMAIN)
WITHIN_S = 60.0


class Confd:
    """One confd over one file of keys.

    Args:
        place: where it runs.
        estate: whose services it renders.
    """

    def __init__(self, place: Folder, estate: Estate) -> None:
        self._estate, folder = estate, place.path / f"confd-{estate.endpoints}"
        self._keys, self._dest = folder / "keys.json", folder / "nginx.conf"
        (folder / "conf.d").mkdir(parents=True)
        (folder / "templates").mkdir()
        (folder / "conf.d/nginx.toml").write_text(RESOURCE.format(dest=self._dest), encoding="utf-8")
        (folder / "templates/nginx.tmpl").write_text(TEMPLATE, encoding="utf-8")
        self._services = {
            service_name(service): {str(one): self._address(service, one) for one in range(estate.each)}
            for service in estate.numbers
        }
        self._command = ["confd", "-onetime", "-backend", "file", "-file", str(self._keys), "-confdir", str(folder)]
        self._env = place.tools.env()

    def change(self, number: int) -> float:
        """Another port for one endpoint; returns the seconds until the file says so."""
        service, port = number * 7 % self._estate.services, 61_000 + number
        self._services[service_name(service)]["0"] = f"10.77.0.1:{port}"
        self._keys.write_text(json.dumps({"proxy": {"http": self._services}}), encoding="utf-8")  # JSON is YAML
        begun = time.perf_counter()
        subprocess.run(self._command, env=self._env, check=True, capture_output=True, timeout=WITHIN_S)
        took = time.perf_counter() - begun
        if f":{port};".encode() not in self._dest.read_bytes():
            raise RuntimeError(f"confd did not render {port}")
        return took

    def _address(self, service: int, one: int) -> str:
        address = container(self._estate, service, one).endpoints[0].addresses[0]
        return f"{address.ip}:{address.port}"


def program() -> Path | None:
    """Where it is; None when it is not on PATH."""
    found = shutil.which("confd")
    return Path(found) if found else None
