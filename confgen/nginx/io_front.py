"""What stands in front of the services besides http: looks after certificates, and says what changed.

The folder of certificates is looked at every few seconds: a look costs a stat a file, and works on every file system.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import Gauge

from confgen.io_thread import in_thread
from confgen.nginx import io_certs, io_ports, tls
from confgen.nginx.features import LEAST, Features
from confgen.nginx.front import PLAIN, Front, only_adds
from confgen.nginx.layout import Machine
from confgen.nginx.quote import file as file_token
from confgen.nginx.shapes import Level
from confgen.nginx.stream_shapes import Around, Facts, Socket
from confgen.nginx.streams import assemble
from confgen.nginx.view import Views
from confgen.settings import ConfgenSettings
from pilotfish.catalog.telemetry import Telemetry

LOOK_S = 2.0  # between two looks at the folder, and at ports that are taken
INNER = "inner"  # folder of sockets between nginx and itself


class FrontCare:
    """Knows the certificates, the ports that can be had, and what nginx can do.

    Args:
        settings: of the config generator.
        telemetry: log, metrics, clock.
        master: process id of nginx at this moment, 0 when it does not run; None: nobody runs it here.
    """

    def __init__(self, settings: ConfgenSettings, telemetry: Telemetry, master: Callable[[], int] | None) -> None:
        self._settings, self._telemetry, self._master = settings, telemetry, master
        self._folder = io_certs.Folder(Path(settings.certs).absolute()) if settings.certs else None
        self._scan = io_certs.Scan({}, {})
        self._machine: Machine
        self._inner = Path(settings.nginx_dir).absolute() / INNER
        self.features: Features = LEAST
        self.certificates = tls.NOT_TOLD
        self._front = PLAIN
        self._served = PLAIN
        self._tried: frozenset[Socket] = frozenset()  # those that can be had
        self._taken: dict[Socket, str] = {}
        self._stays_inner = False  # https is behind the streams; to go back would cost who is just coming in
        self.https_port = 0  # where https is served now; 0: it is not: no certificate, and no stream by name
        self.alpn: tuple[str, ...] = ()  # what is spoken there besides http/1.1
        self._metrics = FrontMetrics(telemetry)

    async def open(self, current: Path, machine: Machine) -> None:
        """Give nginx's workers the folder of inner sockets, and read all certificates.

        Args:
            current: the configuration that a former process left.
            machine: what nginx can do, and who its workers are.

        Raises:
            OSError: the folder cannot be given to them.
        """
        self._machine, self.features = machine, machine.can
        if machine.user:  # only they connect to these sockets; whoever else could would say whose address he likes
            shutil.chown(self._inner, machine.user, machine.group)
        able = all(self.features.has(name) for name in ("stream_ssl_preread", "realip")) and not self._why_not_shared()
        self._stays_inner = able and await in_thread(lambda: _is_inner(current))
        if self._folder is not None:
            folder = self._folder
            await in_thread(lambda: folder.inherit(current))
            await self.look(settled_s=0.0)

    async def run(self, changed: Callable[[], None]) -> None:
        """Look at the folder and at taken ports until cancelled; `changed` is called when that brings something."""
        while True:
            await asyncio.sleep(LOOK_S)
            if await self.look() or self._has_more_ports():
                changed()

    def _has_more_ports(self) -> bool:
        free = [one for one in self._taken if not self._problem(one)]
        for one in free:
            del self._taken[one]
        return bool(free)

    async def look(self, *, settled_s: float = io_certs.SETTLED_S) -> bool:
        """Look at the folder once; True when something else is to be served."""
        if self._folder is None:
            return False
        folder, before, now = self._folder, self._scan, self._telemetry.now()
        self._scan = await in_thread(lambda: folder.look(now, settled_s=settled_s))
        for name, problem in self._scan.problems.items():
            if before.problems.get(name) != problem:
                self._telemetry.log.warning("certificate %s: %s", ascii(name), problem)
        self._metrics.show(self._scan)
        certificates = tls.Certificates(
            [one.certificate for one in self._scan.pairs.values()], now, self.features.why_not("http_ssl")
        )
        if certificates == self.certificates and before.pairs == self._scan.pairs:
            return False
        self.certificates = certificates
        return True

    def settle(self, views: Views) -> frozenset[str]:
        """Bring views in step with certificates and ports; returns the services whose view changed."""
        changed = views.renew(self.certificates) | views.face(self._facts())
        new = views.streams.sockets - self._tried
        problems = {one: why for one in new if (why := self._problem(one))}
        self._tried = views.streams.sockets - problems.keys()
        if problems:
            self._taken |= problems
            for why in problems.values():
                self._telemetry.log.warning("a stream is left out: %s", why)
            changed |= views.face(self._facts())
        return changed

    def _problem(self, wanted: Socket) -> str:
        ours = self._serves_https and wanted == Socket("tcp", self._settings.https_port)
        if self._master is None or ours:
            return ""
        return io_ports.problem(wanted, self._master(), ipv6=self._machine.ipv6)

    def _facts(self) -> Facts:
        secure, passes = self._serves_https, self.features.why_not("stream_ssl_preread")
        return Facts(
            missing=self.features.why_not("stream"),
            missing_names=passes or (self.features.why_not("realip") if secure else ""),
            missing_shared=self._why_not_shared() if secure else "",
            missing_guards=self._why_not_guarded(),
            http_ports=frozenset({self._settings.http_port, self._settings.h2c_port}),
            https_port=self._settings.https_port,
            allowed=self._settings.stream_ports,
            taken=dict(self._taken),
        )

    def _why_not_shared(self) -> str:
        """Why no name is passed on at the port of https: what stands behind it would not know the client's address."""
        if self._machine.told:
            return "the port of https belongs to the balancers of --trusted-proxies, which speak HTTP: give PROXY_PORT"
        return self.features.why_not("stream_realip") if self._machine.proxy_protocol else ""

    def _why_not_guarded(self) -> str:
        """Why streams cannot tell clients by their address: they would take all for the balancer, who may be let in."""
        unknown = self.features.why_not("stream_realip") if self._machine.proxy_protocol else ""
        return self.features.why_not("stream_geo") or unknown

    @property
    def _serves_https(self) -> bool:
        return self._folder is not None and self.features.has("http_ssl")

    def front(self, views: Views, out: Mapping[str, Level]) -> Front:
        """What the main file says.

        Args:
            views: of all services.
            out: services in quarantine: they have no streams.
        """
        all_sites = (site for view in views.services.values() for site in view.sites) if self._serves_https else ()
        sites = [site for site in all_sites if site.certificate]
        hosts = frozenset(host.text for site in sites for host in site.hosts) if self._serves_https else None
        port, machine = self._settings.https_port, self._machine
        around = Around(
            https_port=port,
            https_hosts=hosts,
            folder=str(self._inner),
            ipv6=machine.ipv6,
            proxy_protocol=machine.proxy_protocol,
            trusted=self._trusted,
            inner=self._stays_inner,
            hosts=views.hosts if views.streams.views else frozenset(),
            reserved=machine.reserved,
        )
        stream = assemble({name: view for name, view in views.streams.views.items() if name not in out}, around)
        self._stays_inner |= stream is not None and stream.inner is not None
        loads = [self.features.load(name) for name in ("stream",) if stream is not None]
        secure, files = None, {}
        if self._serves_https:
            inner = stream.https_socket.text if stream and stream.inner else ""
            secure = tls.secure(port, ipv6=machine.ipv6, http2=self.features.http2, inner=inner)
            loaded = {name: (one.chain, one.key) for name, one in self._scan.pairs.items()}
            used = {site.certificate.name for site in sites if site.certificate}
            files = tls.files(loaded, self.certificates.used(used))
        modules, listens = tuple(file_token(one) for one in loads if one), views.around.extras.listens
        self._front = Front(modules, secure, stream, files, listens)
        return self._front

    def refused(self, message: str) -> bool:
        """A configuration was refused; True when it was for a certificate, which is left out from now on.

        Args:
            message: nginx's own line.
        """
        self._tried = frozenset()  # a port may have been taken since: each is tried again
        stem = tls.blamed(message)
        name = next((one for one in self._scan.pairs if tls.file_stem(one) == stem), None) if stem else None
        if self._folder is None or name is None:
            return False
        self._folder.refuse(name, message)
        return True

    @property
    def _trusted(self) -> tuple[str, ...]:
        """Whose PROXY headers streams believe; without the module that can, their logs name the balancers."""
        believes = self._machine.proxy_protocol and self.features.has("stream_realip")
        return self._machine.trusted if believes else ()

    def only_adds(self, elsewhere: Callable[[str, str, str], bool]) -> bool:
        """True when what `front` gave last takes nothing away from what is served.

        Args:
            elsewhere: whether nginx itself serves another service than this one at a host and path.
        """
        return only_adds(self._served, self._front, elsewhere)

    def accepted(self, files: Mapping[str, bytes]) -> None:
        """A configuration is served now: what `front` gave last, or an older one that an operator went back to.

        Args:
            files: of it.
        """
        self._served = self._front
        port = self._settings.https_port
        secure = any(tls.is_secret(name) for name in files)
        passed = re.search(rb"^ *listen %d (?!udp)" % port, files.get("stream.conf", b""), re.MULTILINE)
        self.https_port = port if secure or passed else 0
        self.alpn = ("h2",) if secure and self.features.http2 != "none" else ()

    def state(self) -> dict[str, object]:
        """What /api/state shows: names and times of certificates, and what is wrong; never a key."""
        return {
            "nginx_version": self.features.shown,
            "certificates": [
                {"name": name, "hosts": list(one.certificate.hosts), "not_after": one.certificate.not_after}
                for name, one in sorted(self._scan.pairs.items())
            ],
            "certificate_problems": dict(sorted(self._scan.problems.items())),
            "streams": [
                {
                    "port": str(one.socket),
                    "host": one.host,
                    "service": service,
                    "servers": servers[one.pool],
                    "allow": guards[one.guard] if one.guard else None,
                }
                for service, view in (self._front.stream.views if self._front.stream else ())
                for servers in [{pool.name: [server.address.text for server in pool.servers] for pool in view.pools}]
                for guards in [{guard.name: [one.text for one in guard.networks] for guard in view.guards}]
                for one in view.behind
            ],
        }


def _is_inner(generation: Path) -> bool:
    try:
        return b"proxy_protocol" in (generation / "https.conf").read_bytes()
    except OSError:  # no https there, or nothing at all
        return False


class FrontMetrics:
    """What is shown of certificates."""

    def __init__(self, telemetry: Telemetry) -> None:
        registry = telemetry.registry
        self._not_after = Gauge(
            "pilotfish_confgen_certificate_not_after_seconds",
            "UNIX time at which a certificate expires",
            ["name"],
            registry=registry,
        )
        self._problems = Gauge(
            "pilotfish_confgen_certificate_problems",
            "Certificates that are not served, or not as they lie in the folder",
            registry=registry,
        )
        self._shown: set[str] = set()

    def show(self, scan: io_certs.Scan) -> None:
        """Bring the gauges up to date."""
        for name in self._shown - scan.pairs.keys():
            self._not_after.remove(name)
        for name, one in scan.pairs.items():
            self._not_after.labels(name).set(one.certificate.not_after)
        self._shown = set(scan.pairs)
        self._problems.set(len(scan.problems))
