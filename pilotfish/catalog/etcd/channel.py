"""Which etcd endpoint to talk to: one gRPC channel each, and proof that it answers before anything is asked of it.

An endpoint is trusted after its Status call came back with a leader; a failure takes the trust away. So a write does
not go out to a member that is known to be gone, and a member cut off from its majority is left alone. Endpoints are
tried in the order given, the next one after a short wait, and the first that answers is kept until it fails.
Connections are given up quickly, so that a partition that has healed is found out within two seconds. Where none comes
about, patient ones are tried beside them: to a server whose every packet takes seconds, a quick one never would.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import msgspec

from pilotfish.catalog.etcd.certificate import complaint
from pilotfish.catalog.etcd.errors import EtcdError, from_rpc
from pilotfish.catalog.etcd.messages import METHODS, Message

Metadata = tuple[tuple[str, str], ...]

DEFAULT_PORT = 2379
PROBE_TIMEOUT_S = 2.0  # a handshake over TLS between two sites takes well under one second
STAGGER_S = 0.3  # wait before the next endpoint is tried beside this one
CONNECT_S = 1.0  # for a connection with its first frame; a lost SYN is sent again after as long
PATIENT_CONNECT_S = 10.0  # the same, and the proof after it, for a server that is very slow
# Refuse at once when the member has no leader, instead of waiting for an election that cannot end (rpctypes/md.go).
REQUIRE_LEADER: Metadata = (("hasleader", "true"),)
OPTIONS: Mapping[str, int] = {
    "grpc.keepalive_time_ms": 10_000,  # etcd closes connections that ping every 5 s; 10 s is quiet
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,  # without it a frozen server is noticed after a minute
    "grpc.http2.max_pings_without_data": 0,
    "grpc.max_receive_message_length": -1,  # a catch-up is larger than the 4 MiB of the default
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,  # the default of two minutes would outlast every outage
    "grpc.enable_http_proxy": 0,  # etcd is never behind the proxy of http_proxy
    "grpc.service_config_disable_resolution": 1,  # no TXT look-ups beside the address
    "grpc.use_local_subchannel_pool": 1,  # two clients in one process do not share their failures
}


class Endpoint(msgspec.Struct, frozen=True):
    """One address of etcd.

    Attributes:
        name: as it was given, for messages.
        target: for gRPC: "ipv4:10.0.0.1:2379", "ipv6:[::1]:2379", "dns:///etcd1:2379".
        secure: speak TLS.
    """

    name: str
    target: str
    secure: bool


class Tls(msgspec.Struct, frozen=True):
    """Paths of PEM files: CAs to believe (empty: the system's), our certificate and its key (empty: none)."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Status(msgspec.Struct, frozen=True):
    """What an endpoint said of itself. `version`: (3, 4, 23); (0,) when unknown."""

    cluster: int
    version: tuple[int, ...]


def parse_endpoint(text: str, *, secure: bool = False) -> Endpoint:
    """Read an endpoint as people write it.

    >>> parse_endpoint("http://[::1]:2379").target
    'ipv6:[::1]:2379'

    Args:
        text: "http://host:2379", "https://host", "host:2379", "[::1]".
        secure: whether one without a scheme means TLS.

    Raises:
        ValueError: not an address; the message names it and shows a right one.
    """
    shown = repr(text.rpartition("@")[2])  # what stands before an @ may be a password
    try:
        url = urlsplit(text if "://" in text else f"//{text}", scheme="https" if secure else "http")
        host, port = url.hostname, url.port or DEFAULT_PORT
    except ValueError:
        raise ValueError(f"etcd endpoint {shown} is not an address; write it as http://HOST:{DEFAULT_PORT}") from None
    if "@" in text:
        raise ValueError(
            f"etcd endpoint {shown}: user and password have settings of their own; write http://HOST:{DEFAULT_PORT}"
        )
    if not host or url.scheme not in {"http", "https"} or url.path.strip("/") or url.query:
        raise ValueError(f"etcd endpoint {shown} is not an address; write it as http://HOST:{DEFAULT_PORT}")
    return Endpoint(name=f"{url.scheme}://{url.netloc}", target=_target(host, port), secure=url.scheme == "https")


def _target(host: str, port: int) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"dns:///{host}:{port}"
    return f"ipv4:{host}:{port}" if address.version == 4 else f"ipv6:[{host}]:{port}"


class Link:
    """The channel to one endpoint, and whether it is trusted: `status` is None until it has proved to answer.

    Args:
        endpoint: where to.
        tls: for one that speaks TLS.
        patient: let a connection take PATIENT_CONNECT_S.
    """

    def __init__(self, endpoint: Endpoint, tls: Tls, *, patient: bool = False) -> None:
        self.endpoint = endpoint
        self.patient = patient
        self.status: Status | None = None
        self._tls = tls
        self._pems = _pems(endpoint, tls)
        self._channel = self._open()
        self._old: list[grpc.aio.Channel] = []
        self._unary: dict[str, Callable[..., grpc.aio.UnaryUnaryCall[Message, Message]]] = {}

    async def call(self, name: str, request: Message, metadata: Metadata, timeout_s: float) -> Message:
        """One request, one reply. Raises EtcdError."""
        method = METHODS[name]
        if name not in self._unary:
            self._unary[name] = self._channel.unary_unary(
                method.path, method.request.SerializeToString, method.response.FromString
            )
        try:
            return await self._unary[name](request, timeout=timeout_s, metadata=REQUIRE_LEADER + metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.endpoint.name) from None
        except grpc.aio.UsageError as error:
            raise EtcdError("CANCELLED", str(error), self.endpoint.name) from None
        except asyncio.CancelledError:
            # gRPC says the same for a channel that was closed under the call as for a task that was cancelled.
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise EtcdError("CANCELLED", "the client was closed", self.endpoint.name) from None

    def stream(
        self, name: str, metadata: Metadata, timeout_s: float | None = None
    ) -> grpc.aio.StreamStreamCall[Message, Message]:
        """Open a call with streams both ways; the caller cancels it."""
        method = METHODS[name]
        opened = self._channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)
        try:
            return opened(timeout=timeout_s, metadata=REQUIRE_LEADER + metadata)
        except grpc.aio.UsageError as error:
            raise EtcdError("CANCELLED", str(error), self.endpoint.name) from None

    async def prove(self, metadata: Metadata) -> Status:
        """Ask for the status, with new certificates if they changed on disk. Raises EtcdError when it is no use."""
        self._renew_certificates()
        try:
            within_s = PATIENT_CONNECT_S if self.patient else PROBE_TIMEOUT_S
            reply = await self.call("status", METHODS["status"].request(), metadata, within_s)
        except EtcdError as error:
            if error.broken:
                raise self._explained(error) from None
            # It answers, if only to say that this user may not ask.
            self.status = Status(0, (0,))
            return self.status
        if not reply.leader or reply.isLearner:
            why = "is a learner" if reply.isLearner else "has no leader"
            raise EtcdError("UNAVAILABLE", f"the member {why}", self.endpoint.name)
        self.status = Status(reply.header.cluster_id, _version(reply.version))
        return self.status

    async def close(self) -> None:
        """End every call and connection."""
        for channel in (self._channel, *self._old):
            await channel.close()

    # The old channel lives on for the streams on it; certificates change a few times a year.
    def _renew_certificates(self) -> None:
        pems = _pems(self.endpoint, self._tls)
        if pems != self._pems:
            self._old.append(self._channel)
            self._pems = pems
            self._channel = self._open()
            self._unary.clear()

    # Neither gRPC nor etcd says whose certificate has expired: ours tell it themselves.
    def _explained(self, error: EtcdError) -> EtcdError:
        now, found = datetime.now(UTC), []
        for path, pem in ((self._tls.ca, self._pems[0]), (self._tls.cert, self._pems[2])):
            if path and pem:
                found.append(complaint(path, pem, now, one_is_enough=path == self._tls.ca))
        why = "; ".join(filter(None, [error.reason, *found]))
        return EtcdError(error.code, why, error.endpoint)

    def _open(self) -> grpc.aio.Channel:
        return _channel(self.endpoint, self._pems, PATIENT_CONNECT_S if self.patient else CONNECT_S)


class Ring:
    """All endpoints, of which one is in use.

    Args:
        endpoints: in order of preference; at least one.
        tls: for those that speak TLS.

    Raises:
        OSError: a certificate file cannot be read.
    """

    def __init__(self, endpoints: Sequence[Endpoint], tls: Tls) -> None:
        self._tls = tls
        self._links = [Link(endpoint, tls) for endpoint in endpoints]
        self._patient: dict[asyncio.Task[Status], Link] = {}  # tried beside them, over several searches
        self._search = asyncio.Lock()

    async def ready(self, metadata: Metadata = ()) -> Link:
        """A link that has proved to answer.

        Raises:
            EtcdError: UNAVAILABLE, with the reason for each endpoint.
        """
        if self._links[0].status is None:
            async with self._search:
                if self._links[0].status is None:
                    await self._prefer(await self._find(metadata))
        return self._links[0]

    def doubt(self, link: Link) -> None:
        """It failed: prove it again before its next use, and try the others first."""
        link.status = None
        if link is self._links[0] and not self._search.locked():
            self._links.append(self._links.pop(0))

    async def close(self) -> None:
        """Close every link."""
        await self._end_patience()
        for link in self._links:
            await link.close()

    async def _prefer(self, link: Link) -> None:
        same = next(one for one in self._links if one.endpoint == link.endpoint)
        self._links.remove(same)
        self._links.insert(0, link)
        if same is not link:
            await same.close()
        await self._end_patience(keeping=link)

    async def _end_patience(self, keeping: Link | None = None) -> None:
        tried, self._patient = self._patient, {}
        await _cancelled(tried)
        for link in tried.values():
            if link is not keeping:
                await link.close()

    # Nobody answers: be patient beside the next searches, and quick in them.
    async def _begin_patience(self, metadata: Metadata) -> None:
        for probe, link in list(self._patient.items()):
            if probe.done() and probe.exception() is not None:
                del self._patient[probe]
                await link.close()
        waited_for = {link.endpoint for link in self._patient.values()}
        for at, link in enumerate(self._links):
            with contextlib.suppress(OSError):  # a certificate file is away: the quick one's reason says so
                if link.patient:
                    self._links[at] = Link(link.endpoint, self._tls)
                    await link.close()
                if link.endpoint not in waited_for:
                    twin = Link(link.endpoint, self._tls, patient=True)
                    self._patient[asyncio.create_task(twin.prove(metadata))] = twin

    async def _find(self, metadata: Metadata) -> Link:
        probes: dict[asyncio.Task[Status], Link] = {}
        try:
            for link in self._links:
                probes[asyncio.create_task(link.prove(metadata))] = link
                last = link is self._links[-1]
                found = await _first(probes, self._patient, timeout_s=PROBE_TIMEOUT_S * 2 if last else STAGGER_S)
                if found:
                    return found
            await self._begin_patience(metadata)
            raise EtcdError("UNAVAILABLE", _reasons(probes), ",".join(link.endpoint.name for link in self._links))
        finally:
            await _cancelled(probes)


async def _cancelled(probes: Iterable[asyncio.Task[Status]]) -> None:
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)


# The first that succeeds within the time; None when all probes failed, or none has succeeded yet. Those beside them are
# not waited for.
async def _first(
    probes: Mapping[asyncio.Task[Status], Link], beside: Mapping[asyncio.Task[Status], Link], *, timeout_s: float
) -> Link | None:
    everyone = {**probes, **beside}
    while True:
        for probe, link in everyone.items():
            if probe.done() and probe.exception() is None:
                return link
        if all(probe.done() for probe in probes):
            return None
        waiting = {probe for probe in everyone if not probe.done()}
        done, _ = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return None


def _reasons(probes: Mapping[asyncio.Task[Status], Link]) -> str:
    errors = {link.endpoint.name: probe.exception() for probe, link in probes.items() if probe.done()}
    texts = {name: error.reason if isinstance(error, EtcdError) else str(error) for name, error in errors.items()}
    return "; ".join(texts.values() if len(texts) == 1 else (f"{name}: {text}" for name, text in texts.items()))


def _version(text: str) -> tuple[int, ...]:
    parts = text.partition("-")[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else (0,)


def _pems(endpoint: Endpoint, tls: Tls) -> tuple[bytes | None, bytes | None, bytes | None]:
    if not endpoint.secure:
        return None, None, None
    # Without a CA, gRPC would believe a list of its own, not the one that the host's administrator keeps.
    authorities = tls.ca or ssl.get_default_verify_paths().cafile
    ca, key, cert = (Path(path).read_bytes() if path else None for path in (authorities, tls.key, tls.cert))
    return ca, key, cert


def _channel(
    endpoint: Endpoint, pems: tuple[bytes | None, bytes | None, bytes | None], connect_s: float
) -> grpc.aio.Channel:
    # What gRPC calls the least time between two attempts is the time that one may take.
    options = (*OPTIONS.items(), ("grpc.min_reconnect_backoff_ms", round(connect_s * 1000)))
    if endpoint.secure:
        return grpc.aio.secure_channel(endpoint.target, grpc.ssl_channel_credentials(*pems), options)
    return grpc.aio.insecure_channel(endpoint.target, options)
